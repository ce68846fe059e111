//! Ingest on a real Kafka and a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod accept;
mod audit;
mod common;
mod consents;
mod developers;
mod families;
mod free_text;
mod inputs;
mod kafka;
mod keys;
mod limits;
mod memory;
mod openapi;
mod refuse;
mod spill;
mod tail;
mod tls;
mod tokens;
