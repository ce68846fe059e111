//! The sink on real Kafka, PostgreSQL and ClickHouse.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod bed;
mod columns;
mod consent;
mod faults;
mod once;
mod page;
mod poison;
mod proxy;
mod rollup;
mod schema;
mod tools;
mod views;
