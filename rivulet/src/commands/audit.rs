//! `rivulet audit list|verify`

use std::fmt::Write as _;

use anyhow::ensure;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use rivulet_auditlog::{Action, Filter, NotedHead, Row, Subject, Verified};
use rivulet_migrations::logins::Login;
use uuid::Uuid;

use super::{quarantine::printable, verify::Unbalanced};
use crate::{services::Postgres, times::time};

/// Most rows that can be listed at once.
const MOST: i64 = 10_000;

/// Who read, changed, exported or erased what of whom: search the audit log, and prove that nothing was taken out of it.
#[derive(Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    postgres: Postgres,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List rows, the newest first.
    List(List),
    /// Compute the chain of hashes again and name each row that was removed, changed, moved or slipped in. Exits with 3
    /// where there is one.
    Verify {
        /// A head that was noted elsewhere, `SEQ:HASH` with 12 or more hexadecimal digits: whether that row is still
        /// the same; may be given again.
        #[arg(long = "head", value_name = "SEQ:HASH")]
        heads: Vec<NotedHead>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct List {
    /// Only this action, as the log calls it; `keys.` is all that begin so.
    #[arg(long, value_parser = action)]
    action: Option<String>,
    /// Only what this one did: a key's name, a user's, the SHA-256 of a token's subject.
    #[arg(long, conflicts_with = "by_parent")]
    actor: Option<String>,
    /// Only what was done with tokens of this parent.
    #[arg(long, value_name = "ID")]
    by_parent: Option<Uuid>,
    /// Only what was about this child.
    #[arg(long, value_name = "ID", conflicts_with_all = ["parent", "about"])]
    child: Option<Uuid>,
    /// Only what was about this parent.
    #[arg(long, value_name = "ID", conflicts_with = "about")]
    parent: Option<Uuid>,
    /// Only what was about the key, topic, spill or month of this name.
    #[arg(long, value_name = "NAME")]
    about: Option<String>,
    /// Only what ended so.
    #[arg(long, value_parser = PossibleValuesParser::new(["done", "refused", "failed"]))]
    outcome: Option<String>,
    /// Only this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Written at this time or later, as 2026-03-02T22:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Written before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<DateTime<Utc>>,
    /// At most so many rows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=MOST))]
    limit: i64,
    /// One JSON object a line, with the hashes.
    #[arg(long)]
    json: bool,
}

/// A word that the log knows, so that a typing error does not look like "nobody did that".
fn action(word: &str) -> Result<String, String> {
    let words = || {
        Action::ALL
            .iter()
            .map(|action| action.as_str())
            .chain(["audit.drop_month"])
    };
    let is_known = match word.strip_suffix('.') {
        Some(_) => words().any(|known| known.starts_with(word)),
        None => words().any(|known| known == word),
    };
    match is_known {
        true => Ok(word.to_owned()),
        false => Err(format!(
            "an action is one of {}",
            words().collect::<Vec<_>>().join(", ")
        )),
    }
}

impl Audit {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let pool = self.postgres.pool(Login::Auditor, "audit", 2)?;
        match self.command {
            Command::List(list) => {
                let (filter, limit, json) = list.filter()?;
                let rows = rivulet_auditlog::list(&pool, &filter, limit).await?;
                for row in &rows {
                    if json {
                        println!("{}", serde_json::to_string(row)?);
                    } else {
                        println!("{}", printable(&line(row)));
                    }
                }
                if !json && rows.len() as i64 == limit {
                    println!(
                        "… there may be more: --limit, or --until {}",
                        when(rows[rows.len() - 1].at)
                    );
                }
                Ok(())
            }
            Command::Verify { heads, json } => {
                let verified = rivulet_auditlog::verify(&pool, &heads).await?;
                if json {
                    println!("{}", serde_json::to_string(&verified)?);
                } else {
                    print!("{}", printable(&text(&verified)));
                }
                if verified.is_whole() {
                    return Ok(());
                }
                let found = verified.findings.len() as u64 + verified.more;
                Err(Unbalanced(format!(
                    "{found} findings: the audit log is not as it was written"
                ))
                .into())
            }
        }
    }
}

impl List {
    fn filter(self) -> anyhow::Result<(Filter, i64, bool)> {
        ensure!(
            self.since
                .is_none_or(|since| self.until.is_none_or(|until| since < until)),
            "--since must be before --until"
        );
        let by_parent = self.by_parent.map(rivulet_auditlog::hex_hash);
        let filter = Filter {
            action: self.action,
            actor: self.actor.or(by_parent),
            subject: self
                .child
                .map(Subject::child)
                .or(self.parent.map(Subject::parent)),
            about: self.about,
            outcome: self.outcome,
            request_id: self.request_id,
            since: self.since,
            until: self.until,
        };
        Ok((filter, self.limit, self.json))
    }
}

fn when(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A row as a sentence: number, time, who, what, whom, how it ended.
fn line(row: &Row) -> String {
    const SHOWN: usize = 3;
    let mut line = format!(
        "{:>8}  {}  {} {}  {}",
        row.seq,
        when(row.at),
        row.actor_kind,
        row.actor.as_deref().unwrap_or("-"),
        row.action
    );
    if row.outcome != "done" {
        let _ = write!(line, " {}", row.outcome.to_uppercase());
    }
    if let Some(kind) = &row.subject_kind {
        let shown: Vec<&str> = row
            .subjects
            .iter()
            .take(SHOWN)
            .map(String::as_str)
            .collect();
        let _ = write!(line, "  {kind} {}", shown.join(" "));
        if row.subjects.len() > SHOWN {
            let _ = write!(line, " and {} more", row.subjects.len() - SHOWN);
        }
    }
    if row.times > 1 {
        let _ = write!(
            line,
            "  {} times, {} to {}",
            row.times,
            when(row.first_at),
            when(row.last_at)
        );
    }
    if row.details != "{}" {
        let _ = write!(line, "  {}", row.details);
    }
    if let Some(request_id) = &row.request_id {
        let _ = write!(line, "  request {request_id}");
    }
    line
}

fn text(verified: &Verified) -> String {
    let mut text = String::new();
    for finding in &verified.findings {
        let _ = match finding.seq {
            Some(seq) => writeln!(text, "{}: row {seq}: {}", finding.what, finding.why),
            None => writeln!(text, "{}: {}", finding.what, finding.why),
        };
    }
    if verified.more > 0 {
        let _ = writeln!(text, "… and {} findings more", verified.more);
    }
    let _ = match (verified.first, verified.since) {
        (Some(first), Some(since)) => writeln!(
            text,
            "{} rows computed again, from row {first} of {}",
            verified.rows,
            when(since)
        ),
        _ => writeln!(text, "the log is empty"),
    };
    let _ = writeln!(text, "head {}:{}", verified.head, verified.head_hash);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_actions_that_there_are_can_be_asked_for() {
        assert!(
            action("keys.").is_ok() && action("keys.create").is_ok() && action("erase").is_ok()
        );
        assert!(action("key.create").unwrap_err().contains("keys.create"));
        assert!(action("x.").is_err());
    }
}
