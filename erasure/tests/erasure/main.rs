//! Erasures, withdrawn consents and what has grown too old, on the real stores.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod aged;
mod bed;
mod erased;
mod revoked;
