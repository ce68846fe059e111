//! How large a number and how long a text of an event may be (contract, section 1), each said here alone: what
//! ingest takes, and so all that a [record](crate::record) can hold.

use std::ops::RangeInclusive;

type Ints = RangeInclusive<i64>;
type Numbers = RangeInclusive<f64>;

pub(crate) const RESPONSE_TIME_MS: Ints = 0..=3_600_000;
pub(crate) const DURATION_MS: Ints = 0..=14_400_000;
pub(crate) const CONFIDENCE: Numbers = 0.0..=1.0;
/// `difficulty` and `rating`.
pub(crate) const GRADE: Ints = 1..=5;
/// `xp` and `stars`.
pub(crate) const REWARD: Ints = 0..=10_000;

pub(crate) const SEQUENCE: Ints = 1..=i64::MAX;
pub(crate) const SELECTED_CHOICE: Ints = 0..=255;
pub(crate) const DEPTH_LEVEL: Ints = 0..=100;
pub(crate) const TOKENS_USED: Ints = 0..=10_000_000;
pub(crate) const PROCESSING_TIME_MS: Ints = 0..=10_000_000;
/// Bytes of `content`, which is measured and dropped.
pub(crate) const CONTENT_BYTES: usize = 8_192;
/// A content that is not blank has a scalar, and of each no less than a byte.
pub(crate) const CHARS: Ints = 1..=CONTENT_BYTES as i64;
/// Between two words is a byte at least.
pub(crate) const WORDS: Ints = 1..=CONTENT_BYTES as i64 / 2;

pub(crate) const WINDOW_MS: Ints = 1..=3_600_000;
/// Words, vocalisations, turns and utterances of a speech window.
pub(crate) const SPEECH_COUNT: Ints = 0..=100_000;
pub(crate) const SNR_DB: Numbers = -100.0..=200.0;

pub(crate) const ACTIVE_MS: Ints = 0..=600_000;

// Scalars of texts.

/// `subject`, `topic`, `badge` and `filter_reason`.
pub(crate) const LABEL: usize = 100;
pub(crate) const LANGUAGE: usize = 35;
pub(crate) const MODEL_VERSION: usize = 64;
pub(crate) const DEVICE_ID: usize = 64;
pub(crate) const APP_VERSION: usize = 32;
pub(crate) const ATTRIBUTE_KEY: usize = 64;
pub(crate) const ATTRIBUTE_TEXT: usize = 256;

/// Keys of `attributes`.
pub(crate) const ATTRIBUTES: usize = 16;

/// Whether a text has more than `max` scalars. Bytes bound them from above, so they are counted only where
/// there are many.
pub(crate) fn is_longer(text: &str, max: usize) -> bool {
    text.len() > max && text.chars().count() > max
}

/// Well-formed by the shape of BCP 47: subtags of 1 to 8 letters or digits, the first of letters.
pub(crate) fn is_language_tag(tag: &str) -> bool {
    tag.split('-').enumerate().all(|(index, subtag)| {
        (1..=8).contains(&subtag.len())
            && subtag.bytes().all(|b| {
                if index == 0 {
                    b.is_ascii_alphabetic()
                } else {
                    b.is_ascii_alphanumeric()
                }
            })
    })
}
