//! All that is held of a child, or of each child of a family, as one zip: docs/export.md is the reader's page.
//!
//! Nothing is collected: rows go from the stores through the compression to the reader, so the memory that an export
//! takes does not depend on how long a history is. The same data gives the same bytes.

mod archive;
mod csv;
mod fields;
mod history;
mod metrics;
mod pace;
mod page;
mod rollups;
mod row_binary;
mod run;

use std::io;

use sqlx::PgPool;
use uuid::Uuid;

pub use fields::{Field, Kind, Tables};
pub use metrics::{METRICS, refused};
pub use pace::{Body, Pace};
pub use run::Export;

/// Where what is exported is.
#[derive(Clone)]
pub struct Stores {
    /// The rollups and consents.
    pub pool: PgPool,
    /// The history; its database is the client's.
    pub history: clickhouse::Client,
}

/// Who is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A child: its files.
    Child(Uuid),
    /// A family: a folder for each child.
    Parent(Uuid),
}

/// Why there is no export, or no whole one. No text of it quotes a row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody of this id is registered, or the child is not the viewer's.
    #[error("nobody of this id is registered, or it was deleted or erased")]
    Unknown,
    /// A family without children.
    #[error("the family has no children, so nothing is held that an export could have")]
    NoChildren,
    /// PostgreSQL does not answer, or refuses.
    #[error("PostgreSQL could not be read: {0}")]
    Postgres(#[from] sqlx::Error),
    /// ClickHouse does not answer, or refuses: its code where it gave one. Its text may quote rows.
    #[error("ClickHouse could not be read ({})", code(.0))]
    ClickHouse(#[from] clickhouse::error::Error),
    /// ClickHouse answered with something that is no row of the columns that it named.
    #[error("ClickHouse answered what cannot be read")]
    Malformed,
    /// An erasure or the retention took events away, or the child moved, while it was exported.
    #[error("what is held of the child changed while it was exported; export it again")]
    Changed,
    /// The reader was too slow, or is gone.
    #[error("the reader went away or was too slow")]
    Reader,
    /// It took longer than an export may.
    #[error("the export took longer than it may")]
    TooLong,
    /// The archive could not be written.
    #[error("the archive could not be written: {0}")]
    Write(#[from] io::Error),
}

impl Error {
    /// Whose fault it is, as [`METRICS`] count it.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Unknown | Self::NoChildren => "unknown",
            Self::Reader | Self::TooLong => "reader",
            Self::Changed => "changed",
            Self::Postgres(_) | Self::ClickHouse(_) | Self::Malformed => "store",
            Self::Write(_) => "write",
        }
    }
}

/// ClickHouse's code, or what kind of failure there was before it could say one.
fn code(error: &clickhouse::error::Error) -> String {
    use clickhouse::error::Error;
    if let Error::BadResponse(text) = error {
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split('.').next());
        return match code {
            Some(code) => format!("code {code}"),
            None => "a bad answer".to_owned(),
        };
    }
    match error {
        Error::Network(_) => "no connection",
        Error::TimedOut => "no answer in time",
        _ => "a broken answer",
    }
    .to_owned()
}
