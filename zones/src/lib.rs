//! IANA time zones, by the newest rules that this machine has.
//!
//! Governments change the rules a few times a year, at times with a few weeks' notice, and the local day of
//! an event is fixed once, when it arrives. So the rules are no part of the program: [`Rules::load`] takes the
//! newest of the system's zoneinfo, a directory that the operator names and a copy that is bundled, and
//! [`Rules::refresh`] reads them again when they change. Until then, and where there is nothing else, the
//! bundled copy is used.
//!
//! A [`Zone`] is a name. It works as chrono's `TimeZone`, by the rules in force at that moment.

mod directory;
mod release;
mod rules;
mod zone;

pub use release::{Release, Source};
pub use rules::{Error, Rules, in_use};
pub use zone::{Zone, ZoneOffset};
