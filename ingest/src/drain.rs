//! Sends what is in the spill to Kafka, once Kafka is back.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::metrics::DRAINED_RECORDS;
use crate::{
    clock::unix_millis_now,
    producer::{Failed, Producer, Room},
    spill::{Spill, unpack},
};

/// Records drained at a time; the next follow when Kafka has acknowledged these. A cluster that is just
/// back is not run over, and a librdkafka queue of 50 000 has room for live traffic.
const DRAINED_AT_ONCE: usize = 1_000;

/// How long the drain rests when there is nothing that it can do.
const REST: Duration = Duration::from_millis(500);

/// Brings what is in the spill to Kafka, in the order in which it came, whenever Kafka is up.
pub(crate) async fn drain(spill: Arc<Spill>, producer: Arc<Producer>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if !drain_some(&spill, &producer, &stop).await {
            stop.run_until_cancelled(tokio::time::sleep(REST)).await;
        }
    }
}

/// Returns `false` if there was nothing that could be done.
async fn drain_some(spill: &Spill, producer: &Producer, stop: &CancellationToken) -> bool {
    let state = spill.queue.state();
    if state.records == state.held_back || !producer.has_spare_room() {
        return false;
    }
    let not_before = unix_millis_now() - spill.max_age.as_millis() as i64;
    let Ok(found) = spill.queue.first(not_before, DRAINED_AT_ONCE).await else {
        return false;
    };
    let mut sending = producer.begin(None, Room::Any, None);
    let mut sent = Vec::with_capacity(found.len());
    for (index, spilled) in found.iter().enumerate() {
        match unpack(&spilled.record.bytes) {
            Some((kind, child, payload)) => {
                sending.send(index as u32, kind, child, payload);
                sent.push(Some(spilled.seq));
            }
            None => {
                tracing::error!("a record in the spill cannot be read and stays there");
                sent.push(None);
            }
        }
    }
    for Failed { index, .. } in sending.wait().await {
        sent[index as usize] = None;
    }
    let acknowledged: Vec<i64> = sent.into_iter().flatten().collect();
    if acknowledged.is_empty() {
        return false;
    }
    // Repeated until it succeeds. Otherwise records that Kafka has would be sent again.
    while spill.queue.remove(acknowledged.clone()).await.is_err() {
        let rest = tokio::time::sleep(Duration::from_secs(1));
        if stop.run_until_cancelled(rest).await.is_none() {
            return false;
        }
    }
    DRAINED_RECORDS.increment(acknowledged.len() as u64);
    true
}
