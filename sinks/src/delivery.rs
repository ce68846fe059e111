//! Delivers one range: begins it in PostgreSQL, inserts it into ClickHouse, and finishes it in PostgreSQL.
//!
//! A crash between two steps is repaired by the next owner of the partition. It finds that the range was begun, forms
//! the same range again, and inserts it under the same token.

use std::{collections::BTreeMap, slice, sync::Arc, time::Duration};

use rivulet_consumer::{Handle, positions};
use rivulet_kafka::Cluster;
use rivulet_quarantine::{Breaker, Share};
use rivulet_telemetry::Span;
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::{
    backoff::Backoff,
    metrics,
    progress::{self, Begun, Gone},
    range::{Quarantined, Range},
    refetch,
    warehouse::{Poisonous, Warehouse},
};

/// What the delivery of a range needs.
#[derive(Debug)]
pub(crate) struct Deliverer {
    pub(crate) pool: PgPool,
    pub(crate) gone: Mutex<Gone>,
    pub(crate) warehouse: Warehouse,
    pub(crate) handle: Handle,
    pub(crate) cluster: Cluster,
    pub(crate) breaker: Breaker,
}

/// How a delivery ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The range is finished.
    Done,
    /// PostgreSQL says that the position is not the one that this instance expected.
    Fenced,
    /// Another instance has the partition now.
    Lost,
}

/// Delivers a range, however long it takes.
pub(crate) async fn deliver(deliverer: Arc<Deliverer>, mut range: Range) -> Outcome {
    let links = std::mem::take(&mut range.links);
    let span = deliverer.handle.span(slice::from_ref(&range.part), links);
    let outcome = deliver_in(span.as_ref(), &deliverer, range).await;
    match (&span, &outcome) {
        (Some(span), Outcome::Fenced) => span.failed("fenced"),
        (Some(span), Outcome::Lost) => span.failed("lost"),
        (None, _) | (_, Outcome::Done) => {}
    }
    outcome
}

async fn deliver_in(span: Option<&Span>, deliverer: &Deliverer, mut range: Range) -> Outcome {
    let step = |name, database| span.map(|span| span.database_call(name, database));
    let rows = std::mem::take(&mut range.rows).freeze();
    let topic = Arc::clone(&range.part.topic);
    let unfit = range.quarantined.len() as u64;
    let code = range.quarantined.first().map(|record| record.code.clone());
    let mut share = Share {
        topic: &topic,
        records: rows.len() as u64 + range.withheld_events + range.suppressed_events + unfit,
        unfit,
        code: code.as_deref(),
    };
    if !wait_until_allowed(deliverer, &range, share).await {
        return Outcome::Lost;
    }
    let begin = step("begin", "postgresql");
    let begun = match persist(deliverer, &range, || {
        progress::begin(&deliverer.pool, &deliverer.gone, &range, &rows)
    })
    .await
    {
        Ok(begun) => begun,
        Err(outcome) => return outcome,
    };
    drop(begin);
    let mut inserted = 0;
    if let Begun::Insert {
        suppressed,
        dropped,
    } = begun
    {
        for offset in rows.offsets(&suppressed) {
            range.suppress(offset);
        }
        let mut without = [suppressed, dropped.rows.clone()].concat();
        without.sort_unstable();
        let rows = rows.without(&without);
        metrics::dropped(range.event_type(), &dropped);
        let is_ours = || {
            deliverer.handle.still_trying();
            deliverer.handle.is_current(&range.part)
        };
        let insert = step("insert", "clickhouse");
        let Some(poisonous) = deliverer.warehouse.insert(&range, &rows, is_ours).await else {
            return Outcome::Lost;
        };
        drop(insert);
        inserted = rows.len() - poisonous.len();
        let poisonous = match quarantined(deliverer, &range, &poisonous).await {
            Some(records) => records,
            None => return Outcome::Lost,
        };
        for record in &poisonous {
            range.set_aside(record.offset);
        }
        if let Some(record) = poisonous.first() {
            share.unfit += poisonous.len() as u64;
            let code = Some(&*record.code);
            if !wait_until_allowed(deliverer, &range, Share { code, ..share }).await {
                return Outcome::Lost;
            }
        }
        let _finish = step("finish", "postgresql");
        let finish = || progress::finish(&deliverer.pool, &range, &poisonous, &dropped);
        if let Err(outcome) = persist(deliverer, &range, finish).await {
            return outcome;
        }
        poisonous
            .iter()
            .for_each(|record| metrics::quarantined(&record.code));
    }
    range
        .quarantined
        .iter()
        .for_each(|record| metrics::quarantined(&record.code));
    metrics::settled(&range, inserted, chrono::Utc::now().timestamp_millis());
    deliverer.handle.done(&range.part);
    deliverer.breaker.committed(&[share]).await;
    Outcome::Done
}

/// Waits for as long as the breaker has stopped the sink. Returns `false` if another instance has got the
/// partition meanwhile.
async fn wait_until_allowed(deliverer: &Deliverer, range: &Range, share: Share<'_>) -> bool {
    while deliverer.handle.is_current(&range.part) {
        if deliverer.breaker.allows(&[share]).await {
            return true;
        }
        deliverer.handle.still_trying();
        tokio::time::sleep(Breaker::LOOK_AGAIN).await;
    }
    false
}

/// Repeats a step in PostgreSQL until it is done or fenced, or another instance has the partition.
///
/// A commit whose answer was lost may have happened. Then the repetition is fenced, and the position is read again.
async fn persist<T, F: Future<Output = Result<T, positions::Error>>>(
    deliverer: &Deliverer,
    range: &Range,
    step: impl Fn() -> F,
) -> Result<T, Outcome> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut is_logged = false;
    while deliverer.handle.is_current(&range.part) {
        match step().await {
            Ok(done) => return Ok(done),
            Err(positions::Error::Fenced(_)) => {
                metrics::fenced();
                return Err(Outcome::Fenced);
            }
            Err(error) => {
                if !std::mem::replace(&mut is_logged, true) {
                    tracing::warn!(%error, "a position could not be written; retrying");
                }
                metrics::retried("postgres", "error");
                deliverer.handle.still_trying();
            }
        }
        backoff.wait().await;
    }
    Err(Outcome::Lost)
}

/// The records of the rows that ClickHouse refuses. They are read from Kafka once more. There are few of them: to keep
/// every record in memory beside its row would double what a range costs.
async fn quarantined(
    deliverer: &Deliverer,
    range: &Range,
    poisonous: &[Poisonous],
) -> Option<Vec<Quarantined>> {
    if poisonous.is_empty() {
        return Some(Vec::new());
    }
    let codes: BTreeMap<i64, u32> = poisonous
        .iter()
        .filter_map(|row| Some((i64::try_from(row.offset).ok()?, row.code)))
        .collect();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    while deliverer.handle.is_current(&range.part) {
        let offsets: Vec<i64> = codes.keys().copied().collect();
        match refetch::records(
            &deliverer.cluster,
            &range.part.topic,
            range.part.partition,
            offsets,
        )
        .await
        {
            Ok(records) => {
                let record = |(offset, record): (i64, Vec<u8>)| {
                    let code = codes.get(&offset)?;
                    Some(Quarantined {
                        offset,
                        code: format!("clickhouse_{code}"),
                        detail: format!("ClickHouse refused this row with its error {code}"),
                        record,
                    })
                };
                return Some(records.into_iter().filter_map(record).collect());
            }
            Err(error) => {
                tracing::warn!(%error, "a poisonous record could not be read again; retrying");
                metrics::retried("kafka", "refetch");
                deliverer.handle.still_trying();
            }
        }
        backoff.wait().await;
    }
    None
}
