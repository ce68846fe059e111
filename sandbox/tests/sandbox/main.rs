//! The sandbox: one of the test's own, and a test's corner of the one that runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod life;
mod testbed;
