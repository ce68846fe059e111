//! The ledger: one line of JSON for each event and what became of it, enough to recount every
//! table from it.
//!
//! It holds the events as sent, ids and texts included. It is for made-up families only.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use rivulet_zones::Zone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::family::{Consents, Family};

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Who a family is. Comes before its events.
    Family(Registered),
    /// An event, or a copy of one.
    Event(Sent),
}

/// A family as it stands in the registry, or does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The parent.
    pub parent_id: Uuid,
    /// IANA zone.
    pub timezone: Zone,
    /// What was granted.
    pub consents: Consents,
    /// `false`: the registry was never told of it.
    pub registered: bool,
    /// Its children with their age groups.
    pub children: Vec<(Uuid, String)>,
}

/// An event with all attempts to send it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The event's JSON, byte for byte as sent.
    pub event: String,
    /// The code that it must be refused with, where it was broken on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
    /// In the order made; at least one.
    pub attempts: Vec<Attempt>,
}

/// One attempt. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// This machine's clock when the request began.
    pub began_at: i64,
    /// This machine's clock when the answer, or its absence, was known.
    pub ended_at: i64,
    /// The device's clock, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<i64>,
    /// The server's clock, as answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<i64>,
    /// What was answered.
    pub outcome: Outcome,
    /// Why: a rejection's code, or the status of a request refused as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Durable.
    Accepted,
    /// Never to be sent again.
    Rejected,
    /// Not stored as far as the server knew, which a broker that failed to answer may belie.
    Retry,
    /// The connection ended before the answer: stored or not.
    Unknown,
}

impl From<&Family> for Registered {
    fn from(family: &Family) -> Self {
        Self {
            parent_id: family.parent_id,
            timezone: family.timezone,
            consents: family.consents,
            registered: family.registered,
            children: family
                .children
                .iter()
                .map(|child| (child.id, child.age_group.to_owned()))
                .collect(),
        }
    }
}

/// Appends lines to a file.
pub(crate) struct Writer(BufWriter<File>);

impl Writer {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        File::create(path).map(|file| Self(BufWriter::new(file)))
    }

    pub(crate) fn write(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The lines of a ledger, one at a time.
///
/// # Errors
/// The file cannot be opened; or, at a line, be read or understood.
pub fn read(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
    let lines = BufReader::new(File::open(path)?).lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}
