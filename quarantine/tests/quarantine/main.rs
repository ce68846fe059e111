//! Quarantine on a real PostgreSQL and a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod breaker;
mod records;
