//! How long what is kept: the file `retention.toml`, the judgement on it, and what is made of it for people.
//!
//! Nothing here has I/O or a clock. The stores are brought to the file, compared with it and cleaned by it where their
//! code is: the schemas' TTLs and the table `retention_periods` in `migrations`, topics in `kafka`, rollups in
//! `aggregator`, dead letters in `quarantine`, the registry and erasures in `erasure`.

mod class;
mod drift;
mod judge;
mod notice;
mod period;
mod policy;

pub use class::Class;
pub use drift::Drift;
pub use notice::{html, markdown, table};
pub use period::Period;
pub use policy::{Error, Inactive, InactiveThen, OnRevoke, Policy, Rule};

/// Days that an event's id may lie before its arrival when it is accepted.
pub const ACCEPT_WINDOW_DAYS: u32 = rivulet_events::ids::OLDEST_ID_DAY as u32;
