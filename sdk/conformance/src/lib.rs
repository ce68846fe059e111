//! Holds an SDK to the contract, in whatever language it is: docs/sdk-conformance.md.
//!
//! [`rules::all`] are one rule of the contract each. [`campaign::run`] is everything at once, at random. Both start the SDK's
//! [driver](driver::Driver) as a process, which they kill as they like, against a [server](server::Server) that cuts,
//! refuses, is silent and lies.

#[macro_use]
mod claim;
pub mod campaign;
mod device;
pub mod driver;
pub mod rules;
pub mod server;
