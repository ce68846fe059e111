//! Inserts that can be repeated: the same bytes are sent in one block under one token, until ClickHouse has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clickhouse::{Client, error::Error};
use rivulet_events::{EventType, sabotage::sabotaged};

use crate::{
    backoff::Backoff,
    health::{Health, Trouble},
    metrics,
    range::Range,
    row::{Column, columns, header},
    rows::Frozen,
    verdict::{self, Verdict},
};

const TABLE: &str = "events";

/// More rows than any range has, so that the server never cuts an insert into blocks.
const BLOCK_ROWS: &str = "4194304";

/// Months from 2025 to 2037, and 1970-01.
const ID_MONTHS: &str = "157";

/// Settings that decide how an insert becomes blocks, and whether blocks are deduplicated. Their
/// defaults have changed between versions of ClickHouse; a token is only good for a repeated insert
/// if both attempts form the same blocks. Those that the server does not know are not sent.
const PINNED: &[(&str, &str)] = &[
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("deduplicate_insert", "enable"),
    ("max_insert_threads", "1"),
    // Each partition is a month of id-days. The events of devices with wrong clocks can be spread over all of these
    // months.
    ("max_partitions_per_insert_block", ID_MONTHS),
    ("max_insert_block_size", BLOCK_ROWS),
    ("max_insert_block_size_bytes", "0"),
    ("min_insert_block_size_rows", BLOCK_ROWS),
    ("min_insert_block_size_bytes", "0"),
    ("input_format_max_block_size_bytes", "0"),
    ("input_format_max_block_wait_ms", "0"),
    ("input_format_connection_handling", "0"),
];

/// A row that ClickHouse does not take: its Kafka offset and ClickHouse's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Poisonous {
    pub(crate) offset: u64,
    pub(crate) code: u32,
}

/// What one insert sends, the same in each attempt.
struct Block<'a> {
    statement: &'a str,
    header: Bytes,
    token: String,
    rows: Vec<Bytes>,
}

/// The table `events`.
#[derive(Clone, Debug)]
pub(crate) struct Warehouse {
    client: Client,
    /// Longest time for a chunk to be taken by the connection, and for the answer after the last.
    send_timeout: Duration,
    answer_timeout: Duration,
    health: Health,
}

impl Warehouse {
    /// Waits until ClickHouse answers and its table is the one this release writes.
    pub(crate) async fn open(
        client: &Client,
        send_timeout: Duration,
        answer_timeout: Duration,
        health: Health,
    ) -> Self {
        let mut backoff = backoff(Trouble::Passing("start"));
        loop {
            match pinned(client, answer_timeout).await {
                Ok(client) => {
                    let warehouse = Self {
                        client,
                        send_timeout,
                        answer_timeout,
                        health: health.clone(),
                    };
                    match warehouse.check_schema().await {
                        Ok(()) => {
                            health.well();
                            return warehouse;
                        }
                        Err((trouble, code)) => health.ill(trouble, code),
                    }
                }
                Err(error) => health.ill(trouble_of(&error), verdict::code(&error)),
            }
            backoff.wait().await;
        }
    }

    /// Inserts the rows of a range, however long it takes. Returns those that ClickHouse refuses, or `None` once
    /// `is_ours` says that another instance has the partition.
    pub(crate) async fn insert(
        &self,
        range: &Range,
        rows: &Frozen,
        is_ours: impl Fn() -> bool,
    ) -> Option<Vec<Poisonous>> {
        let whole = 0..rows.len();
        if whole.is_empty() {
            return Some(Vec::new());
        }
        let statement = statement(range.event_type());
        let header = Bytes::from(header(range.event_type()));
        let mut poisonous = Vec::new();
        let mut sections = vec![whole.clone()];
        while let Some(section) = sections.pop() {
            let block = Block {
                statement: &statement,
                header: header.clone(),
                // A part of a range has a token of its own, always the same: it is cut by halves.
                token: if section == whole {
                    range.token()
                } else {
                    token_of(range, rows, &section)
                },
                rows: rows.slice(&section),
            };
            let Some(code) = self.insert_block(&block, &is_ours).await? else {
                continue;
            };
            if section.len() == 1 {
                poisonous
                    .extend(offset(rows, section.start).map(|offset| Poisonous { offset, code }));
            } else {
                let middle = section.start + section.len() / 2;
                sections.push(middle..section.end);
                sections.push(section.start..middle);
            }
        }
        Some(poisonous)
    }

    /// `Some(None)` when the rows are in; `Some(Some(code))` when one of them is to blame; `None` when another instance
    /// has the partition.
    async fn insert_block(
        &self,
        block: &Block<'_>,
        is_ours: impl Fn() -> bool,
    ) -> Option<Option<u32>> {
        let mut waiting: Option<(Trouble, Backoff)> = None;
        while is_ours() {
            let started = Instant::now();
            let error = match self.attempt(block).await {
                Ok(()) => {
                    self.health.well();
                    metrics::inserted(started.elapsed().as_secs_f64());
                    return Some(None);
                }
                Err(error) => error,
            };
            let (trouble, code) = match verdict::judge(&error) {
                Verdict::Retry(trouble) => (trouble, verdict::code(&error)),
                // If the table has other types, it misreads every row. Then no row is to blame.
                Verdict::Poison(code) => match self.check_schema().await {
                    Ok(()) => return Some(Some(code)),
                    Err(trouble) => trouble,
                },
            };
            self.health.ill(trouble, code);
            metrics::retried("clickhouse", trouble.reason());
            if waiting
                .as_ref()
                .is_none_or(|(before, _)| *before != trouble)
            {
                waiting = Some((trouble, backoff(trouble)));
            }
            if let Some((_, backoff)) = &mut waiting {
                backoff.wait().await;
            }
        }
        None
    }

    async fn attempt(&self, block: &Block<'_>) -> Result<(), Error> {
        let token = if sabotaged("token") {
            uuid::Uuid::new_v4().to_string()
        } else {
            block.token.clone()
        };
        let mut insert = self
            .client
            .insert_formatted_with(block.statement)
            .with_setting("insert_deduplication_token", token)
            .with_timeouts(Some(self.send_timeout), Some(self.answer_timeout));
        insert.send(block.header.clone()).await?;
        for piece in &block.rows {
            insert.send(piece.clone()).await?;
        }
        insert.end().await
    }

    /// Whether the table has the columns this release writes, of the types it encodes.
    async fn check_schema(&self) -> Result<(), (Trouble, Option<u32>)> {
        let query = self
            .client
            .query("SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = ?")
            .bind(TABLE)
            .fetch_all::<(String, String)>();
        let found: BTreeMap<String, String> = timed(self.answer_timeout, query)
            .await
            .map_err(|error| (trouble_of(&error), verdict::code(&error)))?
            .into_iter()
            .collect();
        if found.is_empty() {
            return Err((Trouble::Lasting("missing_table"), None));
        }
        let differs = |(name, kind): &Column| found.get(*name).is_none_or(|found| found != kind);
        if EventType::ALL
            .iter()
            .any(|event_type| columns(*event_type).any(|c| differs(&c)))
        {
            return Err((Trouble::Lasting("schema"), None));
        }
        Ok(())
    }
}

/// The client with every pinned setting that this server knows.
async fn pinned(client: &Client, timeout: Duration) -> Result<Client, Error> {
    let names: Vec<&str> = PINNED.iter().map(|(name, _)| *name).collect();
    let query = client
        .query("SELECT name FROM system.settings WHERE name IN ?")
        .bind(names)
        .fetch_all::<String>();
    let known: BTreeSet<String> = timed(timeout, query).await?.into_iter().collect();
    // A request must not be executed long after its client has gone, because its token may be forgotten by then.
    let client = client
        .clone()
        .with_setting("max_execution_time", timeout.as_secs().to_string());
    Ok(PINNED
        .iter()
        .filter(|(name, _)| known.contains(*name))
        .fold(client, |client, (name, value)| {
            client.with_setting(*name, *value)
        }))
}

async fn timed<T>(
    timeout: Duration,
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeout, query)
        .await
        .unwrap_or(Err(Error::TimedOut))
}

fn trouble_of(error: &Error) -> Trouble {
    match verdict::judge(error) {
        Verdict::Retry(trouble) => trouble,
        Verdict::Poison(_) => Trouble::Passing("server"),
    }
}

fn backoff(trouble: Trouble) -> Backoff {
    match trouble {
        Trouble::Passing(_) => Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
        Trouble::Lasting(_) => Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
    }
}

fn statement(event_type: EventType) -> String {
    let names: Vec<&str> = columns(event_type).map(|(name, _)| name).collect();
    format!(
        "INSERT INTO {TABLE} ({}) FORMAT RowBinaryWithNamesAndTypes",
        names.join(", ")
    )
}

fn token_of(range: &Range, rows: &Frozen, section: &ops::Range<usize>) -> String {
    let first = offset(rows, section.start).unwrap_or_default();
    let last = offset(rows, section.end - 1).unwrap_or_default();
    let part = &range.part;
    format!(
        "{}:{}:{}:{first}-{last}",
        part.incarnation, part.topic, part.partition
    )
}

/// The Kafka offset of a row.
fn offset(rows: &Frozen, row: usize) -> Option<u64> {
    rows.heads().nth(row).map(|head| head.offset)
}
