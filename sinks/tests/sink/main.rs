//! The sink on real Kafka, PostgreSQL and ClickHouse.

mod bed;
mod columns;
mod consent;
mod faults;
mod once;
mod poison;
mod proxy;
mod schema;
mod views;
