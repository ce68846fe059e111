//! `rivulet quarantine list|show|replay|drop|resume`

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    num::NonZeroU32,
};

use anyhow::ensure;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use rivulet_migrations::logins::Login;
use rivulet_quarantine::{Count, Details, Entry, Outcome, Replay, Selection};
use rivulet_retention::Class;
use sqlx::PgPool;

use crate::{
    retention::{RetentionFlags, agreed},
    services::{Kafka, Postgres},
    times::time as time_flag,
};

/// Rows of the table for people, unless `--limit` says otherwise.
const SHOWN: i64 = 50;

/// Look at records that a consumer could not process, replay or drop them.
#[derive(Args)]
pub(crate) struct Quarantine {
    #[command(flatten)]
    postgres: Postgres,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List records, and how many there are by code.
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many records.
        #[arg(long, value_parser = limit())]
        limit: Option<i64>,
        /// One JSON object a line, all records unless --limit is given, no counts.
        #[arg(long)]
        json: bool,
    },
    /// Show one record whole. It may hold a child's data.
    Show {
        #[command(flatten)]
        filter: Filter,
    },
    /// Put records into their topic again, for every consumer, and take them out of quarantine.
    Replay {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        acting: Acting,
        #[command(flatten)]
        kafka: Box<Kafka>,
        /// Records a second.
        #[arg(long, default_value = "500")]
        rate: NonZeroU32,
        /// Days that the aggregator remembers the identities of events: an older one could be
        /// counted twice, and stays in quarantine. Must be what the retention file says, if given.
        #[arg(long, env = "RIVULET_SEEN_RETENTION_DAYS")]
        seen_retention_days: Option<u64>,
        #[command(flatten)]
        retention: RetentionFlags,
    },
    /// Delete records for good.
    Drop {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        acting: Acting,
    },
    /// Let consumers go on that have stopped because too many records were unfit.
    Resume {
        /// Only this consumer: `aggregator` or `history`.
        #[arg(long)]
        consumer: Option<String>,
        /// Only those that stopped because of this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Who does it; the user of the operating system by default.
        #[arg(long)]
        by: Option<String>,
    },
}

#[derive(Args)]
struct Filter {
    /// Who set it aside: `aggregator` or `history`.
    #[arg(long)]
    consumer: Option<String>,
    /// The topic's whole name.
    #[arg(long)]
    topic: Option<String>,
    /// The partition.
    #[arg(long)]
    partition: Option<i32>,
    /// The offset in Kafka.
    #[arg(long)]
    offset: Option<i64>,
    /// Why it was set aside, as `list` tells it.
    #[arg(long)]
    code: Option<String>,
    /// Set aside at this time or later, as 2026-03-02T22:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    since: Option<DateTime<Utc>>,
    /// Set aside before this time.
    #[arg(long, value_name = "TIME", value_parser = time_flag)]
    until: Option<DateTime<Utc>>,
}

#[derive(Args)]
struct Acting {
    /// At most so many records.
    #[arg(long, value_parser = limit())]
    limit: Option<i64>,
    /// Without any filter: all records there are.
    #[arg(long)]
    all: bool,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Who does it; the user of the operating system by default.
    #[arg(long)]
    by: Option<String>,
}

fn limit() -> clap::builder::RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(1..)
}

impl From<Filter> for Selection {
    fn from(filter: Filter) -> Self {
        Self {
            consumer: filter.consumer,
            topic: filter.topic,
            partition: filter.partition,
            offset: filter.offset,
            code: filter.code,
            since: filter.since,
            until: filter.until,
        }
    }
}

impl Acting {
    /// The selection, unless it is everything and nobody said so.
    fn select(&self, filter: Filter) -> anyhow::Result<Selection> {
        let selection = Selection::from(filter);
        ensure!(
            self.all || !selection.is_everything(),
            "this would be every record in quarantine: name some (--code, --topic, …) or say --all"
        );
        Ok(selection)
    }
}

impl Quarantine {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let pool = self.postgres.pool(Login::Operator, "quarantine", 2)?;
        match self.action {
            Action::List {
                filter,
                limit,
                json,
            } => list(&pool, &filter.into(), limit, json).await?,
            Action::Show { filter } => {
                let found = rivulet_quarantine::show(&pool, &filter.into()).await?;
                ensure!(!found.is_empty(), "no such record is in quarantine");
                print(&shown(&found))?;
            }
            Action::Replay {
                filter,
                acting,
                kafka,
                rate,
                seen_retention_days,
                retention,
            } => {
                let (policy, variable) = (retention.policy()?, "RIVULET_SEEN_RETENTION_DAYS");
                let replay = Replay {
                    selection: acting.select(filter)?,
                    limit: acting.limit,
                    rate,
                    remembered_days: agreed(
                        &policy,
                        Class::Identities,
                        variable,
                        seen_retention_days,
                    )?,
                    dry_run: acting.dry_run,
                    by: acting.by.unwrap_or_else(user),
                };
                let did = rivulet_quarantine::replay(&pool, &kafka.cluster()?, &replay).await?;
                print(&summary("replayed", acting.dry_run, did))?;
            }
            Action::Drop { filter, acting } => {
                let selection = acting.select(filter)?;
                let (limit, dry_run) = (acting.limit, acting.dry_run);
                let by = acting.by.unwrap_or_else(user);
                let did =
                    rivulet_quarantine::discard(&pool, &selection, limit, &by, dry_run).await?;
                print(&summary("dropped", dry_run, did))?;
            }
            Action::Resume {
                consumer,
                topic,
                by,
            } => {
                let by = by.unwrap_or_else(user);
                let (consumer, topic) = (consumer.as_deref(), topic.as_deref());
                let resumed = rivulet_quarantine::resume(&pool, consumer, topic, &by).await?;
                if resumed.is_empty() {
                    print("no such consumer has stopped\n")?;
                }
                for pause in resumed {
                    print(&format!(
                        "{} goes on within seconds: it had stopped at {} unfit of {} records of {}\n",
                        pause.consumer, pause.unfit, pause.records, pause.topic
                    ))?;
                }
            }
        }
        Ok(())
    }
}

async fn list(
    pool: &PgPool,
    selection: &Selection,
    limit: Option<i64>,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        for entry in rivulet_quarantine::list(pool, selection, limit).await? {
            print(&(serde_json::to_string(&entry)? + "\n"))?;
        }
        return Ok(());
    }
    let entries = rivulet_quarantine::list(pool, selection, limit.or(Some(SHOWN))).await?;
    let counts = rivulet_quarantine::count(pool, selection).await?;
    print(&table(&entries, &counts)?)
}

/// To standard output. Somebody who closes the pipe, as `head` does, has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

fn table(entries: &[Entry], counts: &[Count]) -> anyhow::Result<String> {
    let mut out = String::new();
    let all: i64 = counts.iter().map(|count| count.records).sum();
    if all == 0 {
        return Ok("nothing is in quarantine\n".to_owned());
    }
    let topic = entries.iter().map(|entry| entry.topic.len()).max();
    let topic = topic.unwrap_or_default().max("topic".len());
    writeln!(
        out,
        "{:<24} {:<12} {:<topic$} {:>9} {:>12} {:<20} {:>8}",
        "code", "consumer", "topic", "partition", "offset", "quarantined at", "bytes"
    )?;
    for entry in entries {
        writeln!(
            out,
            "{:<24} {:<12} {:<topic$} {:>9} {:>12} {:<20} {:>8}",
            entry.code,
            entry.consumer,
            entry.topic,
            entry.partition,
            entry.kafka_offset,
            time(entry.quarantined_at),
            entry.record_bytes
        )?;
    }
    let shown = i64::try_from(entries.len())?;
    if shown < all {
        writeln!(out, "… and {} more: --limit shows them", all - shown)?;
    }
    writeln!(out)?;
    for count in counts {
        writeln!(
            out,
            "{:>8}  {:<24} {}",
            count.records, count.code, count.consumer
        )?;
    }
    Ok(out)
}

fn shown(found: &[Details]) -> String {
    let mut out = String::new();
    for Details { entry, detail, .. } in found {
        let _ = writeln!(
            out,
            "{} partition {} offset {} (incarnation {})\nset aside by {} at {}, {} bytes: {}\n{}\n",
            entry.topic,
            entry.partition,
            entry.kafka_offset,
            entry.topic_incarnation,
            entry.consumer,
            time(entry.quarantined_at),
            entry.record_bytes,
            entry.code,
            printable(detail)
        );
    }
    if let Some(first) = found.first() {
        let _ = writeln!(
            out,
            "{}",
            printable(&String::from_utf8_lossy(&first.record))
        );
    }
    out
}

/// Anybody may have written a record, so it must not send control codes to the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && char != '\n' {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

fn summary(done: &str, dry_run: bool, outcome: Outcome) -> String {
    let would = if dry_run { "would be " } else { "" };
    let mut out = format!(
        "{} records {would}{done} ({} rows of quarantine)\n",
        outcome.records, outcome.rows
    );
    if outcome.too_old > 0 {
        let _ = writeln!(
            out,
            "{} records left in quarantine: nobody remembers whether their events were counted, so a \
             replay could count them twice",
            outcome.too_old
        );
    }
    out
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Who runs the command.
pub(super) fn user() -> String {
    let named = ["USER", "LOGNAME"].map(|name| std::env::var(name).unwrap_or_default());
    named
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cannot_talk_to_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\nc\u{fffd}é"),
            "a\\u{1b}[2Jb\\r\nc\u{fffd}é"
        );
    }
}
