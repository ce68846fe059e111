//! The contract on its events: parsed, made into records and checked. No service is needed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so"
)]

mod batch;
mod checking;
mod event_time;
mod free_text;
mod fuzz;
mod parsing;
mod rates;
mod reference;
mod versions;
