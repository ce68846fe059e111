//! A store that is not as the file says.

use std::fmt;

use crate::Class;

/// A store does otherwise than the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What of the file.
    pub what: String,
    /// The store, and what of it.
    pub store: String,
    /// As the file says.
    pub file: String,
    /// As the store has it.
    pub stored: String,
    /// The command that brings the store to the file.
    pub mend: &'static str,
}

impl Drift {
    /// A store keeps a class for another time than the file says, which is in days.
    #[must_use]
    pub fn of(class: Class, store: String, file: u32, stored: String, mend: &'static str) -> Self {
        let days = if file == 1 { "day" } else { "days" };
        Self {
            what: format!("retention of {}", class.as_str()),
            store,
            file: format!("{file} {days}"),
            stored,
            mend,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            store,
            file,
            stored,
            mend,
        } = self;
        write!(
            f,
            "{what}: the file says {file}, {store} has {stored}. `{mend}` brings it to the file \
             (`rivulet retention plan` shows before what would go); or RIVULET_RETENTION names another file"
        )
    }
}
