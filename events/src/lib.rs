//! The contract (docs/contract.md) as types: events, validation, local day, the Kafka record. No I/O, no clock.
//!
//! Bytes come in as a request body ([`batch`]), each element becomes an [`Event`] or a
//! [`Rejection`] ([`parse`]), is admitted by what the registry says of the child
//! ([`admission`]), gets its time, day and identity ([`place`]) and leaves as a
//! [`Record`] ([`record`]), the one thing the consumers ever see. They read no other than
//! ingest can have written. What the parser cannot read of a body is made readable in place first ([`repair`]).

pub mod admission;
mod audio;
pub mod batch;
pub mod bounds;
pub mod changes;
mod check;
pub mod contract;
pub mod data;
mod fields;
pub mod ids;
pub mod parse;
pub mod place;
pub mod record;
pub mod rejection;
pub mod repair;
mod rules;
pub mod sabotage;
mod scan;
mod text;

pub use admission::Registration;
pub use data::{
    Data, Device, EventType, Interaction, InteractionAction, Message, Role, Session, SessionAction,
    Speech,
};
pub use ids::{ChildId, Identity, ParentId};
pub use parse::{Event, Parsed};
pub use place::Clocks;
pub use record::{AttributeValue, DecodeError, Record};
pub use rejection::{Code, Rejection};
pub use rules::Implausible;
