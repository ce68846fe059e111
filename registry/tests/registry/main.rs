//! The registry on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod cache;
mod common;
mod consents;
mod families;
mod revocations;
