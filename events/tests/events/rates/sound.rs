//! Sound, and what might be taken for it.

use serde_json::{Value, json};

use super::made::{Corpus, Dice, Plant, Sample};

fn base64(dice: &mut Dice, bytes: usize, alphabet: &[u8; 64]) -> String {
    let chars = (0..bytes * 4 / 3).map(|_| char::from(alphabet[dice.below(64) as usize]));
    chars.collect()
}

const PLAIN: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn values(key: &str, count: usize, mut make: impl FnMut() -> Value) -> Vec<Sample> {
    let one = |_| Sample {
        plant: Plant::Sound {
            key: key.to_owned(),
            value: make(),
        },
    };
    (0..count).map(one).collect()
}

pub(super) fn sound() -> Corpus {
    let dice = &mut Dice(4);
    let kinds = vec![
        (
            "data URLs",
            values("clip", 100, || {
                let kind = dice.one(&[
                    "audio/wav",
                    "audio/ogg;codecs=opus",
                    "AUDIO/mpeg",
                    "audio/webm",
                ]);
                let space = dice.one(&["", " ", "\n", "\u{feff}"]);
                json!(format!(
                    "{space}data:{kind};base64,{}",
                    base64(dice, 60, PLAIN)
                ))
            }),
        ),
        (
            "base64 of 400 to 4 000 bytes",
            values("clip", 200, || {
                let bytes = 400 + dice.below(3_600) as usize;
                json!(base64(dice, bytes, PLAIN))
            }),
        ),
        (
            "the same for URLs, and in lines",
            values("clip", 200, || {
                let text = base64(dice, 1_500, FOR_URLS);
                let lines: Vec<_> = text
                    .as_bytes()
                    .chunks(76)
                    .map(String::from_utf8_lossy)
                    .collect();
                json!(lines.join(dice.one(&["\n", "\r\n", " ", ""])))
            }),
        ),
        (
            "keys that name sound",
            [
                "audio",
                "Audio_Data",
                "pcm",
                "wavBytes",
                "waveform",
                "voice-print",
                "recording_url",
                "samples",
                "pcmBase64",
                "AUDIO",
            ]
            .iter()
            .flat_map(|key| values(key, 2, || json!([0.1, 0.2])))
            .collect(),
        ),
    ];
    Corpus {
        should_be_found: true,
        is_judged: true,
        kinds,
    }
}

pub(super) fn sound_beyond() -> Corpus {
    let dice = &mut Dice(5);
    let kinds = vec![
        (
            "numbers under a key that says nothing (an unknown field: dropped, never stored)",
            values("levels", 20, || {
                (0..400).map(|_| json!(dice.below(65_536))).collect()
            }),
        ),
        (
            "hexadecimal",
            values("clip", 20, || json!(dice.filled(&"?".repeat(800)))),
        ),
        (
            "base64 in strings of 256 characters",
            values("clip", 20, || {
                (0..8).map(|_| json!(base64(dice, 192, PLAIN))).collect()
            }),
        ),
    ];
    Corpus {
        should_be_found: true,
        is_judged: false,
        kinds,
    }
}

pub(super) fn silent() -> Corpus {
    let dice = &mut Dice(6);
    let kinds = vec![
        (
            "long texts in 6 languages",
            [
                "Why do the leaves turn red? ",
                "Warum werden die Blätter rot? ",
                "Pourquoi? ",
                "なぜ葉は赤くなるの。",
                "为什么树叶会变红？",
                "Почему? ",
            ]
            .iter()
            .map(|text| Sample {
                plant: Plant::Sound {
                    key: "extra".to_owned(),
                    value: json!(text.repeat(80)),
                },
            })
            .collect(),
        ),
        (
            "tokens (JWT), lists of ids, hashes, stack traces, JSON in a string",
            values("extra", 100, || {
                json!(match dice.below(5) {
                    0 => [
                        base64(dice, 30, FOR_URLS),
                        base64(dice, 500, FOR_URLS),
                        base64(dice, 200, FOR_URLS)
                    ]
                    .join("."),
                    1 => vec![dice.filled("????????-????-4???-a???-????????????"); 20].join(","),
                    2 => vec![dice.filled("????????????????????????????????"); 20].join(" "),
                    3 => "at com.example.App.run(App.java:120)\n".repeat(20),
                    _ => format!("{{\"seen\":[{}]}}", vec!["12"; 300].join(",")),
                })
            }),
        ),
        (
            "pictures in base64, refused like sound: what is in base64 cannot be told",
            values("extra", 10, || json!(base64(dice, 900, PLAIN))),
        ),
    ];
    Corpus {
        should_be_found: false,
        is_judged: true,
        kinds,
    }
}
