//! What every table must hold, told from a ledger by the plainest code there is.
//!
//! Written from the tables of docs/contract.md alone ("Events", "PostgreSQL") and sharing nothing with the code
//! that it checks: one event at a time, into maps of maps of JSON, with no thought for speed.

mod tables;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
};

use chrono::{DateTime, NaiveDate, TimeDelta};
use rivulet_zones::Zone;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    family::Consents,
    ledger::{self, Attempt, Line, Outcome, Sent},
};

pub use tables::{Counted, Rows, Tables, tables};

/// What makes copies one event: type, child, id and id-day, separated by `|`.
pub type Identity = String;

/// A ledger, read: who there is, and each distinct event that may be stored.
#[derive(Default)]
pub struct Account {
    /// By child; unregistered ones are not here.
    pub children: HashMap<Uuid, ChildInfo>,
    /// By identity.
    pub events: BTreeMap<Identity, Entry>,
    /// Answers that docs/contract.md, "Posting events", does not allow, in words.
    pub wrong_answers: Vec<String>,
    gone: Gone,
    /// Children of parents who withdrew `coppa`; those who withdrew `audio`.
    withdrawn: [BTreeSet<Uuid>; 2],
}

/// Of whom something goes while the ledger is written: it is not taken in, since it may not be stored, and what its events
/// were answered depends on the moment.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    /// Children who are erased.
    pub erased: BTreeSet<Uuid>,
    /// Parents with the consents that they withdraw.
    pub withdrawn: BTreeMap<Uuid, Consents>,
}

/// What the registry was told of a child.
#[derive(Clone, Debug)]
pub struct ChildInfo {
    /// Its parent.
    pub parent_id: Uuid,
    /// Its age group.
    pub age_group: String,
    /// The parent's zone.
    pub zone: Zone,
    /// The parent's consents.
    pub consents: Consents,
}

/// A distinct event.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As sent.
    pub event: Value,
    /// Some copy was answered `accepted`: it must be stored. Else it may be.
    pub accepted: bool,
    /// Every attempt that may have stored it.
    pub attempts: Vec<Attempt>,
}

impl Account {
    /// Reads ledgers and checks each answer in them against docs/contract.md, "Posting events".
    ///
    /// # Errors
    /// A file cannot be read or is no ledger.
    pub fn read(ledgers: &[PathBuf]) -> io::Result<Self> {
        Self::read_without(ledgers, Gone::default())
    }

    /// The same without what went meanwhile.
    ///
    /// # Errors
    /// A file cannot be read or is no ledger.
    pub fn read_without(ledgers: &[PathBuf], gone: Gone) -> io::Result<Self> {
        let mut account = Self {
            gone,
            ..Self::default()
        };
        for path in ledgers {
            for line in ledger::read(path)? {
                account.add(line?);
            }
        }
        Ok(account)
    }

    /// Takes one line in.
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Family(mut family) if family.registered => {
                if let Some(withdrawn) = self.gone.withdrawn.get(&family.parent_id) {
                    let children = family.children.iter().map(|(child, _)| *child);
                    for (set, is_withdrawn) in self
                        .withdrawn
                        .iter_mut()
                        .zip([withdrawn.coppa, withdrawn.audio])
                    {
                        set.extend(children.clone().filter(|_| is_withdrawn));
                    }
                    // What the history has lost counts as withheld from it.
                    family.consents.analytics &= !withdrawn.analytics;
                }
                for (child, age_group) in family.children {
                    let info = ChildInfo {
                        parent_id: family.parent_id,
                        age_group,
                        zone: family.timezone,
                        consents: family.consents,
                    };
                    self.children.insert(child, info);
                }
            }
            Line::Family(_) => {}
            Line::Event(sent) => self.add_event(sent),
        }
    }

    fn add_event(&mut self, sent: Sent) {
        let event: Value = serde_json::from_str(&sent.event).unwrap_or_default();
        let event_type = event["type"].as_str().unwrap_or_default();
        if child_of(&event).is_some_and(|child| self.is_gone(child, event_type)) {
            return;
        }
        for attempt in &sent.attempts {
            let allowed = match (attempt.outcome, attempt.received_at) {
                (Outcome::Retry | Outcome::Unknown, _) => continue,
                (_, None) => Err("no received_at"),
                (_, Some(received_at)) => {
                    self.judge(&event, sent.flaw.as_deref(), attempt.sent_at, received_at)
                }
            };
            let given = match attempt.outcome {
                Outcome::Accepted => Ok(()),
                _ => Err(attempt.code.as_deref().unwrap_or("no code")),
            };
            let expected = allowed.as_ref().map(|_| ()).map_err(|code| *code);
            if given != expected {
                let event = &sent.event;
                self.wrong_answers.push(format!(
                    "{given:?} instead of {expected:?}: {event} {attempt:?}"
                ));
            }
        }
        let stored = |attempt: &Attempt| attempt.outcome != Outcome::Rejected;
        if sent.flaw.is_some() || !sent.attempts.iter().any(stored) {
            return;
        }
        let Some(child) = child_of(&event).and_then(|id| self.children.get(&id)) else {
            return;
        };
        if !child.consents.coppa || (event["type"] == "speech" && !child.consents.audio) {
            return;
        }
        let entry = self
            .events
            .entry(identity(&event))
            .or_insert_with(|| Entry {
                event,
                accepted: false,
                attempts: Vec::new(),
            });
        entry.accepted |= sent
            .attempts
            .iter()
            .any(|attempt| attempt.outcome == Outcome::Accepted);
        entry
            .attempts
            .extend(sent.attempts.into_iter().filter(stored));
    }

    /// Whether nothing may be stored of events of this type of a child.
    #[must_use]
    pub fn is_gone(&self, child: Uuid, event_type: &str) -> bool {
        let [of_all, of_speech] = &self.withdrawn;
        self.gone.erased.contains(&child)
            || of_all.contains(&child)
            || event_type == "speech" && of_speech.contains(&child)
    }

    /// The event's time, or the code it must be refused with.
    fn judge(
        &self,
        event: &Value,
        flaw: Option<&str>,
        sent_at: Option<i64>,
        received_at: i64,
    ) -> Result<i64, &'static str> {
        const FLAWS: [&str; 6] = [
            "too_large",
            "invalid_json",
            "raw_audio_forbidden",
            "unknown_type",
            "missing_field",
            "invalid_field",
        ];
        if let Some(flaw) = flaw {
            return Err(FLAWS
                .into_iter()
                .find(|code| *code == flaw)
                .unwrap_or("unknown flaw"));
        }
        let child = child_of(event)
            .and_then(|id| self.children.get(&id))
            .ok_or("unknown_child")?;
        if !child.consents.coppa || (event["type"] == "speech" && !child.consents.audio) {
            return Err("consent_required");
        }
        let time = event_time(occurred_at(event), sent_at, received_at)?;
        if sent_at.is_none() {
            let (day, today) = (id_day(event), date(received_at));
            if day < today - TimeDelta::days(34) {
                return Err("too_old");
            }
            if day > today + TimeDelta::days(1) {
                return Err("in_future");
            }
        }
        Ok(time)
    }
}

impl Entry {
    /// When it was received and when it happened, if every attempt that may have stored it agrees
    /// or there was but one; else only a store can tell which copy came first.
    #[must_use]
    pub fn settled(&self) -> Option<(i64, i64)> {
        match self.attempts.as_slice() {
            [
                Attempt {
                    outcome: Outcome::Accepted,
                    sent_at,
                    received_at: Some(received),
                    ..
                },
            ] => {
                let time = event_time(occurred_at(&self.event), *sent_at, *received);
                time.ok().map(|time| (*received, time))
            }
            _ => None,
        }
    }

    /// Whether a copy received then, with this time, can have come from one of the attempts.
    #[must_use]
    pub fn explains(&self, received_at: i64, time: i64) -> bool {
        self.attempts.iter().any(|attempt| {
            let then = match attempt.received_at {
                Some(known) => known == received_at,
                // A server may read a request after its sender has given up. What is bounded is
                // that it was not before it began.
                None => attempt.began_at <= received_at,
            };
            let derived = event_time(occurred_at(&self.event), attempt.sent_at, received_at);
            then && derived == Ok(time)
        })
    }
}

/// The event time (docs/contract.md, "Time"): corrected for skew, pulled back to now where slightly ahead.
fn event_time(
    occurred_at: i64,
    sent_at: Option<i64>,
    received_at: i64,
) -> Result<i64, &'static str> {
    let mut time = occurred_at;
    if let Some(sent_at) = sent_at
        && (received_at - sent_at).abs() > 60_000
    {
        time += received_at - sent_at;
    }
    if time > received_at + 5 * 60_000 {
        return Err("in_future");
    }
    if time < received_at - 30 * 86_400_000 {
        return Err("too_old");
    }
    Ok(time.min(received_at))
}

/// What makes copies of this event one.
#[must_use]
pub fn identity(event: &Value) -> Identity {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    format!(
        "{}|{}|{}|{}",
        text("type"),
        text("child_id"),
        text("id"),
        id_day(event)
    )
}

fn id_day(event: &Value) -> NaiveDate {
    let id = event["id"].as_str().unwrap_or_default().replace('-', "");
    let is_v7 =
        id.get(12..13) == Some("7") && matches!(id.get(16..17), Some("8" | "9" | "a" | "b"));
    let millis = if is_v7 {
        id.get(..12)
            .and_then(|hex| i64::from_str_radix(hex, 16).ok())
            .unwrap_or_default()
    } else {
        occurred_at(event)
    };
    let day = date(millis);
    if ("2025-01-01".."2038-01-01").contains(&day.to_string().as_str()) {
        day
    } else {
        NaiveDate::default()
    }
}

fn child_of(event: &Value) -> Option<Uuid> {
    event["child_id"].as_str()?.parse().ok()
}

fn occurred_at(event: &Value) -> i64 {
    let text = event["occurred_at"].as_str().unwrap_or_default();
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.timestamp_millis())
        .unwrap_or_default()
}

fn date(millis: i64) -> NaiveDate {
    DateTime::from_timestamp_millis(millis)
        .unwrap_or_default()
        .date_naive()
}
