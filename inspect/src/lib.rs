//! What arrives now, and where it goes: an [`Observation`] of each event, as ingest tells it ([`follow`]), what became of
//! those that were accepted ([`Fates`]), and a request that is answered alike ([`curl`]).
//!
//! Nothing here has content: no value of `data`, `attributes` or `device` is in an observation, because ingest puts none
//! into it.

mod fates;
mod filter;
mod follow;
mod node;
mod observation;
mod replay;

pub use fates::{Error, Fate, Fates, History, Rollups};
pub use filter::{BadFilter, Filter};
pub use follow::{Node, Told, Trouble, client, follow};
pub use node::{BadNode, node};
pub use observation::{Durability, Missed, Observation, Outcome};
pub use replay::curl;
