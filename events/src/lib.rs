//! The contract (docs/contract.md) as types: events, validation, local day, the Kafka record. No I/O, no clock.
//!
//! Bytes come in as a request body ([`batch`]). Each element becomes an [`Event`] or a [`Rejection`] ([`parse`]). What the
//! registry says of the child decides whether the event is taken ([`admission`]). The event becomes a [`Record`] with its
//! event time, local date and identity ([`event_time`]), which is all that the consumers ever see ([`record`]). They
//! take no record that ingest cannot have written. What the parser cannot read of a body is first made readable in
//! place ([`repair`]).

pub mod admission;
mod audio;
pub mod batch;
pub mod bounds;
pub mod changes;
mod check;
mod consent;
pub mod contract;
pub mod data;
pub mod event_time;
mod fields;
pub mod free_text;
pub mod ids;
pub mod parse;
pub mod record;
pub mod rejection;
pub mod repair;
mod rules;
pub mod sabotage;
mod scan;
mod text;

pub use admission::{Admitted, Registration};
pub use consent::{ConsentVersion, Consented};
pub use data::{
    Data, Device, EventType, Interaction, InteractionAction, Message, Role, Session, SessionAction,
    Speech,
};
pub use event_time::Clocks;
pub use ids::{ChildId, Identity, ParentId};
pub use parse::{Envelope, Event, Parsed};
pub use record::{AttributeValue, DecodeError, Record};
pub use rejection::{Code, Rejection};
pub use rules::Implausible;
