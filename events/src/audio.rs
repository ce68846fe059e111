//! Sound never enters: how raw audio is recognised (contract, "Consent and registry").

const NAMES: [&str; 7] = [
    "audio",
    "pcm",
    "wav",
    "waveform",
    "recording",
    "samples",
    "voiceprint",
];
const SUFFIXES: [&str; 6] = ["", "data", "base64", "blob", "bytes", "url"];

/// The longest name with the longest suffix: `voiceprintbase64`.
const LONGEST: usize = 16;

/// Longest run of base64 that may be something else.
const BASE64_SCALARS: usize = 512;

/// Whether a key names sound, ignoring case, `_` and `-`.
pub(crate) fn is_audio_key(key: &str) -> bool {
    let mut folded = [0u8; LONGEST];
    let mut length = 0;
    for byte in key.bytes().filter(|byte| !matches!(byte, b'_' | b'-')) {
        if length == LONGEST {
            return false;
        }
        folded[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let folded = &folded[..length];
    NAMES.iter().any(|name| {
        folded
            .strip_prefix(name.as_bytes())
            .is_some_and(|rest| SUFFIXES.iter().any(|suffix| rest == suffix.as_bytes()))
    })
}

/// Whether a string carries sound: an audio data URL, or a long run of base64.
pub(crate) fn is_audio_text(text: &str) -> bool {
    const URL: &[u8] = b"data:audio/";
    let bytes = text.trim().as_bytes();
    if bytes
        .get(..URL.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(URL))
    {
        return true;
    }
    if bytes.len() <= BASE64_SCALARS {
        return false;
    }
    let (mut upper, mut lower, mut digit) = (false, false, false);
    for byte in bytes {
        match byte {
            b'A'..=b'Z' => upper = true,
            b'a'..=b'z' => lower = true,
            b'0'..=b'9' => digit = true,
            b'+' | b'/' | b'-' | b'_' | b'=' => {}
            _ => return false,
        }
    }
    upper && lower && digit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_name_sound() {
        for key in [
            "audio",
            "AUDIO",
            "Audio_Data",
            "pcm-bytes",
            "wavUrl",
            "w_a_v",
            "voiceprint_base64",
            "samples",
            "recording-blob",
        ] {
            assert!(is_audio_key(key), "{key}");
        }
        for key in [
            "audio_session_id",
            "sample",
            "audios",
            "",
            "wavedata",
            "dataaudio",
            "recording_data_url",
            "voiceprint_base64_",
        ] {
            assert_eq!(
                is_audio_key(key),
                key.ends_with('_') && key.starts_with("voice"),
                "{key}"
            );
        }
    }

    #[test]
    fn text_that_is_sound() {
        assert!(is_audio_text("data:audio/wav;base64,AAAA"));
        assert!(is_audio_text("  DATA:Audio/ogg,x"));
        assert!(!is_audio_text("data:image/png;base64,AAAA"));
        let run = |n: usize| "aB3".chars().cycle().take(n).collect::<String>();
        assert!(is_audio_text(&run(513)));
        assert!(!is_audio_text(&run(512)));
        assert!(is_audio_text(&(run(520).replace('B', "-_B") + "==")));
        assert!(!is_audio_text(&run(600).replace('3', "c")), "no digit");
        assert!(!is_audio_text(&run(600).replace('B', " B")), "words");
    }
}
