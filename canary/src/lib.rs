//! Checks whether an event that is sent now arrives. No measurement of a role can tell that: a role that takes nothing
//! in observes no delay.
//!
//! Each round posts one event of every type for a child of its own, over HTTP and with an API key as apps
//! do, and waits until the rollups in PostgreSQL count all of them and the history in ClickHouse has them.

mod batch;
mod metrics;
mod round;

use rivulet_events::{ChildId, ParentId};
use uuid::Uuid;

pub use metrics::METRICS;
pub use round::{CHECK, Canary, Failure, Round};

/// The family of the canary, the same everywhere: boards and ready-made views leave it out by its ids,
/// which are custom UUIDs (version 8 of RFC 9562), as no app makes them.
pub const PARENT: ParentId =
    ParentId::new(Uuid::from_u128(0xca9a_0000_0000_8000_8000_0000_0000_0001));
/// Its only child.
pub const CHILD: ChildId = ChildId::new(Uuid::from_u128(0xca9a_0000_0000_8000_8000_0000_0000_0002));
