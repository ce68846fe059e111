//! The client against a server that is scripted, with clocks that stand still.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod answers;
mod clocks;
mod common;
mod consent;
mod fake;
mod queue;
mod sessions;
