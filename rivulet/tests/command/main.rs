//! The command, and what is written down of it: settings, metrics, alerts, the composition. Only `tls`, `logins` and
//! `export` need services.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod alerts;
mod audit;
mod compose;
mod dependencies;
mod export;
mod keys;
mod logins;
mod memory;
mod tail;
mod tls;
