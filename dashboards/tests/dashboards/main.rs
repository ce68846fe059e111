//! What people look at: the read API and its live streams on a real PostgreSQL, the files that are part of the
//! program, and Grafana's boards.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so"
)]

mod api;
mod audit;
mod boards;
mod bounds;
mod common;
mod differences;
mod export;
mod files;
mod inspect;
mod live;
mod openapi;
