//! The schemas, the logins and the retention, on real databases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

mod clickhouse_roles;
mod logins;
mod passwords;
mod retention;
mod somebody;
