//! The aggregator: its pure core, and the whole of it on a real Kafka and a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod common;
mod core;
mod instance;
mod pipeline;
mod quarantine;
mod revoked;
mod slow;
