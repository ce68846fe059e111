//! Consent as it travels with an event: under which version it was taken, and whether the history may have it.

use std::{fmt, num::NonZeroU8, str};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::record::Record;

/// Names the text that a parent agreed to, such as `2026-01`: 1 to 64 ASCII letters, digits or any of `.` `_` `-` `+`
/// `:` `/`. It names a text, not a family.
///
/// It is held in place: it travels with every event, and costs no allocation there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConsentVersion {
    length: NonZeroU8,
    /// Zero after `length`.
    bytes: [u8; Self::MAX],
}

impl ConsentVersion {
    /// Its longest, in characters: long enough for the SHA-256 of a text.
    pub const MAX: usize = 64;

    /// What a version must be, in words.
    pub const RULE: &str = "must be 1 to 64 letters, digits or any of . _ - + : / (ASCII)";

    /// This version; `None` where it breaks the rule.
    #[must_use]
    pub fn new(version: &str) -> Option<Self> {
        let length = NonZeroU8::new(u8::try_from(version.len()).ok()?)?;
        let mut bytes = [0; Self::MAX];
        bytes
            .get_mut(..version.len())?
            .copy_from_slice(version.as_bytes());
        version
            .bytes()
            .all(Self::allows)
            .then_some(Self { length, bytes })
    }

    const fn allows(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b':' | b'/')
    }

    /// As it was declared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..usize::from(self.length.get())];
        // `new` lets nothing but ASCII in.
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for ConsentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Serialize for ConsentVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ConsentVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ConsentVersion;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the version of a consent")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConsentVersion, E> {
                ConsentVersion::new(text).ok_or_else(|| E::custom("a consent's version is none"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A record that the consent `analytics` lets into the history. Nothing else is encoded for ClickHouse, and only
/// [`Consented::check`] makes one:
///
/// ```
/// use rivulet_events::{Consented, Record};
///
/// fn to_history<'r, 'a>(record: &'r Record<'a>) -> Option<Consented<'r, 'a>> {
///     Consented::check(record)
/// }
/// ```
///
/// ```compile_fail
/// use rivulet_events::{Consented, Record};
///
/// fn to_history<'r, 'a>(record: &'r Record<'a>) -> Option<Consented<'r, 'a>> {
///     Some(Consented(record))
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Consented<'r, 'a>(&'r Record<'a>);

impl<'r, 'a> Consented<'r, 'a> {
    /// `None`: the record is withheld from the history.
    #[must_use]
    pub fn check(record: &'r Record<'a>) -> Option<Self> {
        record.analytics.then_some(Self(record))
    }

    /// The record.
    #[must_use]
    pub const fn record(self) -> &'r Record<'a> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_short_and_plain() {
        let longest = "a".repeat(ConsentVersion::MAX);
        for good in ["1", "2026-01", "v2.1_de+x", "https://x/y:7", &longest] {
            assert_eq!(ConsentVersion::new(good).unwrap().as_str(), good);
        }
        let longer = "a".repeat(ConsentVersion::MAX + 1);
        let longest_by_far = "a".repeat(1_000);
        for bad in [
            "",
            " ",
            "2026 01",
            " 2026",
            "a\nb",
            "a\0",
            "é",
            "a\"",
            &longer,
            &longest_by_far,
        ] {
            assert_eq!(ConsentVersion::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn it_takes_no_more_room_where_there_is_none() {
        assert_eq!(
            size_of::<Option<ConsentVersion>>(),
            size_of::<ConsentVersion>()
        );
    }
}
