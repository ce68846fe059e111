//! Records that Kafka does not take now, on this node's disk until it does.
//!
//! Whatever is spilled may also be in Kafka: a delivery that timed out may have succeeded, and a crash
//! may come between a drained record's acknowledgement and its removal. Copies are harmless, they
//! have one identity and are counted once.
//!
//! New events do not wait for the spill to run empty: they go to Kafka as soon as it is back, beside
//! what is drained, and so may overtake it. No number depends on the order in which events arrive.

use std::{path::PathBuf, time::Duration};

use parking_lot::Mutex;
use rivulet_events::{ChildId, EventType};
use rivulet_spill::{OpenError, Record, Refused};

use crate::clock::unix_millis_now;
use crate::metrics::{
    SPILL_BYTES, SPILL_DAMAGED_RECORDS, SPILL_HAS_ROOM, SPILL_HELD_BACK_RECORDS,
    SPILL_OLDEST_SECONDS, SPILL_RECORDS, SPILL_REFUSED_RECORDS, SPILLED_RECORDS,
};

/// How long an answer waits for the disk.
pub(crate) const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// Where records are spilled, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillConfig {
    /// A directory of this process's own. Made where it is not there, and made private.
    pub dir: PathBuf,
    /// Bytes of disk; beyond it events are answered `retry`.
    pub max_bytes: u64,
    /// Older records are held back, and an alarm raised: the aggregator, which has to know this
    /// number too, may have forgotten whether it has counted them.
    pub max_age: Duration,
}

/// The spill of a process.
pub(crate) struct Spill {
    pub(crate) queue: rivulet_spill::Spill,
    pub(crate) max_age: Duration,
    alarmed: Mutex<bool>,
}

impl Spill {
    /// Blocks while the disk is read.
    pub(crate) fn open(config: &SpillConfig) -> Result<Self, OpenError> {
        let queue = rivulet_spill::Spill::open(&config.dir, config.max_bytes)?;
        let records = queue.state().records;
        tracing::info!(records, "the spill is on, with records from before");
        Ok(Self {
            queue,
            max_age: config.max_age,
            alarmed: Mutex::new(false),
        })
    }

    /// Whether it would take records, or why not.
    pub(crate) fn has_room(&self) -> Result<(), Refused> {
        self.queue.has_room()
    }

    /// Writes records that Kafka did not take to the disk, all of them or none. Returns whether they are there.
    pub(crate) async fn keep(&self, received_at: i64, records: Vec<Vec<u8>>) -> bool {
        if records.is_empty() {
            return true;
        }
        let count = records.len() as u64;
        let record = |bytes| Record {
            since: received_at,
            bytes,
        };
        let records = records.into_iter().map(record).collect();
        let kept = tokio::time::timeout(DISK_TIMEOUT, self.queue.append(records)).await;
        let reason = match kept {
            Ok(Ok(())) => {
                SPILLED_RECORDS.increment(count);
                return true;
            }
            Ok(Err(Refused::Full)) => "full",
            Ok(Err(Refused::NoRoom)) => "no_room",
            Ok(Err(Refused::Disk)) => "disk",
            Ok(Err(Refused::Closed)) => "closed",
            // The records may be on the disk all the same.
            Err(_) => "timeout",
        };
        SPILL_REFUSED_RECORDS.with([reason]).increment(count);
        false
    }

    /// Reports the state of the spill as metrics, and logs an error when its records get too old.
    pub(crate) fn observe(&self) {
        let state = self.queue.state();
        let age = state.oldest.map_or(0, |oldest| unix_millis_now() - oldest);
        SPILL_RECORDS.set(state.records as f64);
        SPILL_BYTES.set(state.bytes as f64);
        SPILL_HELD_BACK_RECORDS.set(state.held_back as f64);
        SPILL_DAMAGED_RECORDS.set(state.damaged as f64);
        SPILL_OLDEST_SECONDS.set(age.max(0) as f64 / 1e3);
        SPILL_HAS_ROOM.set(f64::from(u8::from(self.has_room().is_ok())));
        let too_old = age > self.max_age.as_millis() as i64;
        let alarmed = std::mem::replace(&mut *self.alarmed.lock(), too_old);
        if too_old && !alarmed {
            tracing::error!(
                max_age = ?self.max_age,
                "the spill holds records above its largest age: they are held back, not dropped, until \
                 the largest age of ingest and aggregate is raised"
            );
        }
    }

    /// Closes the files. Returns how many records stay on the disk.
    pub(crate) async fn close(&self) -> u64 {
        self.queue.close().await;
        self.queue.state().records
    }
}

/// The bytes of a record in the spill: a line with its type and child, then what Kafka would have got.
pub(crate) fn pack(kind: EventType, child: &[u8], payload: &[u8]) -> Vec<u8> {
    let parts = [kind.as_str().as_bytes(), b" ", child, b"\n", payload];
    parts.concat()
}

pub(crate) fn unpack(bytes: &[u8]) -> Option<(EventType, ChildId, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (kind, child) = str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    let child = ChildId::new(child.parse().ok()?);
    Some((EventType::from_word(kind)?, child, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        for kind in EventType::ALL {
            let child = Uuid::new_v4();
            let packed = pack(*kind, child.to_string().as_bytes(), b"{\"a\":\n1}");
            let (kind_, child_, payload) = unpack(&packed).unwrap();
            assert_eq!(
                (kind_, child_.uuid(), payload),
                (*kind, child, &b"{\"a\":\n1}"[..])
            );
        }
        for strange in ["", "speech", "speech x\n{}", "sound 0-0\n"] {
            assert!(unpack(strange.as_bytes()).is_none());
        }
    }
}
