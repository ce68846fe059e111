//! What the end to end tests share: a whole Rivulet of real processes on services of its own
//! ([`Rivulet`]), and the comparison of everything that it stored with a simulator's ledger
//! ([`check`]).
//!
//! The tests run the `rivulet` command that lies beside them, so build it first:
//! `cargo build -p rivulet` (`./dev test` does).

pub mod check;
mod kafka;
pub mod languages;
mod npm;
mod rivulet;
mod services;

pub use kafka::{Copy, first_copies, headers, raw_records};
pub use npm::{copy_folder, npm_packages};
pub use rivulet::Rivulet;
pub use rivulet_sandbox::Role;
pub use services::OwnServices;
