//! The door, by its real clients and by hand. Each test opens a door of its own.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod interface;
mod life;
mod other_clients;
mod rust_client;
mod support;
