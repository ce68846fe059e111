//! The HTTP endpoint: batches of events in, durable Kafka records out.
//!
//! A request goes through [`events`](self): its key is checked before its body is read, the body is
//! read and inflated within limits, each event is judged by itself, the registry is asked for all
//! children at once, and the answer is written when Kafka has acknowledged every record. What one
//! request may cost is bounded before it is spent: bytes by [`Config::max_bytes_in_flight`], events
//! and CPU time by the rate limit, connections by their number and by how long each step of them may take,
//! Kafka's queue by its size. Of bytes, of requests at work and of the time for long work no sender has more
//! than leaves room for others. Where the [spill](SpillConfig) is on, records that Kafka does not take are made
//! durable on this node's disk.
//!
//! For the tests of apps, [`serve_in_memory`] judges and answers in the same way without Kafka and PostgreSQL, and
//! keeps nothing.

mod account;
mod admin;
mod answer;
mod audit;
mod auth;
mod body;
mod client_config;
mod clock;
mod config;
mod consent_schema;
mod decoder;
mod described;
mod drain;
mod event_schema;
mod events;
mod forget;
mod inflate;
mod memory;
mod metrics;
mod open_request;
mod openapi;
mod problem;
mod producer;
mod reading;
mod router;
mod sender;
mod server;
mod shares;
mod spill;
mod state;
mod tail;
mod turns;

pub use config::{Config, InvalidConfig};
pub use metrics::METRICS;
pub use openapi::openapi;
pub use server::{Error, serve, serve_in_memory};
pub use spill::SpillConfig;
