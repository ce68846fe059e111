//! The contract as types: events, validation, local day, the Kafka record. No I/O, no clock.
//!
//! Bytes come in as a request body ([`batch`]), each element becomes an [`Event`] or a
//! [`Rejection`] ([`mod@event`]), is admitted by what the registry says of the child
//! ([`admission`]), gets its time, day and identity ([`place`]) and leaves as a
//! [`Record`] ([`record`]), the one thing the consumers ever see.

pub mod admission;
pub mod data;
pub mod ids;
pub mod record;
pub mod rejection;

pub use admission::Registration;
pub use data::{Data, EventType, Interaction, InteractionAction, Message, Role, Session, SessionAction, Speech};
pub use ids::{ChildId, Identity, ParentId};
pub use record::{AttributeValue, DecodeError, Device, Record};
pub use rejection::{Code, Rejection};
