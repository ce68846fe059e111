//! What is known of a child that is watched, and what reading PostgreSQL again changes of it.
//!
//! A state depends only on the rows and on today's date, so two nodes send the same and give it the same digest. All
//! streams share its texts, however slowly they are read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{Days, NaiveDate};
use rivulet_events::{ChildId, ParentId};
use rivulet_zones::Zone;
use serde::Serialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::update::{Update, difference};

/// How many days up to today a new stream gets: as far back as events are accepted.
const DAYS: u64 = 31;

/// How many bytes of a child's days are kept, the newest ones, and how many bytes of older days one update may have. A
/// single day may have more, and is kept or sent all the same.
pub(crate) const BYTES: usize = 192 << 10;

/// JSON, and its hash.
#[derive(Clone)]
pub(crate) struct Text {
    json: Bytes,
    hash: u64,
}

impl Text {
    pub(crate) fn len(&self) -> usize {
        self.json.len()
    }

    pub(crate) fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        let json = serde_json::to_vec(value)?;
        Ok(Self {
            hash: xxh3_64(&json),
            json: json.into(),
        })
    }

    fn raw(&self) -> serde_json::Result<&RawValue> {
        serde_json::from_slice(&self.json)
    }
}

/// Days that have events.
pub(crate) type Rows = BTreeMap<NaiveDate, Text>;

/// What was read from PostgreSQL.
pub(crate) struct Seen {
    pub(crate) parent: ParentId,
    /// The family's time zone.
    pub(crate) timezone: Zone,
    /// Today's date in that time zone.
    pub(crate) today: NaiveDate,
    /// `null` where the family is shown none.
    pub(crate) streak: Text,
    pub(crate) rows: Rows,
    /// Whether all of [`window`] was read.
    pub(crate) is_whole: bool,
    /// Days that were read because something may have changed of them.
    pub(crate) heard: BTreeSet<NaiveDate>,
    /// Days that were not read, because the newer ones have so many bytes.
    pub(crate) unread: BTreeSet<NaiveDate>,
}

/// A child as a new stream gets it.
pub(crate) struct State {
    /// The parent who may see it, and no other.
    pub(crate) parent: ParentId,
    pub(crate) timezone: Zone,
    pub(crate) today: NaiveDate,
    /// The same on every node for the same state.
    pub(crate) digest: u128,
    child: ChildId,
    /// The first day that is kept.
    from: NaiveDate,
    rows: Rows,
    /// The hash of the streak.
    streak: u64,
    /// The JSON before the rows and after them.
    ends: [Bytes; 2],
}

/// The next state, and what to send.
pub(crate) struct Step {
    pub(crate) state: State,
    /// The data of the update for streams that have sent the state before; `None` if nothing is new.
    pub(crate) update: Option<Bytes>,
    /// Days for which this update has no room.
    pub(crate) left: BTreeSet<NaiveDate>,
}

/// The first and the last day that a new stream gets. The last is tomorrow, because the family's time zone may have
/// been another one.
pub(crate) fn window(today: NaiveDate) -> (NaiveDate, NaiveDate) {
    let first = today.checked_sub_days(Days::new(DAYS - 1));
    (first.unwrap_or(today), today.succ_opt().unwrap_or(today))
}

impl State {
    /// The first state of a child.
    pub(crate) fn new(child: ChildId, seen: &Seen) -> serde_json::Result<Self> {
        let (first, _) = window(seen.today);
        Self::of(child, seen.rows.clone(), first, seen)
    }

    /// The state of these rows from a day on, as far as there is room for them.
    fn of(
        child: ChildId,
        mut rows: Rows,
        first: NaiveDate,
        seen: &Seen,
    ) -> serde_json::Result<Self> {
        let (_, last) = window(seen.today);
        rows.retain(|date, _| (first..=last).contains(date));
        let mut from = first;
        let mut room = Room::default();
        for (date, row) in rows.iter().rev() {
            if !room.takes(row) {
                from = date.succ_opt().unwrap_or(*date);
                break;
            }
        }
        let rows = rows.split_off(&from);
        let days = from.iter_days().take_while(|date| *date <= last);
        let mut update = Update::new(child, seen.timezone, seen.today, Some(from));
        update
            .empty
            .extend(days.filter(|date| !rows.contains_key(date)));
        update.streak = Some(seen.streak.raw()?);
        let whole = serde_json::to_string(&update)?;
        // The rows are inserted where the JSON has an empty list. Nothing before it can look like this list.
        let none = "\"days\":[";
        let place = whole.find(none).map_or(0, |place| place + none.len());
        let mut ends = [Bytes::new(), whole.into()];
        let [before, after] = &mut ends;
        *before = after.split_to(place);
        let mut state = Self {
            parent: seen.parent,
            timezone: seen.timezone,
            today: seen.today,
            digest: 0,
            child,
            from,
            rows,
            streak: seen.streak.hash,
            ends,
        };
        state.digest = state.hash();
        Ok(state)
    }

    fn hash(&self) -> u128 {
        let mut hash = Xxh3::new();
        hash.update(self.timezone.name().as_bytes());
        hash.update(self.today.to_string().as_bytes());
        hash.update(&self.streak.to_le_bytes());
        for (day, row) in &self.rows {
            hash.update(day.to_string().as_bytes());
            hash.update(&row.hash.to_le_bytes());
        }
        hash.digest128()
    }

    /// Whether a new stream gets this day, if it has events.
    pub(crate) fn keeps(&self, date: NaiveDate) -> bool {
        let (_, last) = window(self.today);
        (self.from..=last).contains(&date)
    }

    /// What a new stream gets, in pieces.
    pub(crate) fn whole(&self) -> Vec<Bytes> {
        let [before, after] = &self.ends;
        let mut pieces = vec![before.clone()];
        for row in self.rows.values() {
            if pieces.len() > 1 {
                pieces.push(Bytes::from_static(b","));
            }
            pieces.push(row.json.clone());
        }
        pieces.push(after.clone());
        pieces
    }

    /// The state after this one.
    pub(crate) fn next(&self, seen: &Seen) -> serde_json::Result<Step> {
        let state = if seen.is_whole {
            Self::new(self.child, seen)?
        } else {
            let mut rows = self.rows.clone();
            rows.retain(|date, _| !seen.heard.contains(date));
            rows.extend(seen.rows.clone());
            Self::of(self.child, rows, self.from, seen)?
        };
        let mut update = Update::new(self.child, seen.timezone, seen.today, None);
        for (date, row) in &state.rows {
            match self.rows.get(date) {
                Some(before) if before.hash == row.hash => {}
                Some(before) => update.days.push(difference(before.raw()?, row.raw()?)?),
                None => update.days.push(row.raw()?.to_owned()),
            }
        }
        let gone = |date: &&NaiveDate| state.keeps(**date) && !state.rows.contains_key(date);
        update.empty.extend(self.rows.keys().filter(gone));
        // What was sent of other days is not known, so they are sent whole.
        let mut left = seen.heard.clone();
        left.retain(|date| !state.keeps(*date));
        let mut room = Room::default();
        while let Some(date) = left.first().copied() {
            match seen.rows.get(&date) {
                Some(row) if !room.takes(row) => break,
                Some(row) => update.days.push(row.raw()?.to_owned()),
                None => update.empty.push(date),
            }
            left.remove(&date);
        }
        if state.streak != self.streak {
            update.streak = Some(seen.streak.raw()?);
        }
        let is_same =
            state.digest == self.digest && update.days.is_empty() && update.empty.is_empty();
        let update = match is_same {
            true => None,
            false => Some(serde_json::to_vec(&update)?.into()),
        };
        Ok(Step {
            state,
            update,
            left,
        })
    }
}

/// The room for rows, which are added one after another.
#[derive(Default)]
struct Room(usize);

impl Room {
    /// Whether there is room for this one too.
    fn takes(&mut self, row: &Text) -> bool {
        let is_first = self.0 == 0;
        self.0 += row.json.len();
        is_first || self.0 <= BYTES
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// A row of about so many bytes.
    fn row(date: NaiveDate, events: u64, bytes: usize) -> Text {
        let topic = "x".repeat(bytes);
        Text::of(&json!({"local_date": date, "events": events, "topic": topic})).unwrap()
    }

    fn seen(rows: impl IntoIterator<Item = (NaiveDate, Text)>, heard: &[NaiveDate]) -> Seen {
        Seen {
            parent: ParentId::new(Uuid::nil()),
            timezone: Zone::utc(),
            today: day("2026-05-31"),
            streak: Text::of(&Value::Null).unwrap(),
            rows: rows.into_iter().collect(),
            is_whole: heard.is_empty(),
            heard: heard.iter().copied().collect(),
            unread: BTreeSet::new(),
        }
    }

    fn whole(state: &State) -> Value {
        serde_json::from_slice(&state.whole().concat()).unwrap()
    }

    fn dates(update: &Value) -> Vec<NaiveDate> {
        let days = update["days"].as_array().unwrap().iter();
        days.map(|row| day(row["local_date"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_not_is_told_whole() {
        let child = ChildId::new(Uuid::new_v4());
        let month: Vec<_> = day("2026-05-01").iter_days().take(32).collect();
        let rows = |bytes: usize| month.iter().map(move |date| (*date, row(*date, 1, bytes)));
        let state = State::new(child, &seen(rows(50_000), &[])).unwrap();
        // Three of them, up to tomorrow.
        let told = whole(&state);
        assert_eq!(dates(&told), &month[29..]);
        assert_eq!(
            (&told["from"], &told["empty"]),
            (&json!("2026-05-30"), &json!([]))
        );
        let alone = State::new(child, &seen(rows(BYTES + 1), &[])).unwrap();
        assert_eq!(dates(&whole(&alone)), &month[31..]);

        // Old days are told as far as there is room, each for as long as it takes; a day that is kept is a
        // difference.
        let heard = [month[0], month[3], month[4], month[5], month[6], month[30]];
        let next = seen(rows(50_000).take(30), &heard);
        let mut step = state.next(&next).unwrap();
        let update: Value = serde_json::from_slice(&step.update.take().unwrap()).unwrap();
        assert_eq!(update["empty"], json!([month[30]]));
        assert_eq!(dates(&update), [month[0], month[3], month[4]]);
        assert_eq!(step.left, BTreeSet::from([month[5], month[6]]));
        // As whoever comes now is told.
        let fresh: Rows = rows(50_000)
            .filter(|(date, _)| *date != month[30])
            .collect();
        let fresh = State::new(child, &seen(fresh, &[])).unwrap();
        assert_ne!(step.state.digest, state.digest);
        assert_eq!(dates(&whole(&fresh)), [month[28], month[29], month[31]]);

        // One that grows is a difference to those who know it, and takes the room of others.
        let grown = seen([(month[31], row(month[31], 2, 120_000))], &month[31..]);
        let step = state.next(&grown).unwrap();
        let update: Value = serde_json::from_slice(&step.update.unwrap()).unwrap();
        assert_eq!(update["days"][0]["partial"], true);
        assert_eq!(dates(&whole(&step.state)), &month[30..]);
        assert!(
            state
                .next(&seen(rows(50_000), &[]))
                .unwrap()
                .update
                .is_none()
        );
    }

    #[test]
    fn another_day_is_told_though_nothing_was_committed() {
        let child = ChildId::new(Uuid::new_v4());
        let rows = [(day("2026-05-01"), row(day("2026-05-01"), 1, 10))];
        let before = State::new(child, &seen(rows.clone(), &[])).unwrap();
        let mut next = seen(rows, &[]);
        next.today = day("2026-06-01");
        next.streak = Text::of(&json!({"streak_today": 0})).unwrap();
        let step = before.next(&next).unwrap();
        let update: Value = serde_json::from_slice(&step.update.unwrap()).unwrap();
        assert_eq!(
            update,
            json!({"child_id": child.uuid(), "timezone": "UTC", "today": "2026-06-01", "whole": false,
                   "days": [], "empty": [], "streak": {"streak_today": 0}})
        );
        // It is too old now for whoever comes, and still there for who knows it.
        assert_eq!(dates(&whole(&step.state)), []);
    }
}
