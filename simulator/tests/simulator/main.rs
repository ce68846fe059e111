//! The simulator, without a Rivulet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod plan;
mod run;
