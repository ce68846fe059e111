//! One module a subcommand.

#![allow(
    clippy::print_stdout,
    reason = "a command's answer goes to standard output"
)]

pub(crate) mod audit;
pub(crate) mod canary;
pub(crate) mod check_config;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod quarantine;
pub(crate) mod rebuild;
pub(crate) mod registry;
pub(crate) mod retention;
pub(crate) mod roles;
pub(crate) mod simulate;
pub(crate) mod tail;
pub(crate) mod topics;
pub(crate) mod trace;
pub(crate) mod verify;
