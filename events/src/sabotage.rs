//! Tests of the tests: a protection that is taken out must make some test fail.
//!
//! Only with the feature `sabotage`, which no release build takes, does `RIVULET_SABOTAGE` name the one
//! protection that this process goes without. `tests/sabotage` lists them and who must notice. One name is no
//! protection: with `next-version` a process writes records as the next release may.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` takes protections out of the code: it is for tests only");

/// Whether this protection is taken out. Without the feature the compiler sees a plain `false`.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn sabotaged(_protection: &str) -> bool {
    false
}

/// Whether this protection is taken out.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn sabotaged(protection: &str) -> bool {
    use std::{env, sync::LazyLock};

    static NAME: LazyLock<Option<String>> = LazyLock::new(|| env::var("RIVULET_SABOTAGE").ok());
    NAME.as_deref() == Some(protection)
}
