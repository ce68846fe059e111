//! Personal data in free text, which no app is asked for and some send all the same: what an app may write freely is
//! looked through, and by policy masked or refused (docs/privacy.md, "Personal data in free text").
//!
//! All of it happens before the event becomes a record, so that no store, spill or quarantine has the value. A mask is a
//! function of the text alone: each copy of an event is masked alike.

mod find;
mod fold;
mod forms;
mod numbers;

use std::borrow::Cow;

use crate::{
    bounds,
    record::AttributeValue,
    rejection::{Code, Rejection},
    sabotage::sabotaged,
    scan::{pointer, warning},
};

use find::{Findings, find};

/// Takes the place of a whole text, of a form field or where masking would make the text too long.
const MASKED: &str = "[masked]";

/// How often a text is looked through again that was masked. One that still holds something is masked as a whole.
const ROUNDS: usize = 4;

/// What is done where free text holds what looks like personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It is counted and stored.
    Allow,
    /// A mark takes its place, the event is taken, and a warning tells its sender.
    #[default]
    Mask,
    /// The event is rejected: `invalid_field`.
    Refuse,
}

impl Policy {
    /// The word in settings and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Mask => "mask",
            Self::Refuse => "refuse",
        }
    }
}

/// Why a text is taken for personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An e-mail address.
    Email,
    /// A telephone number, as people write it.
    Phone,
    /// A web address.
    Url,
    /// Nine digits or more in a row, or the number of a card.
    Digits,
    /// The value of an attribute that is named like a field of a form.
    Field,
}

impl Reason {
    /// Every reason.
    pub const ALL: &[Self] = &[
        Self::Email,
        Self::Phone,
        Self::Url,
        Self::Digits,
        Self::Field,
    ];

    /// The word in metric labels and, after `masked_`, in warnings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Url => "url",
            Self::Digits => "digits",
            Self::Field => "field",
        }
    }

    /// What takes the place of what was found.
    const fn mark(self) -> &'static str {
        match self {
            Self::Email => "[email]",
            Self::Phone => "[phone]",
            Self::Url => "[url]",
            Self::Digits => "[digits]",
            Self::Field => MASKED,
        }
    }

    /// For the message of a rejection.
    const fn told(self) -> &'static str {
        match self {
            Self::Email => "holds an e-mail address",
            Self::Phone => "holds a telephone number",
            Self::Url => "holds a web address",
            Self::Digits => "holds a long run of digits",
            Self::Field => "is named like a field of a form about a person",
        }
    }
}

/// In how many places of one event personal data was found, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u8; Reason::ALL.len()]);

impl Counts {
    /// Places with this reason.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u8 {
        self.0[reason as usize]
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, reason: Reason) {
        let count = &mut self.0[reason as usize];
        *count = count.saturating_add(1);
    }
}

/// Whether a text holds what looks like personal data.
#[must_use]
pub fn is_personal(text: &str) -> bool {
    find(text).is_some()
}

/// Looks through the free text of one event.
pub(crate) struct Guard {
    policy: Policy,
    pub(crate) found: Counts,
    pub(crate) warnings: Vec<String>,
}

impl Guard {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy: if sabotaged("free-text") {
                Policy::Allow
            } else {
                policy
            },
            found: Counts::default(),
            warnings: Vec::new(),
        }
    }

    /// What is kept of a text of at most `max` scalars in a field.
    pub(crate) fn text<'a>(
        &mut self,
        object: &'static str,
        name: &str,
        text: Cow<'a, str>,
        max: usize,
    ) -> Result<Cow<'a, str>, Rejection> {
        let Some(findings) = find(&text) else {
            return Ok(text);
        };
        self.tell(findings.reasons(), object, name)?;
        Ok(match self.policy {
            Policy::Mask => Cow::Owned(findings.masked(&text, max)),
            Policy::Allow | Policy::Refuse => text,
        })
    }

    /// Leaves of the attributes what may be kept. Where two keys become the same, the first is kept.
    pub(crate) fn attributes(
        &mut self,
        attributes: &mut Vec<(Cow<'_, str>, AttributeValue<'_>)>,
    ) -> Result<(), Rejection> {
        const OBJECT: &str = "attributes";
        let mut has_masked_key = false;
        for (key, value) in attributes.iter_mut() {
            let in_key = find(key);
            let masked_key = in_key
                .as_ref()
                .map(|found| found.masked(key, bounds::ATTRIBUTE_KEY));
            let name = masked_key.as_deref().unwrap_or(key);
            if forms::asks_for_a_person(key, value) {
                self.tell([Reason::Field], OBJECT, name)?;
                if self.policy == Policy::Mask {
                    *value = AttributeValue::Text(Cow::Borrowed(MASKED));
                }
            } else if let AttributeValue::Text(text) = value {
                let kept = self.text(OBJECT, name, std::mem::take(text), bounds::ATTRIBUTE_TEXT)?;
                *text = kept;
            }
            if let Some(found) = in_key {
                self.tell(found.reasons(), OBJECT, name)?;
                if self.policy == Policy::Mask
                    && let Some(masked) = masked_key
                {
                    *key = Cow::Owned(masked);
                    has_masked_key = true;
                }
            }
        }
        if has_masked_key {
            let mut kept: Vec<(Cow<'_, str>, AttributeValue<'_>)> =
                Vec::with_capacity(attributes.len());
            for pair in attributes.drain(..) {
                if kept.iter().all(|(earlier, _)| *earlier != pair.0) {
                    kept.push(pair);
                }
            }
            *attributes = kept;
        }
        Ok(())
    }

    /// Counts it, and warns or refuses.
    fn tell(
        &mut self,
        reasons: impl IntoIterator<Item = Reason>,
        object: &'static str,
        name: &str,
    ) -> Result<(), Rejection> {
        for reason in reasons {
            self.found.add(reason);
            match self.policy {
                Policy::Allow => {}
                Policy::Mask => {
                    let code = format_args!("masked_{}", reason.as_str());
                    self.warnings.push(warning(code, object, name));
                }
                Policy::Refuse => {
                    let message =
                        format!("{}; personal data is not taken in free text", reason.told());
                    let at = pointer(&[object, name]);
                    return Err(Rejection::at(Code::InvalidField, at, message));
                }
            }
        }
        Ok(())
    }
}

impl Findings {
    /// Each reason once.
    fn reasons(&self) -> impl Iterator<Item = Reason> + use<> {
        let mut seen = Counts::default();
        for span in self.spans() {
            seen.add(span.reason);
        }
        let reasons = Reason::ALL.iter().copied();
        reasons.filter(move |reason| seen.of(*reason) > 0)
    }

    /// What is kept of the text, in which nothing is found any more: where a number was, what is beside it may look like
    /// something (`www.b5550001234c`). The mark of an address can be longer than the address: a text that would have more
    /// than `max` scalars is masked as a whole.
    fn masked(&self, text: &str, max: usize) -> String {
        let mut masked = self.marked(text);
        for _ in 0..ROUNDS {
            let Some(found) = find(&masked) else {
                return match masked.chars().count() > max {
                    true => MASKED.to_owned(),
                    false => masked,
                };
            };
            masked = found.marked(&masked);
        }
        MASKED.to_owned()
    }

    /// The text with marks in place of what was found.
    fn marked(&self, text: &str) -> String {
        if self.is_all {
            return MASKED.to_owned();
        }
        let mut masked = String::with_capacity(text.len() + 16);
        let mut from = 0;
        for span in self.spans() {
            masked.push_str(&text[from..span.start]);
            masked.push_str(span.reason.mark());
            from = span.end;
        }
        masked.push_str(&text[from..]);
        masked
    }
}
