//! The contract on its events: parsed, placed and checked. No service is needed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so"
)]

mod checking;
mod fuzz;
mod parsing;
mod placing;
mod reference;
mod versions;
