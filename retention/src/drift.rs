//! A store that is not as the file says.

use std::fmt;

use crate::Class;

/// A store keeps a class for another time than the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What is kept.
    pub class: Class,
    /// The store, and what of it.
    pub store: String,
    /// As the file says, days.
    pub file: u32,
    /// As the store has it, in words.
    pub stored: String,
    /// The command that brings the store to the file.
    pub mend: &'static str,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            store,
            file,
            stored,
            mend,
        } = self;
        let days = if *file == 1 { "day" } else { "days" };
        write!(
            f,
            "retention of {}: the file says {file} {days}, {store} has {stored}. `{mend}` brings it to the file \
             (`rivulet retention plan` shows before what would go); or RIVULET_RETENTION names another file",
            class.as_str()
        )
    }
}
