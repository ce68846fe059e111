//! A row of the log, and the hash that chains it to the one before.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use sqlx::FromRow;

use crate::hex;

/// A row of the log.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Row {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// What was done.
    pub action: String,
    /// How it ended: `done`, `refused` or `failed`.
    pub outcome: String,
    /// `key`, `token`, `user` or `unknown`.
    pub actor_kind: String,
    /// The key's name, the hash of the token's subject, the user's name.
    pub actor: Option<String>,
    /// What the subjects are.
    pub subject_kind: Option<String>,
    /// Whom it was about: for children and parents the hashes of their ids.
    pub subjects: Vec<String>,
    /// How often.
    pub times: i64,
    /// The first time.
    pub first_at: DateTime<Utc>,
    /// The last time.
    pub last_at: DateTime<Utc>,
    /// The request's id.
    pub request_id: Option<String>,
    /// What else there is to say, as JSON.
    #[serde(serialize_with = "as_json")]
    pub details: String,
    /// PostgreSQL's login that wrote it.
    pub login: String,
    /// The hash of the row before.
    #[serde(serialize_with = "as_hex")]
    pub previous: Vec<u8>,
    /// Its own.
    #[serde(serialize_with = "as_hex")]
    pub hash: Vec<u8>,
}

/// The columns, in a form that [`Row`] reads.
pub(crate) const COLUMNS: &str = "seq, at, action, outcome, actor_kind, actor, subject_kind, subjects, times, first_at, \
     last_at, request_id, details::text AS details, login, previous, hash";

impl Row {
    /// The hash that the row should have. It is computed as `audit_hash` of the migration does it.
    #[must_use]
    pub fn computed_hash(&self) -> [u8; 32] {
        self.hash_as(self.seq)
    }

    /// The same, if its number were this one.
    pub(crate) fn hash_as(&self, seq: i64) -> [u8; 32] {
        let mut text = String::with_capacity(256 + self.subjects.len() * 68);
        let mut field = |value: Option<&str>| push(&mut text, value);
        let micros = |at: DateTime<Utc>| at.timestamp_micros().to_string();
        let mut subjects = String::with_capacity(self.subjects.len() * 68);
        for subject in &self.subjects {
            push(&mut subjects, Some(subject));
        }
        field(Some(&seq.to_string()));
        field(Some(&micros(self.at)));
        field(Some(&self.action));
        field(Some(&self.outcome));
        field(Some(&self.actor_kind));
        field(self.actor.as_deref());
        field(self.subject_kind.as_deref());
        field(Some(&subjects));
        field(Some(&self.times.to_string()));
        field(Some(&micros(self.first_at)));
        field(Some(&micros(self.last_at)));
        field(self.request_id.as_deref());
        field(Some(&self.details));
        field(Some(&self.login));
        let mut hash = Sha256::new();
        hash.update(&self.previous);
        hash.update(text.as_bytes());
        hash.finalize().into()
    }
}

/// Its length in bytes, a colon and the field; `~` for none.
fn push(text: &mut String, field: Option<&str>) {
    use std::fmt::Write as _;
    let _ = match field {
        Some(field) => write!(text, "{}:{field}", field.len()),
        None => write!(text, "~"),
    };
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

fn as_json<S: Serializer>(json: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_str::<&RawValue>(json) {
        Ok(json) => json.serialize(serializer),
        Err(_) => serializer.serialize_str(json),
    }
}
