//! A field's rule: its kind and range, and the rejection that names it.

use std::{borrow::Cow, ops::RangeInclusive};

use uuid::Uuid;

use crate::{
    batch::parse_time,
    bounds::{is_language_tag, is_longer},
    free_text::Guard,
    rejection::{Code, Rejection},
    scan::{Value, pointer},
};

/// A field of what a client sent, found or not. `object` is empty for the event itself.
pub(crate) struct SentField<'s, 'a> {
    pub(crate) object: &'static str,
    pub(crate) name: &'s str,
    pub(crate) value: Option<Value<'a>>,
}

type Checked<T> = Result<T, Rejection>;

/// One of a list of words.
pub(crate) trait Word: Copy {
    const WORDS: &[&str];

    fn from_word(word: &str) -> Option<Self>;
}

impl<'a> SentField<'_, 'a> {
    pub(crate) fn missing(&self) -> Rejection {
        self.reject(Code::MissingField, "this field is required")
    }

    pub(crate) fn invalid(&self, rule: impl Into<Cow<'static, str>>) -> Rejection {
        self.reject(Code::InvalidField, rule)
    }

    fn reject(&self, code: Code, message: impl Into<Cow<'static, str>>) -> Rejection {
        let at = match self.object {
            "" => pointer(&[self.name]),
            object => pointer(&[object, self.name]),
        };
        Rejection::at(code, at, message)
    }

    /// Demands a value; the caller has checked that required fields are there, so that all missing
    /// ones are told before any invalid one.
    pub(crate) fn required<T>(&self, value: Option<T>) -> Checked<T> {
        value.ok_or_else(|| self.missing())
    }

    /// A trimmed string; `None` where absent. Blank is kept: the caller knows if it is optional.
    fn trimmed(&mut self) -> Checked<Option<Cow<'a, str>>> {
        let text = match self.value.take() {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Text(text)) => text,
            Some(_) => return Err(self.invalid("must be a string")),
        };
        if text.contains('\0') {
            return Err(self.invalid("must not contain NUL"));
        }
        Ok(Some(trim(text)))
    }

    /// An optional string of at most `max` scalars, without what the guard does not let through.
    pub(crate) fn text(&mut self, max: usize, guard: &mut Guard) -> Checked<Option<Cow<'a, str>>> {
        match self.any_text(max)? {
            Some(text) => guard.text(self.object, self.name, text, max).map(Some),
            None => Ok(None),
        }
    }

    /// An optional string of at most `max` scalars, that nobody has looked through.
    pub(crate) fn any_text(&mut self, max: usize) -> Checked<Option<Cow<'a, str>>> {
        let Some(text) = self.trimmed()?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if is_longer(&text, max) {
            return Err(self.invalid(format!("must be at most {max} characters long")));
        }
        Ok(Some(text))
    }

    /// An optional string of at most `max` bytes.
    pub(crate) fn text_bytes(&mut self, max: usize) -> Checked<Option<Cow<'a, str>>> {
        let Some(text) = self.trimmed()?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if text.len() > max {
            return Err(self.invalid(format!("must be at most {max} bytes long")));
        }
        Ok(Some(text))
    }

    /// One of some words. `required`: a blank is then no word instead of absent.
    pub(crate) fn word<T: Word>(&mut self, required: bool) -> Checked<Option<T>> {
        let Some(text) = self.trimmed()? else {
            return Ok(None);
        };
        if text.is_empty() && !required {
            return Ok(None);
        }
        T::from_word(&text)
            .map(Some)
            .ok_or_else(|| self.invalid(format!("must be one of {}", T::WORDS.join(", "))))
    }

    /// An optional BCP 47 language tag of at most `max` scalars. `en_US`, as Java and POSIX write it, is `en-US`.
    // Its subtags of 8 characters hold nothing that is looked for in free text.
    pub(crate) fn language_tag(&mut self, max: usize) -> Checked<Option<Cow<'a, str>>> {
        let tag = self.any_text(max)?.map(|tag| match tag.contains('_') {
            true => Cow::Owned(tag.replace('_', "-")),
            false => tag,
        });
        match tag {
            Some(tag) if !is_language_tag(&tag) => {
                Err(self.invalid("must be a BCP 47 language tag, such as pt-BR"))
            }
            tag => Ok(tag),
        }
    }

    /// An integer of the range.
    pub(crate) fn int<T: TryFrom<i64>>(
        &mut self,
        range: RangeInclusive<i64>,
    ) -> Checked<Option<T>> {
        match self.value.take() {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Int(value)) if range.contains(&value) => T::try_from(value)
                .map(Some)
                .map_err(|_| self.invalid("out of range")),
            Some(_) => {
                let (min, max) = range.into_inner();
                Err(self.invalid(format!("must be an integer from {min} to {max}")))
            }
        }
    }

    /// A number of the range.
    pub(crate) fn number(&mut self, range: RangeInclusive<f64>) -> Checked<Option<f64>> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "only in-range values are kept, all exact"
        )]
        let value = match self.value.take() {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Int(value)) => value as f64,
            Some(Value::Float(value)) => value,
            Some(_) => f64::NAN,
        };
        if range.contains(&value) {
            Ok(Some(value))
        } else {
            let (min, max) = range.into_inner();
            Err(self.invalid(format!("must be a number from {min} to {max}")))
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self) -> Checked<Option<bool>> {
        match self.value.take() {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.invalid("must be true or false")),
        }
    }

    /// A UUID. `required`: a blank is then no UUID instead of absent.
    pub(crate) fn uuid(&mut self, required: bool) -> Checked<Option<Uuid>> {
        let Some(text) = self.trimmed()? else {
            return Ok(None);
        };
        if text.is_empty() && !required {
            return Ok(None);
        }
        Uuid::try_parse(&text)
            .map(Some)
            .map_err(|_| self.invalid("must be a UUID"))
    }

    /// A time, as Unix milliseconds.
    pub(crate) fn time(&mut self) -> Checked<Option<i64>> {
        let Some(text) = self.trimmed()? else {
            return Ok(None);
        };
        parse_time(&text).map(Some).ok_or_else(|| {
            self.invalid("must be an RFC 3339 time with an offset, such as 2026-05-04T09:30:00Z")
        })
    }
}

/// Without the white space at its ends.
pub(crate) fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => match text.trim() {
            trimmed if trimmed.len() == text.len() => Cow::Owned(text),
            trimmed => Cow::Owned(trimmed.to_owned()),
        },
    }
}
