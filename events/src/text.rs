//! Strings of a record, borrowed from it where they have no escapes. serde does that for a `Cow` of its
//! own accord, but copies the string of an `Option<Cow>` or of a map's key.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// For `#[serde(deserialize_with)]`.
pub(crate) fn option<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    Ok(Option::<Text<'a>>::deserialize(deserializer)?.map(|Text(text)| text))
}

/// Reads a document of which every byte is looked at once to see that it is UTF-8, instead of each
/// string by itself.
pub(crate) fn json<'de, T: Deserialize<'de>>(document: &'de [u8]) -> serde_json::Result<T> {
    let text = std::str::from_utf8(document).map_err(serde::de::Error::custom)?;
    serde_json::from_str(text)
}
