//! Private PostgreSQL, Kafka and ClickHouse for `./dev` and the tests.
//!
//! Nothing here is system-wide: data, logs, keys and the record of what runs all live in one
//! directory, `.dev/` in the checkout, with links to what was downloaded for all checkouts of a
//! user. [`Sandbox`] starts, repairs and stops what is in it; [`TestBed`] gives a test fresh
//! databases and topics on it; [`tools`] finds what else some tests need.

mod cache;
mod clickhouse;
mod daemon;
mod guide;
mod home;
mod kafka;
mod leftovers;
mod link;
mod logins;
mod ports;
mod postgres;
mod process;
mod program;
mod role;
mod roles;
mod sandbox;
mod service;
mod stack;
mod testbed;
mod tls;
pub mod tools;

pub use link::{Link, Mode};
pub use logins::Logins;
pub use program::sibling;
pub use role::Role;
pub use sandbox::Sandbox;
pub use service::Service;
pub use stack::{ALLOW_EXTERNAL, Stack, named_in_environment, refuse};
pub use testbed::TestBed;
pub use tls::{KAFKA_USER, Tls};
