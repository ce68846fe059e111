//! Who read, changed, exported or erased what of whom: the table `audit_log`.
//!
//! A transaction that does something [`record`]s an [`Entry`]. PostgreSQL appends it to the log when the transaction
//! commits, with the next number and the SHA-256 of the row and of the one before; so the change and its row are there
//! together or not at all. [`Groups`] are for what is frequent, reads and refusals: they are counted in memory and
//! written once a minute. [`verify`] computes the chain again and names what is wrong with it, [`list`] searches.
//!
//! Whose doing it is need not be passed along: it is [`acting`]'s for a request, and the operating system's user for
//! whatever else a process does.

mod acting;
mod entry;
mod groups;
mod keep;
mod list;
mod metrics;
mod row;
mod verify;

pub use acting::{Acting, acting, identify};
pub use entry::{Action, Actor, Entry, Outcome, Subject, record, record_now};
pub use groups::Groups;
pub use keep::{Head, drop_months_before, head, keep};
pub use list::{Filter, list};
pub use metrics::METRICS;
pub use row::Row;
pub use verify::{BadHead, Finding, NotedHead, Verified, verify};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The SHA-256 of the 36 characters of an id, which stands for a child or a parent. It is that of tombstones.
#[must_use]
pub fn hash(id: Uuid) -> [u8; 32] {
    Sha256::digest(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
}

/// The same in hexadecimal, as the table has it.
#[must_use]
pub fn hex_hash(id: Uuid) -> String {
    hex(&hash(id))
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
