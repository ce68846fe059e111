//! What is written: one doing, or several of the same kind.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    acting::{recorded, who},
    hash, hex,
};

/// Subjects in one row; more make more rows.
pub(crate) const SUBJECTS: usize = 500;

/// Characters of a text among the details.
const LONGEST: usize = 200;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As the table has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

actions! {
    /// Looked at what is stored of children or families; `details.kinds` says at what.
    Read = "read",
    /// Took a copy of all that is stored.
    Export = "export",
    /// Requested an erasure.
    Erase = "erase",
    /// Erased what was stored on a consent that was withdrawn; `details.consent` says on which.
    ConsentErased = "consent.erased",
    /// Ended the wait of erasures for a spill.
    EraseWithoutSpill = "erase.without_spill",
    /// Put quarantined records into their topic again.
    QuarantineReplay = "quarantine.replay",
    /// Deleted quarantined records.
    QuarantineDrop = "quarantine.drop",
    /// Let stopped consumers go on.
    QuarantineResume = "quarantine.resume",
    /// Set positions to a log as it is now.
    TopicsAdopt = "topics.adopt",
    /// Put a recount in the place of rollups.
    Rebuild = "rebuild",
    /// Made an API key.
    KeysCreate = "keys.create",
    /// Gave an API key other limits.
    KeysLimit = "keys.limit",
    /// Revoked an API key.
    KeysRevoke = "keys.revoke",
    /// Made a token.
    TokensMake = "tokens.make",
    /// Registered or changed a parent, with the consents.
    PutParent = "registry.put_parent",
    /// Registered or changed a child.
    PutChild = "registry.put_child",
    /// Marked a parent deleted.
    DeleteParent = "registry.delete_parent",
    /// Marked a child deleted.
    DeleteChild = "registry.delete_child",
    /// Registered or changed families from a file.
    Import = "registry.import",
    /// Deleted what its retention ended; for whoever enforces it.
    Retention = "retention",
    /// A request below /v1/admin that has no name here.
    Admin = "admin",
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused: who asked may not, or what was asked for cannot be.
    Refused,
    /// It failed; whether it was done is not known.
    Failed,
}

impl Outcome {
    /// As the table has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Who did it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody with the API key of this SHA-256. The table gets its name.
    Key([u8; 32]),
    /// Somebody with a token whose subject has this hash.
    Token([u8; 32]),
    /// A user of the operating system.
    User(String),
    /// Somebody without a good credential.
    Unknown,
}

impl Actor {
    /// Somebody with a token for this subject.
    #[must_use]
    pub fn token(subject: Uuid) -> Self {
        Self::Token(hash(subject))
    }
}

/// Of which kind, and no more.
impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key",
            Self::Token(_) => "Token",
            Self::User(_) => "User",
            Self::Unknown => "Unknown",
        })
    }
}

/// Whom it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// `child` or `parent`.
    pub kind: &'static str,
    /// The hash of the id.
    pub hash: [u8; 32],
}

impl Subject {
    /// A child.
    #[must_use]
    pub fn child(id: Uuid) -> Self {
        Self {
            kind: "child",
            hash: hash(id),
        }
    }

    /// A parent, or the family.
    #[must_use]
    pub fn parent(id: Uuid) -> Self {
        Self {
            kind: "parent",
            hash: hash(id),
        }
    }
}

/// A row to be written. Without more it is one doing, of whoever acts now, about nobody.
#[derive(Clone, Debug)]
pub struct Entry {
    action: Action,
    outcome: Outcome,
    pub(crate) actor: Option<Actor>,
    pub(crate) request_id: Option<String>,
    subject_kind: Option<&'static str>,
    pub(crate) subjects: Vec<String>,
    pub(crate) times: u64,
    pub(crate) between: Option<(DateTime<Utc>, DateTime<Utc>)>,
    details: Map<String, Value>,
}

impl Entry {
    /// Something that was done.
    #[must_use]
    pub fn done(action: Action) -> Self {
        Self::of(action, Outcome::Done)
    }

    pub(crate) fn of(action: Action, outcome: Outcome) -> Self {
        Self {
            action,
            outcome,
            actor: None,
            request_id: None,
            subject_kind: None,
            subjects: Vec::new(),
            times: 1,
            between: None,
            details: Map::new(),
        }
    }

    /// About this child.
    #[must_use]
    pub fn child(self, id: Uuid) -> Self {
        self.children([id])
    }

    /// About these children.
    #[must_use]
    pub fn children(self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.about("child", ids.into_iter().map(|id| hex(&hash(id))))
    }

    /// About this parent, or the family.
    #[must_use]
    pub fn parent(self, id: Uuid) -> Self {
        self.parents([id])
    }

    /// About these parents.
    #[must_use]
    pub fn parents(self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.about("parent", ids.into_iter().map(|id| hex(&hash(id))))
    }

    /// About things of this kind with these names, none of which may hold the id of a child or a parent.
    #[must_use]
    pub fn about(
        mut self,
        kind: &'static str,
        subjects: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.subject_kind = Some(kind);
        self.subjects = subjects.into_iter().map(Into::into).collect();
        self
    }

    /// With this detail: a number, a word that the product chose, never an id of a child or a parent.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        let mut value = value.into();
        if let Value::String(text) = &mut value {
            let end = text.char_indices().nth(LONGEST);
            text.truncate(end.map_or(text.len(), |(end, _)| end));
        }
        self.details.insert(name.to_owned(), value);
        self
    }

    /// The rows that it becomes, for `json_to_recordset`.
    fn rows(&self, who: &(Actor, Option<String>)) -> Vec<Value> {
        let actor = self.actor.as_ref().unwrap_or(&who.0);
        let request_id = match self.actor {
            Some(_) => self.request_id.as_deref(),
            None => who.1.as_deref(),
        };
        let (actor_kind, actor, key) = match actor {
            Actor::Key(sha256) => ("key", None, Some(hex(sha256))),
            Actor::Token(subject) => ("token", Some(hex(subject)), None),
            Actor::User(name) => ("user", Some(name.clone()), None),
            Actor::Unknown => ("unknown", None, None),
        };
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let row = |subjects: &[String], times: u64| {
            json!({
                "action": self.action.as_str(),
                "outcome": self.outcome.as_str(),
                "actor_kind": actor_kind,
                "actor": actor,
                "key": key,
                "subject_kind": self.subject_kind,
                "subjects": subjects,
                "times": times,
                "first_at": self.between.map(|(first, _)| time(first)),
                "last_at": self.between.map(|(_, last)| time(last)),
                "request_id": request_id,
                "details": self.details,
            })
        };
        if self.subjects.len() <= SUBJECTS {
            return vec![row(&self.subjects, self.times)];
        }
        // The times are told once, by the first.
        let chunks = self.subjects.chunks(SUBJECTS).enumerate();
        chunks
            .map(|(place, some)| row(some, if place == 0 { self.times } else { 1 }))
            .collect()
    }
}

/// Writes an entry in the transaction that does what it tells: it is in the log when that commits, and only then.
/// Who waits to append meanwhile waits for the commit alone, so it does not matter when this is called.
///
/// # Errors
/// PostgreSQL did not take it; the transaction must not be committed.
pub async fn record(conn: &mut PgConnection, entry: Entry) -> Result<(), sqlx::Error> {
    record_all(conn, &[entry]).await
}

/// The same in a transaction of its own, for what is no change of PostgreSQL.
///
/// # Errors
/// PostgreSQL did not take it: what the entry tells should not happen.
pub async fn record_now(pool: &PgPool, entry: Entry) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    record(&mut transaction, entry).await?;
    transaction.commit().await
}

pub(crate) async fn record_all(
    conn: &mut PgConnection,
    entries: &[Entry],
) -> Result<(), sqlx::Error> {
    let who = who();
    let rows: Vec<Value> = entries.iter().flat_map(|entry| entry.rows(&who)).collect();
    sqlx::query(
        "INSERT INTO public.audit_intake
             (action, outcome, actor_kind, actor, subject_kind, subjects, times, first_at, last_at, request_id, details)
         SELECT action, outcome, actor_kind,
                CASE WHEN key IS NULL THEN actor
                     ELSE coalesce((SELECT name FROM public.api_keys WHERE sha256 = decode(key, 'hex')),
                                   'sha256:' || left(key, 16)) END,
                subject_kind, subjects, times,
                coalesce(first_at, clock_timestamp()), coalesce(last_at, clock_timestamp()), request_id, details
         FROM json_to_recordset($1::json) AS rows (
             action text, outcome text, actor_kind text, actor text, key text, subject_kind text, subjects text[],
             times bigint, first_at timestamptz, last_at timestamptz, request_id text, details json)",
    )
    .bind(Value::Array(rows).to_string())
    .execute(conn)
    .await?;
    recorded();
    Ok(())
}
