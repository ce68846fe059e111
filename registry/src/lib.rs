//! Who exists and what they consented to: families, API keys, and the cache ingest asks.
//!
//! [`families`] and [`keys`] write the tables, [`import`] writes many families at once, and a
//! [`Registry`] answers from memory, on every node, what they say.
//!
//! # How a cached answer stays true
//!
//! Triggers send a NOTIFY for each child whose state changes. PostgreSQL delivers them at commit
//! and in commit order, so when a node hears the echo of a ping of its own, it has heard of
//! every change that was committed before that ping was sent: all that it holds is *confirmed* up
//! to then. Pings go out twice a second. An answer is given from memory while it was confirmed
//! less than [`FRESH`] ago; otherwise PostgreSQL is read, and only when that fails may an answer
//! be older, up to [`CacheConfig::max_stale`]. What a lost connection may have swallowed does not
//! matter: entries read before it was lost are confirmed no further than it was.
//!
//! A refusal never rests on memory: who would refuse on a [`Known::Cached`] answer asks
//! [`Registry::read`] first. That is why "no such child" is not cached at all: it could never be
//! used. Concurrent reads are put together into one query, so asking for unknown children at a
//! high rate costs PostgreSQL one query at a time, not one a request.

mod cache;
pub mod consents;
pub mod declarations;
mod entries;
pub mod families;
mod fixed;
mod import;
mod json;
pub mod keys;
mod limits;
mod listen;
mod metrics;
pub mod revocations;
mod shared;
pub mod tombstones;

pub use cache::{CacheConfig, FRESH, Registry};
pub use fixed::BadLine;
pub use import::{ImportError, Imported, import};
pub use json::{Unreadable, object};
pub use listen::CHILDREN_CHANNEL;
pub use metrics::METRICS;
pub use shared::{Known, Unavailable};
