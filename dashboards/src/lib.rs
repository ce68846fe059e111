//! The read API: what PostgreSQL knows of children, for the product and for their parents.
//!
//! With a key of scope `read` a client sees every child. With a parent's token it sees that parent's children and
//! nothing else: PostgreSQL itself gives no other row to the role `rivulet_parent`, because of row-level security,
//! whatever a query here asks for.

mod answers;
mod api;
mod app;
mod audit;
mod cursor;
mod date_range;
mod described;
mod docs;
mod export;
mod exported;
mod families;
mod feed;
mod folder;
mod inspect;
mod learning;
mod listen;
mod live;
mod metrics;
mod openapi;
mod page;
mod period;
mod problem;
mod reading;
mod role;
mod rows;
mod share;
mod state;
mod streak;
mod topics;
mod update;
mod viewer;

pub use exported::exported_tables;
pub use metrics::METRICS;
pub use openapi::openapi;
pub use role::{Config, Error, serve};
