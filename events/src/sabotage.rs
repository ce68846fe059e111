//! Tests of the tests: a protection that is taken out must make some test fail.
//!
//! Only with debug assertions, which no release build has, does `RIVULET_SABOTAGE` name the one protection that this
//! process goes without. `tests/sabotage` lists them and who must notice. One name is no protection: with `next-version`
//! a process writes records as the next release may.

/// Whether this protection is taken out. In a release build the compiler sees a plain `false`.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn sabotaged(_protection: &str) -> bool {
    false
}

/// Whether this protection is taken out.
#[cfg(debug_assertions)]
#[must_use]
pub fn sabotaged(protection: &str) -> bool {
    use std::{env, sync::LazyLock};

    static NAME: LazyLock<Option<String>> = LazyLock::new(|| env::var("RIVULET_SABOTAGE").ok());
    NAME.as_deref() == Some(protection)
}
