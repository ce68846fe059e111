//! The history: the rows of the subjects, and the parts that held them.
//!
//! Subjects are named by their hashes, so that no mutation's text, which ClickHouse keeps in a file, names them by id.

use std::{collections::BTreeMap, time::Duration};

use clickhouse::Client;

use crate::{Error, certificate::Proof};

/// Every table with something of a child in it. Views are made of these.
const TABLES: [&str; 2] = ["events", "child_day_rollup"];

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Subjects of one mutation: their hashes must fit into the text that ClickHouse reads of a query, 256 KiB.
const HASHES: usize = 2_000;

/// The hashes of the children and of the parents to remove.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    pub(crate) children: Vec<[u8; 32]>,
    pub(crate) parents: Vec<[u8; 32]>,
}

impl Hashes {
    /// By `kind` and `sha256`, as in the table `tombstones`.
    pub(crate) fn of(tombstones: Vec<(String, Vec<u8>)>) -> Self {
        let mut hashes = Self::default();
        for (kind, sha256) in tombstones {
            let Ok(hash) = sha256.try_into() else {
                continue;
            };
            match &*kind {
                "parent" => hashes.parents.push(hash),
                _ => hashes.children.push(hash),
            }
        }
        hashes
    }
}

/// Removes all rows of the subjects, and waits until the parts that had them are off the disk.
pub(crate) async fn remove(client: &Client, hashes: &Hashes) -> Result<(), Error> {
    // The counts of days first see to it that no count that began before is still to come.
    for table in TABLES {
        if table != "events" {
            refreshes_end(client).await?;
        }
        for children in hashes.children.chunks(HASHES) {
            mutate(
                client,
                table,
                "DELETE",
                &is_one_of("child_id", &list(children)),
            )
            .await?;
        }
    }
    // A child that has moved to another family had this parent when its older events were received.
    for parents in hashes.parents.chunks(HASHES) {
        let is_theirs = is_one_of("parent_id", &list(parents));
        let nobody = "UPDATE parent_id = toUUID('00000000-0000-0000-0000-000000000000')";
        mutate(client, "events", nobody, &is_theirs).await?;
    }
    drop_old_parts(client).await
}

/// What is left of the subjects, as queries with their answers; each must be 0. `{subjects}` stands for the hashes.
pub(crate) async fn prove(client: &Client, hashes: &Hashes) -> Result<Vec<Proof>, Error> {
    let mut proofs = Vec::new();
    let columns = TABLES.map(|table| (table, "child_id", &hashes.children));
    for (table, column, hashes) in
        columns
            .into_iter()
            .chain([("events", "parent_id", &hashes.parents)])
    {
        let query = |list: &str| {
            format!(
                "SELECT count() FROM {table} WHERE {}",
                is_one_of(column, list)
            )
        };
        let mut answer = 0;
        for hashes in hashes.chunks(HASHES) {
            answer += count(client, &query(&list(hashes))).await?;
        }
        proofs.push(Proof {
            query: query("{subjects}"),
            answer,
        });
    }
    Ok(proofs)
}

/// How many rows of these children there are.
pub(crate) async fn rows(client: &Client, children: &[[u8; 32]]) -> Result<u64, Error> {
    let mut rows = 0;
    for table in TABLES {
        for hashes in children.chunks(HASHES) {
            let is_theirs = is_one_of("child_id", &list(hashes));
            rows += count(
                client,
                &format!("SELECT count() FROM {table} WHERE {is_theirs}"),
            )
            .await?;
        }
    }
    Ok(rows)
}

/// Up to which tombstone, and which withdrawal of a consent, it was cleaned, as it remembers itself.
pub(crate) struct CleanedTo {
    pub(crate) tombstone: i64,
    pub(crate) revocation: i64,
}

/// What it remembers.
pub(crate) async fn cleaned_to(client: &Client) -> Result<CleanedTo, Error> {
    let query = "SELECT max(tombstone), max(revocation) FROM erased_to";
    let (tombstone, revocation) = client.query_raw(query).fetch_one().await?;
    Ok(CleanedTo {
        tombstone,
        revocation,
    })
}

/// Has it remember that, or more where it does.
pub(crate) async fn set_cleaned_to(
    client: &Client,
    tombstone: i64,
    revocation: i64,
) -> Result<(), Error> {
    let insert = format!(
        "INSERT INTO erased_to (tombstone, revocation)
         SELECT greatest(max(tombstone), {tombstone}), greatest(max(revocation), {revocation}) FROM erased_to"
    );
    Ok(client.query_raw(&insert).execute().await?)
}

/// What goes of children of whom a consent was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Withdrawn {
    /// Only speech.
    pub(crate) speech: bool,
    /// Only what was received before this time, Unix milliseconds.
    pub(crate) before: Option<i64>,
}

/// Removes the events that are withdrawn, and counts the days of their children anew. Returns how many events there were.
/// Their parts go from the disk when ClickHouse looks for such.
pub(crate) async fn remove_withdrawn(
    client: &Client,
    withdrawn: &BTreeMap<Withdrawn, Vec<[u8; 32]>>,
) -> Result<u64, Error> {
    let mut removed = 0;
    for (what, children) in withdrawn {
        for children in children.chunks(HASHES) {
            let mut rows = is_one_of("child_id", &list(children));
            if what.speech {
                rows += " AND event_type = 'speech'";
            }
            if let Some(before) = what.before {
                rows = format!("{rows} AND received_at < fromUnixTimestamp64Milli({before})");
            }
            removed += mutate(client, "events", "DELETE", &rows).await?;
        }
    }
    // As above: no count of days that began before may be written after this.
    refreshes_end(client).await?;
    let mut children: Vec<_> = withdrawn.values().flatten().copied().collect();
    children.sort_unstable();
    children.dedup();
    for children in children.chunks(HASHES) {
        let theirs = is_one_of("child_id", &list(children));
        mutate(client, "child_day_rollup", "DELETE", &theirs).await?;
        let recount = format!(
            "INSERT INTO child_day_rollup SELECT *, now64(6, 'UTC') AS recounted_at
             FROM child_days_recounted(since = '2000-01-01') WHERE {theirs}"
        );
        client.query_raw(&recount).execute().await?;
    }
    Ok(removed)
}

async fn count(client: &Client, query: &str) -> Result<u64, Error> {
    Ok(client.query_raw(query).fetch_one().await?)
}

fn is_one_of(column: &str, list: &str) -> String {
    format!("lower(hex(SHA256(toString({column})))) IN ({list})")
}

fn list(hashes: &[[u8; 32]]) -> String {
    let quoted = |hash: &[u8; 32]| format!("'{}'", rivulet_auditlog::hex(hash));
    hashes.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// Runs a mutation of these rows to its end, if there are any, and returns how many there were: a step that is repeated after a crash finds none. Not
/// `mutations_sync`: a connection may end before a large one does.
async fn mutate(client: &Client, table: &str, command: &str, rows: &str) -> Result<u64, Error> {
    let found = count(client, &format!("SELECT count() FROM {table} WHERE {rows}")).await?;
    if found == 0 {
        return Ok(0);
    }
    client
        .query_raw(&format!("ALTER TABLE {table} {command} WHERE {rows}"))
        .execute()
        .await?;
    loop {
        let (open, failure): (u64, String) = client
            .query(
                "SELECT count(), anyLast(latest_fail_reason) FROM system.mutations
                 WHERE database = currentDatabase() AND table = ? AND NOT is_done",
            )
            .bind(table)
            .fetch_one()
            .await?;
        if open == 0 {
            return Ok(found);
        }
        if !failure.is_empty() {
            return Err(Error::Mutation(failure));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until each recount of days that runs now has ended: it may have read what was deleted since.
async fn refreshes_end(client: &Client) -> Result<(), Error> {
    let mut running = running(client).await?;
    while !running.is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = self::running(client).await?;
        running.retain(|view| now.contains(view));
    }
    Ok(())
}

async fn running(client: &Client) -> Result<Vec<String>, Error> {
    let running = client.query(
        "SELECT view FROM system.view_refreshes
         WHERE database = currentDatabase() AND status = 'Running' ORDER BY view",
    );
    Ok(running.fetch_all().await?)
}

/// ClickHouse leaves the parts that a mutation has replaced on the disk for eight minutes, so that a power cut loses
/// neither. What it wrote is brought to the disk first, and then the old ones may go at once.
async fn drop_old_parts(client: &Client) -> Result<(), Error> {
    client.query_raw("SYSTEM SYNC FILE CACHE").execute().await?;
    for table in TABLES {
        let shorter = format!("ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1");
        client.query_raw(&shorter).execute().await?;
    }
    loop {
        let old: u64 = client
            .query(
                "SELECT count() FROM system.parts
                 WHERE database = currentDatabase() AND table IN ? AND NOT active",
            )
            .bind(TABLES.as_slice())
            .fetch_one()
            .await?;
        if old == 0 {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for table in TABLES {
        let reset = format!("ALTER TABLE {table} RESET SETTING old_parts_lifetime");
        client.query_raw(&reset).execute().await?;
    }
    Ok(())
}
