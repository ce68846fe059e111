//! How far a run has come.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::ledger::Outcome;

/// Latencies are kept in buckets of a fifth of an octave, from 1 microsecond to an hour.
const BUCKETS_AN_OCTAVE: f64 = 5.0;
const BUCKETS: usize = 160;

/// Counts since the start. `Display` is the progress line.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Time since the first request.
    pub elapsed: Duration,
    /// Requests made.
    pub requests: u64,
    /// Events sent, each attempt counted.
    pub sent: u64,
    /// Answered `accepted`, copies included.
    pub accepted: u64,
    /// Answered `rejected`, by code.
    pub rejected: BTreeMap<String, u64>,
    /// Told to come again, singly or as a whole request.
    pub retry: u64,
    /// The connection ended before the answer.
    pub unknown: u64,
    latencies: [u64; BUCKETS],
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            elapsed: Duration::ZERO,
            requests: 0,
            sent: 0,
            accepted: 0,
            rejected: BTreeMap::new(),
            retry: 0,
            unknown: 0,
            latencies: [0; BUCKETS],
        }
    }
}

impl Progress {
    /// Events accepted a second since the start.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.accepted as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    /// The latency that this share of the answered requests stayed below, to 15 %.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        let all: u64 = self.latencies.iter().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        for (bucket, count) in self.latencies.iter().enumerate() {
            if left <= *count {
                let octaves = (bucket + 1) as f64 / BUCKETS_AN_OCTAVE;
                return Duration::from_secs_f64(octaves.exp2() / 1e6);
            }
            left -= count;
        }
        Duration::ZERO
    }

    pub(crate) fn answered_after(&mut self, latency: Duration) {
        let octaves = (latency.as_secs_f64() * 1e6).max(1.0).log2();
        let bucket = (octaves * BUCKETS_AN_OCTAVE) as usize;
        self.latencies[bucket.min(BUCKETS - 1)] += 1;
    }

    pub(crate) fn count(&mut self, outcome: Outcome, code: Option<&str>) {
        self.sent += 1;
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Retry => self.retry += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Rejected => {
                *self
                    .rejected
                    .entry(code.unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent, {} accepted ({:.0}/s)",
            self.sent,
            self.accepted,
            self.rate()
        )?;
        let rejected: u64 = self.rejected.values().sum();
        write!(f, ", {rejected} rejected")?;
        for (index, (code, count)) in self.rejected.iter().enumerate() {
            write!(f, "{}{code} {count}", if index == 0 { " (" } else { ", " })?;
        }
        if rejected > 0 {
            f.write_str(")")?;
        }
        write!(
            f,
            ", {} retry, {} unknown, p50 {:.1?}, p99 {:.1?}",
            self.retry,
            self.unknown,
            self.latency(0.5),
            self.latency(0.99)
        )
    }
}
