//! What is allowed of `attributes`, whose keys no declaration names, and rules for texts.

/// Keys of `attributes`.
pub const ATTRIBUTES: usize = 16;

/// Unicode scalars of a key.
pub const ATTRIBUTE_KEY: usize = 64;

/// Unicode scalars of a text among the values.
pub const ATTRIBUTE_TEXT: usize = 256;

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
