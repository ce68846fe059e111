//! The chain computed again, and what is wrong with it.

use std::{num::ParseIntError, str::FromStr};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use crate::{Head, Row, head, hex, row::COLUMNS};

/// Rows that are read at a time.
const CHUNK: i64 = 2_000;
/// Findings that are told; more are counted.
const FINDINGS: usize = 1_000;
/// How far from its place a row is looked for.
const NEAR: i64 = 1_000;
/// For how many rows that is done.
const LOOKED_FOR: u64 = 100;

/// A head of the log that was noted elsewhere: `SEQ:HASH`, with 12 or more hexadecimal digits of the hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedHead {
    seq: i64,
    hash: String,
}

/// Not a noted head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// It has no colon, or too few digits.
    #[error(
        "must be SEQ:HASH with 12 to 64 hexadecimal digits of the hash, as `rivulet audit verify` prints it"
    )]
    Form,
    /// The number is none.
    #[error("the number of the row cannot be read: {0}")]
    Seq(#[from] ParseIntError),
}

impl FromStr for NotedHead {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Self, BadHead> {
        let (seq, hash) = text.split_once(':').ok_or(BadHead::Form)?;
        let is_hex = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(12..=64).contains(&hash.len()) {
            return Err(BadHead::Form);
        }
        Ok(Self {
            seq: seq.parse()?,
            hash: hash.to_ascii_lowercase(),
        })
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `removed`, `changed`, `reordered`, `inserted`, `replaced`, `unchained` or `unprotected`.
    pub what: &'static str,
    /// The row, where it is one.
    pub seq: Option<i64>,
    /// In words.
    pub why: String,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Rows that were computed again.
    pub rows: u64,
    /// The first row's number. Above 1 where older months were dropped.
    pub first: Option<i64>,
    /// When the first row was written.
    pub since: Option<DateTime<Utc>>,
    /// The newest row's number.
    pub head: i64,
    /// The newest row's hash: note it elsewhere.
    pub head_hash: String,
    /// What is wrong, at most 1 000 of them.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, what: &'static str, seq: Option<i64>, why: String) {
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding { what, seq, why });
        } else {
            self.more += 1;
        }
    }
}

/// Computes the chain again, in constant memory, and compares it with heads that were noted elsewhere. Rows that are
/// appended meanwhile are left for the next time.
///
/// # Errors
/// PostgreSQL.
pub async fn verify(pool: &PgPool, noted: &[NotedHead]) -> Result<Verified, sqlx::Error> {
    let head = head(pool).await?;
    let mut chain = Chain::new(&head, noted);
    let mut after = (0, DateTime::<Utc>::UNIX_EPOCH);
    loop {
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM public.audit_log WHERE (seq, at) > ($1, $2) AND seq <= $3 ORDER BY seq, at LIMIT {CHUNK}"
        )))
        .bind(after.0)
        .bind(after.1)
        .bind(head.seq)
        .fetch_all(pool)
        .await?;
        let Some(last) = rows.last() else { break };
        after = (last.seq, last.at);
        for row in rows {
            chain.next(row);
        }
    }
    let mut verified = chain.end(&head);
    // In one statement, so that nobody appends in between.
    let (newest, lowest, now): (i64, i64, i64) = sqlx::query_as(
        "SELECT coalesce((SELECT max(seq) FROM public.audit_log), 0), coalesce((SELECT min(seq) FROM public.audit_log), 1),
                (SELECT seq FROM public.audit_head)",
    )
    .fetch_one(pool)
    .await?;
    if newest > now || lowest < 1 {
        let seq = if newest > now { newest } else { lowest };
        verified.find(
            "inserted",
            Some(seq),
            "its number was never given out".to_owned(),
        );
    }
    unchained(pool, &mut verified).await?;
    unprotected(pool, &mut verified).await?;
    Ok(verified)
}

/// Rows that went around the chain: its trigger was off when they were written.
async fn unchained(pool: &PgPool, verified: &mut Verified) -> Result<(), sqlx::Error> {
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM public.audit_intake")
        .fetch_one(pool)
        .await?;
    if rows > 0 {
        let why = format!(
            "{rows} rows of audit_intake are not in the log: the trigger that appends them was switched off"
        );
        verified.find("unchained", None, why);
    }
    Ok(())
}

/// The triggers that keep the log append-only, each of which must be there and on.
async fn unprotected(pool: &PgPool, verified: &mut Verified) -> Result<(), sqlx::Error> {
    let off: Vec<(String, String)> = sqlx::query_as(
        "WITH guarded AS (
             SELECT oid, relname::text FROM pg_class WHERE relname IN ('audit_log', 'audit_head', 'audit_intake')
                 AND relnamespace = 'public'::regnamespace
             UNION ALL SELECT c.oid, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = 'public.audit_log'::regclass
         ), wanted AS (
             SELECT oid, relname, unnest(CASE relname WHEN 'audit_intake' THEN
                 ARRAY['append', 'only_the_chain', 'nothing_changes', 'nothing_goes']
                 ELSE ARRAY['only_the_chain', 'nothing_changes', 'nothing_goes'] END) AS trigger FROM guarded)
         SELECT relname, trigger FROM wanted WHERE NOT EXISTS (
             SELECT FROM pg_trigger t WHERE t.tgrelid = wanted.oid AND t.tgname = trigger AND t.tgenabled IN ('O', 'A'))
         ORDER BY 1, 2",
    )
    .fetch_all(pool)
    .await?;
    for (table, trigger) in off {
        let why = format!(
            "the trigger {trigger} of {table} is missing or switched off: rows can be changed"
        );
        verified.find("unprotected", None, why);
    }
    Ok(())
}

/// What is known after the rows so far.
struct Chain<'a> {
    verified: Verified,
    noted: Vec<(&'a NotedHead, bool)>,
    /// The hash that came before the first row.
    before_first: Vec<u8>,
    /// The last row, and whether it is as it was written.
    last: Option<(Row, bool)>,
    /// The last row of the last month that was dropped, as the log says.
    dropped_to: Option<(i64, String)>,
    looked_for: u64,
}

impl<'a> Chain<'a> {
    fn new(head: &Head, noted: &'a [NotedHead]) -> Self {
        Self {
            verified: Verified {
                rows: 0,
                first: None,
                since: None,
                head: head.seq,
                head_hash: head.hex(),
                findings: Vec::new(),
                more: 0,
            },
            noted: noted.iter().map(|noted| (noted, false)).collect(),
            before_first: Vec::new(),
            last: None,
            dropped_to: None,
            looked_for: 0,
        }
    }

    fn next(&mut self, row: Row) {
        self.verified.rows += 1;
        let seq = Some(row.seq);
        let is_whole = row.computed_hash()[..] == row.hash[..];
        if !is_whole {
            let (what, why) = self.what_became_of(&row);
            self.verified.find(what, seq, why);
        }
        match &self.last {
            None => {
                self.verified.first = seq;
                self.verified.since = Some(row.at);
                self.before_first.clone_from(&row.previous);
            }
            Some((last, last_is_whole)) => {
                let expected = last.seq + 1;
                if row.seq == last.seq {
                    let why = "there is another row of this number".to_owned();
                    self.verified.find("inserted", seq, why);
                } else if row.seq > expected {
                    let why = match row.seq - 1 {
                        end if end == expected => "it is not there any more".to_owned(),
                        end => format!("the rows {expected} to {end} are not there any more"),
                    };
                    self.verified.find("removed", Some(expected), why);
                } else if row.previous != last.hash && is_whole && *last_is_whole {
                    let why = format!(
                        "row {} follows another one: it, or all from it on, was written anew",
                        row.seq
                    );
                    let seq = Some(last.seq);
                    self.verified.find("replaced", seq, why);
                }
                if row.at < last.at {
                    let why = format!("its time is before that of row {}", last.seq);
                    self.verified.find("reordered", seq, why);
                }
            }
        }
        for (noted, met) in &mut self.noted {
            if noted.seq == row.seq {
                *met = true;
                let hash = hex(&row.hash);
                if !hash.starts_with(&noted.hash) {
                    let why = format!(
                        "its hash was noted as {}, and is {hash}: the log was written anew",
                        noted.hash
                    );
                    self.verified.find("replaced", seq, why);
                }
            }
        }
        if is_whole && row.action == "audit.drop_month" {
            self.dropped_to = dropped_to(&row.details);
        }
        self.last = Some((row, is_whole));
    }

    /// Of a row whose hash is not its own: whether it would be that with another number.
    fn what_became_of(&mut self, row: &Row) -> (&'static str, String) {
        self.looked_for += 1;
        if self.looked_for <= LOOKED_FOR {
            let mut near = row.seq.saturating_sub(NEAR)..=row.seq.saturating_add(NEAR);
            if let Some(was) = near.find(|seq| row.hash_as(*seq)[..] == row.hash[..]) {
                return ("reordered", format!("it was written as row {was}"));
            }
        }
        (
            "changed",
            "it does not say what it said when it was written".to_owned(),
        )
    }

    fn end(mut self, head: &Head) -> Verified {
        let last = self.last.as_ref().map_or(0, |(row, _)| row.seq);
        match self.verified.first {
            Some(1) if self.before_first != [0; 32] => {
                let why = "the first row says that there was one before".to_owned();
                self.verified.find("replaced", Some(1), why);
            }
            Some(first) if first > 1 => {
                let gone = (first - 1, hex(&self.before_first));
                if self.dropped_to.as_ref() != Some(&gone) {
                    let why = format!(
                        "the rows 1 to {} are not there, and no row says that their months were dropped",
                        first - 1
                    );
                    self.verified.find("removed", Some(1), why);
                }
            }
            _ => {}
        }
        if last < head.seq {
            let why = match last + 1 {
                next if next == head.seq => "the newest row is not there any more".to_owned(),
                next => format!("the rows {next} to {} are not there any more", head.seq),
            };
            self.verified.find("removed", Some(last + 1), why);
        } else if let Some((row, true)) = &self.last
            && row.hash != head.hash
        {
            let why = "it is not the row that the head of the log names".to_owned();
            let seq = Some(row.seq);
            self.verified.find("replaced", seq, why);
        }
        for (noted, met) in std::mem::take(&mut self.noted) {
            let is_dropped = self
                .dropped_to
                .as_ref()
                .is_some_and(|(to, _)| noted.seq <= *to);
            if !met && !is_dropped && noted.seq > 0 {
                let why = "its hash was noted, and it is not there".to_owned();
                self.verified.find("removed", Some(noted.seq), why);
            }
        }
        self.verified
    }
}

/// What a row of a dropped month says.
fn dropped_to(details: &str) -> Option<(i64, String)> {
    let details: Value = serde_json::from_str(details).ok()?;
    let hash = details["last_hash"].as_str()?.to_owned();
    Some((details["last_seq"].as_i64()?, hash))
}
