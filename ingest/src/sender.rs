//! What tells one sender from another.

use std::fmt;

use rivulet_events::ParentId;

/// The SHA-256 of an API key: all that is known of it from here on.
pub(crate) type KeyHash = [u8; 32];

/// What tells one sender from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SenderId {
    /// An API key.
    Key(KeyHash),
    /// A family, with all of its devices and tokens.
    Family(ParentId),
}

/// Of what kind, and no more.
impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key",
            Self::Family(_) => "Family",
        })
    }
}
