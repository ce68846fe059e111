//! Which days of which children a commit has changed, as the aggregator tells it with NOTIFY and the
//! read API hears it.

use chrono::NaiveDate;
use uuid::Uuid;

use crate::ChildId;

/// The channel. PostgreSQL delivers at commit, in commit order, and nothing of what was rolled back.
pub const CHANNEL: &str = "rivulet_days";

/// PostgreSQL takes payloads below 8 000 bytes.
const PAYLOAD_BYTES: usize = 7_999;

/// A UUID, a space, a date and the end of the line.
const LINE_BYTES: usize = 36 + 1 + 10 + 1;

/// Payloads that tell of these days, each as long as may be.
#[must_use]
pub fn payloads(days: impl IntoIterator<Item = (ChildId, NaiveDate)>) -> Vec<String> {
    use std::fmt::Write as _;
    let mut payloads: Vec<String> = Vec::new();
    for (child, day) in days {
        let full = |payload: &String| payload.len() + LINE_BYTES > PAYLOAD_BYTES;
        if payloads.last().is_none_or(full) {
            payloads.push(String::with_capacity(PAYLOAD_BYTES));
        }
        if let Some(payload) = payloads.last_mut() {
            // To a string, which takes everything.
            let _ = writeln!(payload, "{} {day}", child.uuid());
        }
    }
    payloads
}

/// The days that a payload tells of. A line that is none was written by a later release, and is
/// passed over.
pub fn days(payload: &str) -> impl Iterator<Item = (ChildId, NaiveDate)> {
    payload.lines().filter_map(|line| {
        let (child, day) = line.split_once(' ')?;
        let child = ChildId::new(child.parse::<Uuid>().ok()?);
        Some((child, day.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_and_fits() {
        let start: NaiveDate = "2026-01-31".parse().unwrap();
        let told: Vec<_> = start
            .iter_days()
            .take(1_000)
            .map(|day| (ChildId::new(Uuid::new_v4()), day))
            .collect();
        let payloads = payloads(told.clone());
        assert_eq!(payloads.len(), 7);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let heard: Vec<_> = payloads.iter().flat_map(|payload| days(payload)).collect();
        assert_eq!(heard, told);
        assert_eq!(days("of another kind\n\n").count(), 0);
    }
}
