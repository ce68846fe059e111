//! A whole Rivulet of real processes, end to end. The tests of one file may run at the same time, those of two files
//! may not: see `turn`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the report")]

mod adopt;
mod books;
mod canary;
mod clients;
mod erasure;
mod exact;
mod faults;
mod frozen;
mod killed;
mod live;
mod numbers;
mod openapi;
mod operations;
mod outages;
mod page;
mod privacy;
mod quarantine;
mod rebuild;
mod restarts;
mod restored;
mod retention;
mod revoked;
mod sdks;
mod snippets;
mod spill;
mod tail;
mod tracing;
mod turn;
mod upgrade;
mod zones;
