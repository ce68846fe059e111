//! Recognises raw audio, which is never accepted (docs/contract.md, "Raw audio").

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

/// Longest run of base64, without its white space, that may be something else.
const BASE64_SCALARS: usize = 512;

/// Whether a key names sound, ignoring case, `_`, `-` and white space at its ends.
pub(crate) fn is_audio_key(key: &str) -> bool {
    let mut folded = [0u8; LONGEST];
    let mut length = 0;
    for byte in trim(key)
        .bytes()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
    {
        if length == LONGEST {
            return false;
        }
        folded[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let folded = &folded[..length];
    // Every key of every event comes by here: by its first letter alone most are none of these.
    NAMES.iter().map(|name| name.as_bytes()).any(|name| {
        folded.first() == name.first()
            && folded
                .strip_prefix(name)
                .is_some_and(|rest| SUFFIXES.iter().any(|suffix| rest == suffix.as_bytes()))
    })
}

/// Removes white space and byte order marks at both ends. Every key and string comes by here, and most have none, which
/// is seen at a glance.
#[inline]
fn trim(text: &str) -> &str {
    if let [first, .., last] = text.as_bytes()
        && first.is_ascii_graphic()
        && last.is_ascii_graphic()
    {
        return text;
    }
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// Whether a string carries sound: an audio data URL, or a long run of base64, which Android breaks into lines.
pub(crate) fn is_audio_text(text: &str) -> bool {
    const URL: &[u8] = b"data:audio/";
    let text = trim(text);
    let bytes = text.as_bytes();
    if bytes
        .get(..URL.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(URL))
    {
        return true;
    }
    if bytes.len() <= BASE64_SCALARS {
        return false;
    }
    let (mut upper, mut lower, mut digit, mut length) = (false, false, false, 0);
    for c in text.chars() {
        match c {
            'A'..='Z' => upper = true,
            'a'..='z' => lower = true,
            '0'..='9' => digit = true,
            '+' | '/' | '-' | '_' | '=' => {}
            c if c.is_whitespace() => continue,
            _ => return false,
        }
        length += 1;
    }
    length > BASE64_SCALARS && upper && lower && digit
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
            " audio\t",
            "\u{feff}pcm",
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
        assert!(!is_audio_text(&run(600).replace('B', ", B")), "words");
        // Lines of 76, as Android's encoder and MIME break them; other white space.
        for between in ["\n", "\r\n", " ", "\t", "\u{a0}", "\u{2028}"] {
            let lines: Vec<_> = run(513).as_bytes().chunks(76).map(<[u8]>::to_vec).collect();
            let lines: Vec<_> = lines
                .into_iter()
                .map(|l| String::from_utf8(l).unwrap())
                .collect();
            assert!(is_audio_text(&lines.join(between)), "{between:?}");
            assert!(
                !is_audio_text(&run(512).replace('B', &format!("B{between}"))),
                "{between:?}"
            );
        }
        for before in ["\u{feff}", " \u{feff}\n", "\u{a0}\u{feff}\u{feff}"] {
            assert!(
                is_audio_text(&format!("{before}data:audio/wav,x")),
                "{before:?}"
            );
            assert!(
                is_audio_text(&format!("{before}{}", run(513))),
                "{before:?}"
            );
        }
    }
}
