//! What became of accepted events: counted or a copy, and in the history after how long.
//!
//! It asks the stores for all that is open at once, and only as long as something is. PostgreSQL tells where the consumers
//! are and which identities are counted, in one snapshot, and ClickHouse, asked after that, which copy of an event it has.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};
use chrono::{DateTime, NaiveDate, Utc};
use clickhouse::Row;
use rivulet_events::{EventType, Identity, ids::RESET_CLOCK_DAY};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgBindIterExt as _};
use uuid::Uuid;

use crate::{Durability, Observation};

/// Events whose fate is open, at most. Beyond it the oldest stays unknown.
const MOST_OPEN: usize = 1_000;

/// Events that are remembered, so that a copy of one of them is known as that.
const MOST_KNOWN: usize = 4_000;

/// What became of an accepted event, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// In PostgreSQL.
    pub rollups: Rollups,
    /// In ClickHouse; null where nobody said where that is.
    pub history: Option<History>,
    /// The offset of the copy that counts, where this one does not.
    pub duplicate_of: Option<i64>,
    /// Milliseconds from its arrival until it was first seen in the history, where one looks once a second.
    pub history_after_ms: Option<i64>,
}

/// What the aggregator made of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollups {
    /// It has not come to it yet.
    Waiting,
    /// It is counted.
    Counted,
    /// Another copy of it is counted.
    Duplicate,
    /// The consumer passed it, and it is not counted: `rivulet trace` says why.
    NotCounted,
    /// It was not looked for to the end: too many were open.
    Unknown,
}

/// What the sink made of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// It has not come to it yet.
    Waiting,
    /// It is there.
    Stored,
    /// Another copy of it is there.
    Duplicate,
    /// Kept out, because `analytics` is not granted.
    Withheld,
    /// The consumer passed it, and it is not there: `rivulet trace` says why.
    NotStored,
    /// It was not looked for to the end: too many were open.
    Unknown,
}

impl Fate {
    const UNKNOWN: Self = Self {
        rollups: Rollups::Unknown,
        history: Some(History::Unknown),
        duplicate_of: None,
        history_after_ms: None,
    };

    /// Whether it will not change any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.rollups != Rollups::Waiting && self.history != Some(History::Waiting)
    }
}

/// Why it cannot be said now what became of events.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL does not answer.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] sqlx::Error),
    /// ClickHouse does not answer.
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] clickhouse::error::Error),
}

/// Partition and offset.
type Place = (i32, i64);

/// Follows accepted events, the newest 1 000 of those whose fate is open.
pub struct Fates {
    pool: PgPool,
    clickhouse: Option<clickhouse::Client>,
    open: VecDeque<Open>,
    /// Of each identity that was seen here, its copy of the lowest offset.
    known: AHashMap<Identity, Place>,
    /// The same identities, the oldest first.
    order: VecDeque<Identity>,
}

struct Open {
    number: u64,
    identity: Identity,
    kind: EventType,
    child: Uuid,
    id: Uuid,
    topic: String,
    /// `None` of an event that was spilled.
    place: Option<Place>,
    is_withheld: bool,
    received_at: DateTime<Utc>,
    told: Option<Fate>,
}

/// What the stores say of an event.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Since when its identity is counted.
    counted_on: Option<NaiveDate>,
    /// Whether the consumers have passed it.
    aggregated: bool,
    sunk: bool,
    /// The copy that the history has.
    row: Option<Place>,
    /// The copy of the lowest offset that was seen here.
    known: Option<Place>,
}

impl Fates {
    /// Asks these stores; without ClickHouse nothing is known of the history.
    #[must_use]
    pub fn new(pool: PgPool, clickhouse: Option<clickhouse::Client>) -> Self {
        Self {
            pool,
            clickhouse,
            open: VecDeque::new(),
            known: AHashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether the fate of an event is open.
    #[must_use]
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Follows an event from now on, if something of it was stored; `number` names it. Returns the number of an event that
    /// is given up for it, with what is told of that.
    pub fn add(&mut self, number: u64, seen: &Observation) -> Option<(u64, Fate)> {
        let (Some(identity), true) = (seen.identity(), seen.is_stored()) else {
            return None;
        };
        let (Some(kind), Some(child), Some(id)) = (seen.kind(), seen.child_id, seen.id) else {
            return None;
        };
        let place = match seen.durability {
            Some(Durability::Spilled) => None,
            None => Some((seen.partition?, seen.offset?)),
        };
        if let Some(place) = place {
            self.know(identity, place);
        }
        self.open.push_back(Open {
            number,
            identity,
            kind,
            child,
            id,
            topic: seen.topic.clone().unwrap_or_default(),
            place,
            is_withheld: seen.withheld,
            received_at: seen.received_at,
            told: None,
        });
        if self.open.len() <= MOST_OPEN {
            return None;
        }
        let oldest = self.open.pop_front()?;
        Some((oldest.number, Fate::UNKNOWN))
    }

    fn know(&mut self, identity: Identity, place: Place) {
        if let Some(known) = self.known.get_mut(&identity) {
            if known.0 == place.0 && place.1 < known.1 {
                *known = place;
            }
            return;
        }
        self.known.insert(identity, place);
        self.order.push_back(identity);
        if self.order.len() > MOST_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Looks for all that is open: two queries, and one of ClickHouse. Returns what is new, each with its number; what is
    /// settled is followed no more.
    ///
    /// # Errors
    /// A store does not answer. It may be asked again.
    pub async fn look(&mut self) -> Result<Vec<(u64, Fate)>, Error> {
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        let (positions, counted) = self.postgres().await?;
        // After PostgreSQL: what the sink had passed by then is there by now.
        let rows = self.history().await?;
        let now = Utc::now();
        let mut news = Vec::new();
        for open in &mut self.open {
            let passed = |consumer: &str| {
                open.place.is_some_and(|(partition, offset)| {
                    let place = (consumer.to_owned(), open.topic.clone(), partition);
                    positions.get(&place).is_some_and(|next| *next > offset)
                })
            };
            let found = Found {
                counted_on: counted.get(&open.identity.key).copied(),
                aggregated: passed("aggregator"),
                sunk: passed("history"),
                row: rows.get(&open.identity).copied(),
                known: self.known.get(&open.identity).copied(),
            };
            let mut fate = open.judge(found);
            if self.clickhouse.is_none() {
                fate.history = None;
            }
            if fate.history == Some(History::Stored) {
                let before = open.told.and_then(|told| told.history_after_ms);
                let now = (now - open.received_at).num_milliseconds().max(0);
                fate.history_after_ms = Some(before.unwrap_or(now));
            }
            if open.told != Some(fate) {
                open.told = Some(fate);
                news.push((open.number, fate));
            }
        }
        let is_open = |open: &Open| !open.told.is_some_and(|told| told.is_settled());
        self.open.retain(is_open);
        Ok(news)
    }

    /// Where the consumers are, and since which day identities are counted, as of one moment.
    async fn postgres(&self) -> Result<(Positions, AHashMap<[u8; 16], NaiveDate>), sqlx::Error> {
        let days: AHashSet<NaiveDate> = self
            .open
            .iter()
            .map(|open| open.identity.day)
            // There are the identities of days that have no partition.
            .chain([RESET_CLOCK_DAY])
            .collect();
        let topics: AHashSet<&str> = self.open.iter().map(|open| &*open.topic).collect();
        let keys = self.open.iter();
        let keys = keys.map(|open| Uuid::from_bytes(open.identity.key));
        let mut tx = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        type Row = (String, String, i32, i64);
        let positions: Vec<Row> = sqlx::query_as(
            "SELECT consumer, topic, partition, next_offset FROM kafka_positions WHERE topic = ANY ($1)",
        )
        .bind(topics.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
        let counted: Vec<(Uuid, NaiveDate)> = sqlx::query_as(
            "SELECT key, seen_on FROM event_seen WHERE day = ANY ($1) AND key = ANY ($2)",
        )
        .bind(days.into_iter().collect::<Vec<_>>())
        .bind(keys.bind_iter())
        .fetch_all(&mut *tx)
        .await?;
        let position =
            |(consumer, topic, partition, next): Row| ((consumer, topic, partition), next);
        let counted = counted
            .into_iter()
            .map(|(key, day)| (key.into_bytes(), day));
        Ok((
            positions.into_iter().map(position).collect(),
            counted.collect(),
        ))
    }

    /// Which copies of the events the history has.
    async fn history(&self) -> Result<AHashMap<Identity, Place>, clickhouse::error::Error> {
        let Some(clickhouse) = &self.clickhouse else {
            return Ok(AHashMap::new());
        };
        let wanted: Vec<_> = self.open.iter().filter(|open| !open.is_withheld).collect();
        if wanted.is_empty() {
            return Ok(AHashMap::new());
        }
        let keys: Vec<_> = wanted
            .iter()
            .map(|open| {
                let (child, day, kind, id) =
                    (open.child, open.identity.day, open.kind.as_str(), open.id);
                format!("('{child}','{day}','{kind}','{id}')")
            })
            .collect();
        let query = format!(
            "SELECT child_id, id_day, event_type, event_id, kafka_partition, kafka_offset FROM history
             WHERE (child_id, id_day, event_type, event_id) IN ({})",
            keys.join(",")
        );
        let rows = clickhouse.query(&query).fetch_all::<HistoryRow>().await?;
        let by_event: AHashMap<_, _> = rows
            .into_iter()
            .map(|row| {
                let place = (row.kafka_partition, row.kafka_offset.cast_signed());
                (
                    (row.child_id, row.id_day, row.event_type, row.event_id),
                    place,
                )
            })
            .collect();
        let place = |open: &&Open| {
            let event = (
                open.child,
                open.identity.day,
                open.kind.as_str().to_owned(),
                open.id,
            );
            Some((open.identity, *by_event.get(&event)?))
        };
        Ok(wanted.iter().filter_map(place).collect())
    }
}

/// The next offset of a consumer, topic and partition.
type Positions = AHashMap<(String, String, i32), i64>;

#[derive(Deserialize, Row)]
struct HistoryRow {
    #[serde(with = "clickhouse::serde::uuid")]
    child_id: Uuid,
    #[serde(with = "clickhouse::serde::chrono::date")]
    id_day: NaiveDate,
    event_type: String,
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
    kafka_partition: i32,
    kafka_offset: u64,
}

impl Open {
    fn judge(&self, found: Found) -> Fate {
        // Copies of an event are in one partition, unless the number of partitions was changed.
        let is_earlier = |(partition, offset): &Place| {
            self.place
                .is_some_and(|(mine, at)| *partition == mine && *offset < at)
        };
        let earlier = [found.row, found.known].into_iter().flatten();
        let earlier = earlier.filter(is_earlier).map(|(_, offset)| offset).min();
        let rollups = match found.counted_on {
            None if found.aggregated => Rollups::NotCounted,
            None => Rollups::Waiting,
            // Counted, and not by this copy: that one is still to come.
            Some(_) if self.place.is_some() && !found.aggregated => Rollups::Duplicate,
            Some(day) if earlier.is_some() || day < self.received_at.date_naive() => {
                Rollups::Duplicate
            }
            Some(_) => Rollups::Counted,
        };
        let history = match found.row {
            Some(row) if self.place.is_none_or(|mine| row == mine) => History::Stored,
            Some(_) => History::Duplicate,
            None if self.is_withheld => History::Withheld,
            None if found.sunk => History::NotStored,
            None => History::Waiting,
        };
        Fate {
            rollups,
            history: Some(history),
            duplicate_of: earlier.filter(|_| rollups == Rollups::Duplicate),
            history_after_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rivulet_events::ChildId;

    use super::*;

    fn open(place: Option<Place>) -> Open {
        let (child, id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let at = DateTime::from_timestamp(1_780_000_000, 0).unwrap();
        Open {
            number: 1,
            identity: Identity::of(
                EventType::Message,
                ChildId::new(child),
                id,
                at.timestamp_millis(),
            ),
            kind: EventType::Message,
            child,
            id,
            topic: "rivulet.message".to_owned(),
            place,
            is_withheld: false,
            received_at: at,
            told: None,
        }
    }

    fn today(open: &Open) -> Option<NaiveDate> {
        Some(open.received_at.date_naive())
    }

    #[test]
    fn it_is_counted_once_whatever_is_asked_first() {
        let new = open(Some((3, 10)));
        let mut found = Found::default();
        let fate = new.judge(found);
        assert_eq!(
            (fate.rollups, fate.history),
            (Rollups::Waiting, Some(History::Waiting))
        );
        assert!(!fate.is_settled());
        found.counted_on = today(&new);
        // The consumer has not come to it: somebody else's copy was counted.
        assert_eq!(new.judge(found).rollups, Rollups::Duplicate);
        found.aggregated = true;
        assert_eq!(new.judge(found).rollups, Rollups::Counted);
        found.known = Some((3, 10));
        found.row = Some((3, 10));
        let fate = new.judge(found);
        assert_eq!(
            (fate.rollups, fate.history),
            (Rollups::Counted, Some(History::Stored))
        );
        assert!(fate.is_settled());
        // An earlier copy, in the history or seen here.
        for (row, known) in [(Some((3, 7)), None), (Some((3, 10)), Some((3, 7)))] {
            let fate = new.judge(Found {
                row,
                known,
                ..found
            });
            assert_eq!(
                (fate.rollups, fate.duplicate_of),
                (Rollups::Duplicate, Some(7))
            );
        }
        // Before the history knew: by the day of its first arrival.
        found.row = None;
        found.counted_on = today(&new).and_then(|day| day.pred_opt());
        assert_eq!(new.judge(found).rollups, Rollups::Duplicate);
    }

    #[test]
    fn what_was_passed_and_is_nowhere_is_told() {
        let gone = open(Some((3, 10)));
        let found = Found {
            aggregated: true,
            sunk: true,
            ..Found::default()
        };
        let fate = gone.judge(found);
        assert_eq!(
            (fate.rollups, fate.history),
            (Rollups::NotCounted, Some(History::NotStored))
        );
        let withheld = Open {
            is_withheld: true,
            ..open(Some((3, 10)))
        };
        let fate = withheld.judge(Found::default());
        assert_eq!(
            (fate.rollups, fate.history),
            (Rollups::Waiting, Some(History::Withheld))
        );
        // Nobody knows where a spilled one will be; that it is there is known.
        let spilled = open(None);
        let found = Found {
            counted_on: today(&spilled),
            row: Some((3, 4)),
            ..Found::default()
        };
        let fate = spilled.judge(found);
        assert_eq!(
            (fate.rollups, fate.history),
            (Rollups::Counted, Some(History::Stored))
        );
    }
}
