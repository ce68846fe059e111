//! Rules of single fields for what comes out of Kafka: the declarations name them, and `check` asks them.

use std::{borrow::Cow, ops::RangeInclusive};

use crate::bounds;

/// A record that says what no ingest lets through. Nothing of what it says is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no ingest lets this through: {field} {problem}")]
pub struct Implausible {
    /// The field to blame, as `data.xp`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

pub(crate) type Checked = Result<(), Implausible>;

pub(crate) const fn wrong(field: &'static str, problem: &'static str) -> Checked {
    Err(Implausible { field, problem })
}

/// A field that is required when another is a certain word, and with `only` is for nothing else.
pub(crate) fn presence(
    field: &'static str,
    is_for_it: bool,
    is_there: bool,
    only: bool,
) -> Checked {
    match (is_for_it, is_there) {
        (true, false) => wrong(field, "is missing"),
        (false, true) if only => wrong(field, "is for another action"),
        _ => Ok(()),
    }
}

pub(crate) fn int<T: TryInto<i64>>(
    field: &'static str,
    value: Option<T>,
    range: RangeInclusive<i64>,
) -> Checked {
    match value.map(TryInto::try_into) {
        Some(Ok(value)) if range.contains(&value) => Ok(()),
        None => Ok(()),
        Some(_) => wrong(field, "is out of its range"),
    }
}

pub(crate) fn number(
    field: &'static str,
    value: Option<f64>,
    range: RangeInclusive<f64>,
) -> Checked {
    match value {
        Some(value) if !range.contains(&value) => wrong(field, "is out of its range"),
        _ => Ok(()),
    }
}

pub(crate) fn text(field: &'static str, text: &Option<Cow<'_, str>>, max: usize) -> Checked {
    match text {
        Some(Cow::Borrowed(text)) if is_plain(text, max) => Ok(()),
        Some(text) => filled(field, text, max),
        None => Ok(()),
    }
}

pub(crate) fn language_tag(field: &'static str, tag: &Option<Cow<'_, str>>, max: usize) -> Checked {
    text(field, tag, max)?;
    match tag {
        Some(tag) if !bounds::is_language_tag(tag) => wrong(field, "is no language tag"),
        _ => Ok(()),
    }
}

/// Whether its length and its first byte are all there is to look at. That holds for a borrowed text: JSON has a NUL
/// only as an escape, and what has escapes is not borrowed.
fn is_plain(text: &str, max: usize) -> bool {
    text.len() <= max
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_graphic())
}

/// A text of `max` scalars at most that is not blank: a blank one is absent.
pub(crate) fn filled(field: &'static str, text: &str, max: usize) -> Checked {
    if text.chars().all(char::is_whitespace) {
        return wrong(field, "is blank");
    }
    bounded(field, text, max)
}

pub(crate) fn bounded(field: &'static str, text: &str, max: usize) -> Checked {
    if bounds::is_longer(text, max) {
        return wrong(field, "is too long");
    }
    // PostgreSQL stores none.
    if text.as_bytes().contains(&0) {
        return wrong(field, "holds a NUL");
    }
    Ok(())
}
