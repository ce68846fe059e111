//! Why an event was not taken.

use std::borrow::Cow;

/// The stable codes of a rejected event, in the order in which they win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The event's JSON is longer than the limit.
    TooLarge,
    /// No JSON object, nested too deep, or a key given twice.
    InvalidJson,
    /// Sound, or something that looks like it.
    RawAudioForbidden,
    /// `type` is none of the four.
    UnknownType,
    /// A required field is absent.
    MissingField,
    /// A field breaks its rule.
    InvalidField,
    /// The registry does not know the child.
    UnknownChild,
    /// The child or its parent was deleted.
    ChildDeleted,
    /// A consent that this event needs is not granted.
    ConsentRequired,
    /// Older than the accept window.
    TooOld,
    /// Ahead of the server's clock.
    InFuture,
}

impl Code {
    /// Every code.
    pub const ALL: &[Self] = &[
        Self::TooLarge,
        Self::InvalidJson,
        Self::RawAudioForbidden,
        Self::UnknownType,
        Self::MissingField,
        Self::InvalidField,
        Self::UnknownChild,
        Self::ChildDeleted,
        Self::ConsentRequired,
        Self::TooOld,
        Self::InFuture,
    ];

    /// The code on the wire and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::InvalidJson => "invalid_json",
            Self::RawAudioForbidden => "raw_audio_forbidden",
            Self::UnknownType => "unknown_type",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::UnknownChild => "unknown_child",
            Self::ChildDeleted => "child_deleted",
            Self::ConsentRequired => "consent_required",
            Self::TooOld => "too_old",
            Self::InFuture => "in_future",
        }
    }
}

/// A refused event: sending it again will never succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The stable code.
    pub code: Code,
    /// JSON pointer (RFC 6901) into the event, where one field is to blame.
    pub pointer: Option<Cow<'static, str>>,
    /// What is wrong and what to do. Never quotes a value of the event.
    pub message: Cow<'static, str>,
}

impl Rejection {
    /// A rejection of the event as a whole.
    #[must_use]
    pub fn whole(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            pointer: None,
            message: message.into(),
        }
    }

    /// A rejection that one field is to blame for.
    #[must_use]
    pub fn at(
        code: Code,
        pointer: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            pointer: Some(pointer.into()),
            message: message.into(),
        }
    }
}
