//! From an event to its record: the event time, the id-day and the child's local date.
//!
//! The device's clock is corrected for its skew. An event slightly ahead of the server's clock is pulled back, and one
//! outside of the accepted window is rejected.

use crate::{
    admission::Admitted,
    ids::{Identity, LATEST_ID_DAY, OLDEST_ID_DAY, date_of, utc, v7_millis},
    record::{Record, SCHEMA_VERSION},
    rejection::{Code, Rejection},
};

/// A device clock off by up to this is believed, milliseconds.
const SKEW_TOLERATED: i64 = 60_000;
/// An event this far ahead is pulled back to now, milliseconds; further is `in_future`.
const AHEAD_TOLERATED: i64 = 5 * 60_000;
/// Oldest event taken, milliseconds.
const OLDEST: i64 = 30 * 86_400_000;

/// The clocks of one request, Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// This server's.
    pub received_at: i64,
    /// The device's, at this attempt.
    pub sent_at: Option<i64>,
}

impl Clocks {
    /// The event's time: corrected for skew, pulled back to now where slightly ahead.
    ///
    /// # Errors
    /// `too_old` or `in_future`.
    pub fn event_time(&self, occurred_at: i64) -> Result<i64, Rejection> {
        let skew = self
            .sent_at
            .map_or(0, |sent_at| self.received_at.saturating_sub(sent_at));
        let time = if skew.saturating_abs() > SKEW_TOLERATED {
            occurred_at.saturating_add(skew)
        } else {
            occurred_at
        };
        if time > self.received_at + AHEAD_TOLERATED {
            return Err(in_future(
                "it happened more than 5 minutes ahead of the server's clock".to_owned(),
            ));
        }
        if time < self.received_at - OLDEST {
            return Err(too_old("it happened more than 30 days ago".to_owned()));
        }
        Ok(time.min(self.received_at))
    }
}

impl<'a> Admitted<'_, 'a> {
    /// Makes the event's record. This fixes its event time, its local date and its identity for ever.
    ///
    /// # Errors
    /// `too_old` or `in_future`.
    pub fn into_record(self, clocks: &Clocks) -> Result<Record<'a>, Rejection> {
        let (event, who) = self.into_parts();
        let kind = event.event_type();
        let event_time = clocks.event_time(event.occurred_at)?;
        let identity = Identity::of(kind, event.child_id, event.id, event.occurred_at);
        if clocks.sent_at.is_none() && !identity.is_timely(date_of(clocks.received_at)) {
            let made_at = v7_millis(event.id).unwrap_or(event.occurred_at);
            return Err(if made_at > clocks.received_at {
                in_future(format!(
                    "its id was made more than {LATEST_ID_DAY} day ahead of the server's clock"
                ))
            } else {
                too_old(format!(
                    "its id was made more than {OLDEST_ID_DAY} days ago"
                ))
            });
        }
        Ok(Record {
            v: SCHEMA_VERSION,
            event_type: kind,
            id: event.id,
            child_id: event.child_id,
            parent_id: who.parent_id,
            age_group: who.age_group,
            session_id: event.session_id,
            occurred_at: event.occurred_at,
            event_time,
            received_at: clocks.received_at,
            local_date: utc(event_time).with_timezone(&who.timezone).date_naive(),
            analytics: who.analytics,
            consent_version: who.consent_version(kind),
            consent_epoch: who.consent_epoch,
            device: event.device,
            attributes: event.attributes,
            data: event.data,
        })
    }
}

fn too_old(message: String) -> Rejection {
    Rejection::at(Code::TooOld, "/occurred_at", message + SENT_AT)
}

fn in_future(message: String) -> Rejection {
    Rejection::at(Code::InFuture, "/occurred_at", message + SENT_AT)
}

/// What a client can do if its clock is wrong, whether it is ahead or behind.
const SENT_AT: &str = "; send `sent_at` if the device's clock is off";
