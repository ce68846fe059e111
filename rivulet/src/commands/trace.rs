//! `rivulet trace`

use chrono::{DateTime, Days, Utc};
use clap::Args;
use rivulet_audit::{RecordStatus, Trace as Found};
use rivulet_auditlog::{Action, Entry, record_now};
use uuid::Uuid;

use crate::{services::Services, times::time};

/// Tells the whole way of an event: its records in Kafka, and what the rollups and the history
/// made of each. Reads the log from when the event can have been received on.
#[derive(Args)]
pub(crate) struct Trace {
    #[command(flatten)]
    services: Services,
    /// The event's id, as the client sent it.
    event_id: Uuid,
    /// When it was received at the earliest. If not given: the time in the id, if it has one, else
    /// the whole log.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// As JSON, a line a child and type that has an event with this id.
    #[arg(long)]
    json: bool,
}

impl Trace {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let stores = self.services.stores()?;
        let since = self.since.or_else(|| made_at(self.event_id));
        let since = since.map_or(0, |time| time.timestamp_millis());
        let traces = rivulet_audit::trace(&stores, self.event_id, since).await?;
        let children: Vec<Uuid> = traces.iter().filter_map(|trace| trace.child_id).collect();
        if !children.is_empty() {
            let seen = Entry::done(Action::Read).children(children);
            record_now(&stores.pool, seen.detail("kinds", vec!["trace"])).await?;
        }
        for trace in &traces {
            if self.json {
                println!("{}", serde_json::to_string(trace)?);
            } else {
                print(trace);
            }
        }
        if traces.is_empty() {
            anyhow::bail!(
                "no event with this id is in Kafka's log or in ClickHouse: it was never accepted here, or \
                 is older than Kafka's retention and not in the history"
            );
        }
        Ok(())
    }
}

/// Clocks are off, so a day before the time in a UUIDv7.
fn made_at(id: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = id
        .get_timestamp()
        .filter(|_| id.get_version_num() == 7)?
        .to_unix();
    let time = DateTime::from_timestamp(seconds.cast_signed(), nanos)?;
    time.checked_sub_days(Days::new(1))
}

fn print(trace: &Found) {
    match trace.child_id {
        Some(child) => println!("{} of child {child}", trace.event_type),
        None => println!("{} that cannot be read", trace.event_type),
    }
    for copy in &trace.copies {
        print!(
            "  {}[{}] offset {}",
            copy.topic, copy.partition, copy.offset
        );
        match copy.received_at {
            Some(time) => println!(", accepted {}", time.format("%Y-%m-%d %H:%M:%S%.3f UTC")),
            None => println!(),
        }
        println!("    rollups  {}", describe(&copy.rollups, "counted"));
        println!("    history  {}", describe(&copy.history, "stored"));
    }
    if trace.copies.is_empty() {
        println!("  Kafka keeps it no longer");
    }
    match trace.history {
        Some((partition, offset)) => {
            println!("  ClickHouse has it, from partition {partition} offset {offset}");
        }
        None => println!("  ClickHouse does not have it"),
    }
}

fn describe(status: &RecordStatus, counted: &str) -> String {
    match status {
        RecordStatus::Waiting => "waiting: the consumer has not come to it yet".to_owned(),
        RecordStatus::Counted => counted.to_owned(),
        RecordStatus::DuplicateOf(offset) => {
            format!("a copy of offset {offset}, which is {counted}")
        }
        RecordStatus::Withdrawn => {
            "withdrawn: the consent was, on which it had been taken".to_owned()
        }
        RecordStatus::Erased => "erased: nothing of the child is kept".to_owned(),
        RecordStatus::Withheld => "withheld: `analytics` was not granted".to_owned(),
        RecordStatus::Quarantined(reason) => reason.clone(),
        RecordStatus::Unaccounted => "UNACCOUNTED: it was passed and is nowhere".to_owned(),
    }
}
