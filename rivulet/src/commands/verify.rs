//! `rivulet verify`

use std::{fmt::Write as _, ops::Range, time::Duration};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use clap::Args;
use rivulet_audit::{Children, Report, Side, Stores};
use rivulet_telemetry::Readiness;
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    services::Services,
    supervise::{Roles, spawn_operations},
    times::time,
};

/// Hours that can be asked for: ten years, more than Kafka keeps.
const LONGEST: i64 = 10 * 366 * 24;

/// Compares what the consumers stored with the log in Kafka: every record between their positions
/// must be counted, a copy, or in quarantine; every event that `analytics` allows must be in
/// ClickHouse. Changes nothing. Exits with 3 when something does not balance, 1 when that could not
/// be told.
#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    services: Services,
    /// Hours to compare, back from the end of this one or from --until.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=LONGEST))]
    hours: i64,
    /// The hour to begin with, as in 2026-01-31T09:00:00Z; in place of --hours.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "hours")]
    since: Option<DateTime<Utc>>,
    /// The time to end before, rounded up to the hour; now if not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<DateTime<Utc>>,
    /// The whole report as JSON, with a row a topic, partition and hour.
    #[arg(long)]
    json: bool,
    /// Goes on for ever, every so many seconds, and serves the outcome as metrics
    /// (`rivulet_unaccounted_events`) in place of printing it.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["since", "until", "json"])]
    every: Option<u64>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served with --every.
    #[arg(long, env = "RIVULET_VERIFY_LISTEN", default_value = "127.0.0.1:9103")]
    verify_listen: String,
}

/// Something does not balance. This is the command's answer, not a failure of the command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unbalanced(pub(crate) String);

impl Verify {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let stores = self.services.stores()?;
        if let Some(seconds) = self.every {
            ensure!(
                seconds >= 60,
                "--every must be at least 60: each round reads {} hours of the log again",
                self.hours
            );
            let (mut roles, metrics) = Roles::new()?;
            let readiness = Readiness::new("verify", &["verify"]);
            let (name, listen) = ("verify's operations", &self.verify_listen);
            spawn_operations(&mut roles, name, listen, &readiness, metrics).await?;
            let every = Duration::from_secs(seconds);
            spawn(&mut roles, stores, self.hours, every, Some(readiness));
            return roles.run().await;
        }
        let report = rivulet_audit::verify(&stores, self.window()?).await?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", text(&report));
        }
        match report.unaccounted() {
            0 => Ok(()),
            unaccounted => Err(Unbalanced(format!("{unaccounted} unaccounted")).into()),
        }
    }

    /// In hours since 1970.
    fn window(&self) -> anyhow::Result<Range<i64>> {
        let hour = |time: DateTime<Utc>| time.timestamp().div_euclid(3_600);
        let until = self.until.unwrap_or_else(Utc::now);
        let end = (until.timestamp() + 3_599).div_euclid(3_600);
        let start = self.since.map_or(end - self.hours, hour);
        ensure!(
            start < end,
            "there is no hour to compare: --since must be before --until"
        );
        Ok(start..end)
    }
}

/// How often children are recounted from the history, and which.
const RECOUNT_EVERY: Duration = Duration::from_secs(24 * 3_600);
const RECOUNTED: Children = Children::Sample(1_000);

/// Verifies the last hours again and again, and recounts some children each day, for the metrics.
pub(crate) fn spawn(
    roles: &mut Roles,
    stores: Stores,
    hours: i64,
    every: Duration,
    readiness: Option<Readiness>,
) {
    let shutdown = roles.shutdown.clone();
    roles.spawn("verify", async move {
        let rounds = async {
            let mut rounds = tokio::time::interval(every);
            rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut recounted_at: Option<Instant> = None;
            loop {
                rounds.tick().await;
                let end = (Utc::now().timestamp() + 3_599).div_euclid(3_600);
                let round = rivulet_audit::verify(&stores, end - hours..end).await;
                match &round {
                    Ok(report) => report.publish(),
                    Err(error) => tracing::warn!(%error, "the books could not be verified, trying again at the next round"),
                }
                if recounted_at.is_none_or(|at| at.elapsed() >= RECOUNT_EVERY) {
                    match rivulet_audit::rebuild(&stores, &RECOUNTED, false).await {
                        Ok(rebuilt) => {
                            rebuilt.publish();
                            recounted_at = Some(Instant::now());
                        }
                        Err(error) => tracing::warn!(%error, "a sample of children could not be recounted, trying again at the next round"),
                    }
                }
                match (&readiness, round) {
                    (Some(readiness), Ok(_)) => readiness.pass("verify"),
                    (Some(readiness), Err(_)) => readiness.fail("verify", "the last round failed"),
                    (None, _) => {}
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            never = rounds => never,
        }
    });
}

/// A line a topic, then everything that is wrong.
fn text(report: &Report) -> String {
    let mut text = format!(
        "{} to {}, by Kafka's timestamps\n\n",
        report.since.format("%Y-%m-%d %H:%M"),
        report.until.format("%Y-%m-%d %H:%M UTC"),
    );
    let _ = writeln!(
        text,
        "{:24} {:>10}  {:10} {:>10} {:>9} {:>9} {:>11} {:>8} {:>8} {:>8} {:>11}",
        "topic",
        "records",
        "consumer",
        "counted",
        "withheld",
        "copies",
        "quarantined",
        "erased",
        "revoked",
        "waiting",
        "unaccounted"
    );
    for rows in report.rows.chunk_by(|a, b| a.topic == b.topic) {
        let records: u64 = rows.iter().map(|row| row.records).sum();
        let sides = [
            (
                rivulet_audit::ROLLUPS,
                rows.iter().map(|row| row.rollups).sum::<Side>(),
            ),
            (
                rivulet_audit::HISTORY,
                rows.iter().map(|row| row.history).sum(),
            ),
        ];
        let mut start = format!("{:24} {records:>10}", rows[0].topic);
        for (consumer, side) in sides {
            let _ = writeln!(
                text,
                "{start:35}  {consumer:10} {:>10} {:>9} {:>9} {:>11} {:>8} {:>8} {:>8} {:>11}",
                side.counted,
                side.withheld,
                side.duplicates,
                side.quarantined,
                side.erased,
                side.revoked,
                side.waiting,
                side.unaccounted,
            );
            start.clear();
        }
    }
    if report.rows.is_empty() {
        text.push_str("(no records)\n");
    }
    for note in &report.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    match report.unaccounted() {
        0 => text.push_str("\nEvery record is accounted for.\n"),
        _ => text.push_str("\nUnaccounted:\n"),
    }
    for finding in &report.findings {
        let _ = write!(
            text,
            "  {}  {}[{}]  {}",
            finding.hour.format("%Y-%m-%d %H:00"),
            finding.topic,
            finding.partition,
            finding.consumer
        );
        if let Some(offset) = finding.offset {
            let _ = write!(text, "  offset {offset}");
        }
        if let Some(id) = finding.event_id {
            let _ = write!(text, "  event {id}");
        }
        let _ = writeln!(text, ": {}", finding.problem);
    }
    text
}
