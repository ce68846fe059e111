//! Which consents were withdrawn, as a consumer must know it: in the transaction in which it stores what it made of
//! records.
//!
//! What a consent was withdrawn for is not stored from the withdrawal's commit on. `on_revoke = keep` of retention.toml
//! goes by the time at which a record was received. With `erase` nothing is stored that was taken before the consent was
//! given again, and [`settle`] takes out of the rollups what was stored until then. By the epoch that is in each record
//! both know what was taken after that.
//!
//! As with tombstones, a transaction [holds](crate::tombstones::hold) before it looks, and who erases waits for those
//! that may not have seen the withdrawal.

use ahash::AHashMap;
use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::{ChildId, EventType, Record, changes, sabotage::sabotaged};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::tombstones::{holders_end, ids_in};

/// A consent that is given for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Coppa,
    Audio,
    Analytics,
}

impl Purpose {
    fn from_word(word: &str) -> Self {
        match word {
            "audio" => Self::Audio,
            "analytics" => Self::Analytics,
            // Of a consent that a newer release knows, nothing is stored: the safe side.
            _ => Self::Coppa,
        }
    }
}

/// A row of the table `revocations`.
#[derive(Clone, Copy, Debug)]
struct Revocation {
    id: i64,
    purpose: Purpose,
    /// What was taken before goes as well.
    erases: bool,
    /// Unix milliseconds.
    revoked_at: i64,
    number: i64,
    /// The epoch that began when the consent was given again, and the number of that.
    granted: Option<(i64, i64)>,
}

/// What a record was taken as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Of this child.
    pub child: Uuid,
    /// An event of this type.
    pub event_type: EventType,
    /// Its `consent_epoch`.
    pub epoch: i64,
    /// Its `received_at`, Unix milliseconds.
    pub received_at: i64,
}

impl From<&Record<'_>> for Taken {
    fn from(record: &Record<'_>) -> Self {
        Self {
            child: record.child_id.uuid(),
            event_type: record.event_type,
            epoch: record.consent_epoch,
            received_at: record.received_at,
        }
    }
}

/// What may not be done with a record any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Nobody may store anything of it.
    pub from_all: bool,
    /// It may not be in the history.
    pub from_history: bool,
}

/// The withdrawals that a process has read: some 100 bytes each, for as long as it runs.
#[derive(Debug, Default)]
pub struct Revocations {
    of: AHashMap<Uuid, Vec<Revocation>>,
    read_to: i64,
}

impl Revocations {
    /// Reads what was added up to `newest`, which the caller's transaction has seen.
    ///
    /// # Errors
    /// PostgreSQL failed.
    pub async fn read(&mut self, conn: &mut PgConnection, newest: i64) -> Result<(), sqlx::Error> {
        if newest == self.read_to {
            return Ok(());
        }
        if newest < self.read_to {
            // PostgreSQL was put back to a state from before, and with it the consents themselves.
            *self = Self::default();
        }
        type Row = (i64, Uuid, String, bool, i64, i64, Option<i64>, Option<i64>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, child_id, consent, erases, floor(extract(epoch FROM revoked_at) * 1000)::bigint, number,
                    granted_epoch, granted_number
             FROM revocations WHERE (number > $1 OR granted_number > $1) AND number <= $2",
        )
        .bind(self.read_to)
        .bind(newest)
        .fetch_all(conn)
        .await?;
        for (id, child, consent, erases, revoked_at, number, epoch, granted_number) in rows {
            let of_child = self.of.entry(child).or_default();
            of_child.retain(|known| known.id != id);
            of_child.push(Revocation {
                id,
                purpose: Purpose::from_word(&consent),
                erases,
                revoked_at,
                number,
                granted: epoch.zip(granted_number),
            });
        }
        self.read_to = newest;
        Ok(())
    }

    /// Reads all there is now, for who looks at what was stored and stores nothing.
    ///
    /// # Errors
    /// PostgreSQL failed.
    pub async fn read_all(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let newest: i64 = sqlx::query_scalar("SELECT number FROM revocation_state")
            .fetch_one(&mut *conn)
            .await?;
        self.read(conn, newest).await
    }

    /// Whether nothing was withdrawn, so that no record need be looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Whether something was withdrawn of this child.
    #[must_use]
    pub fn concern(&self, child: Uuid) -> bool {
        self.of.contains_key(&child)
    }

    /// What may not be done with a record, by withdrawals up to the number `to`.
    #[must_use]
    pub fn of(&self, taken: Taken, to: i64) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        if sabotaged("revocations") {
            return withdrawn;
        }
        for revocation in self.of.get(&taken.child).into_iter().flatten() {
            if !revocation.is_of(taken, to) {
                continue;
            }
            withdrawn.from_history = true;
            withdrawn.from_all |= revocation.purpose != Purpose::Analytics;
        }
        withdrawn
    }

    /// Whether bytes that cannot be read as a record of this type have the id of a child of whom it may not be stored
    /// now.
    #[must_use]
    pub fn any_in(&self, bytes: &[u8], event_type: EventType, to: i64) -> bool {
        let now = |child| Taken {
            child,
            event_type,
            epoch: 0,
            received_at: i64::MAX,
        };
        !self.of.is_empty() && ids_in(bytes).any(|child| self.of(now(child), to).from_all)
    }
}

impl Revocation {
    fn is_of(&self, taken: Taken, to: i64) -> bool {
        let concerns = match self.purpose {
            Purpose::Coppa | Purpose::Analytics => true,
            Purpose::Audio => taken.event_type == EventType::Speech,
        };
        let is_over = self
            .granted
            .is_some_and(|(epoch, number)| number <= to && taken.epoch >= epoch);
        let is_in_time = self.erases || taken.received_at >= self.revoked_at;
        concerns && self.number <= to && !is_over && is_in_time
    }
}

/// Of which of these children one store has, or had since `since`, what another has not any more, because a consent was
/// withdrawn.
///
/// # Errors
/// PostgreSQL failed.
pub async fn unsettled(
    conn: &mut PgConnection,
    children: &[Uuid],
    since: DateTime<Utc>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT child_id FROM revocations
         WHERE child_id = ANY($1) AND erases
           AND (postgres_at IS NULL OR clickhouse_at IS NULL OR clickhouse_at > $2)",
    )
    .bind(children)
    .bind(since)
    .fetch_all(conn)
    .await
}

/// Takes out of the rollups what was stored of these children on consents that were withdrawn. Waits for the transactions
/// that may not have seen it: they last for seconds at most.
///
/// # Errors
/// PostgreSQL failed. Called again it goes on.
pub async fn settle(pool: &PgPool, children: &[Uuid]) -> Result<(), sqlx::Error> {
    if children.is_empty() {
        return Ok(());
    }
    holders_end(pool).await?;
    for child in children {
        let mut transaction = pool.begin().await?;
        let days: Vec<NaiveDate> = sqlx::query_scalar("SELECT settle_revocations($1)")
            .bind(child)
            .fetch_all(&mut *transaction)
            .await?;
        let days = days.into_iter().map(|day| (ChildId::new(*child), day));
        let payloads = changes::payloads(days);
        sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
            .bind(changes::CHANNEL)
            .bind(payloads)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Before consents of these parents, or of parents to whom these children move, may be given again: what is still to be
/// taken out of the rollups is.
///
/// # Errors
/// PostgreSQL failed.
pub(crate) async fn settle_families(
    pool: &PgPool,
    parents: &[Uuid],
    children: &[Uuid],
) -> Result<(), sqlx::Error> {
    let due: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT child_id FROM revocations r JOIN children c ON c.id = r.child_id
         WHERE (c.parent_id = ANY($1) OR c.id = ANY($2)) AND r.erases AND r.postgres_at IS NULL
         ORDER BY child_id",
    )
    .bind(parents)
    .bind(children)
    .fetch_all(pool)
    .await?;
    settle(pool, &due).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: Uuid = Uuid::from_u128(7);

    fn known(revocation: Revocation) -> Revocations {
        Revocations {
            of: AHashMap::from([(CHILD, vec![revocation])]),
            read_to: 100,
        }
    }

    fn taken(event_type: EventType, epoch: i64, received_at: i64) -> Taken {
        Taken {
            child: CHILD,
            event_type,
            epoch,
            received_at,
        }
    }

    const ALL: Withdrawn = Withdrawn {
        from_all: true,
        from_history: true,
    };
    const HISTORY: Withdrawn = Withdrawn {
        from_all: false,
        from_history: true,
    };
    const NOTHING: Withdrawn = Withdrawn {
        from_all: false,
        from_history: false,
    };

    #[test]
    fn a_consent_withdraws_what_was_taken_on_it() {
        use EventType::{Message, Speech};
        for (purpose, of_speech, of_message) in [
            (Purpose::Coppa, ALL, ALL),
            (Purpose::Audio, ALL, NOTHING),
            (Purpose::Analytics, HISTORY, HISTORY),
        ] {
            let revocations = known(Revocation {
                id: 1,
                purpose,
                erases: true,
                revoked_at: 1_000,
                number: 5,
                granted: None,
            });
            for (event_type, expected) in [(Speech, of_speech), (Message, of_message)] {
                assert_eq!(revocations.of(taken(event_type, 0, 1), 5), expected);
                assert_eq!(revocations.of(taken(event_type, 0, 1), 4), NOTHING);
            }
            let other = Taken {
                child: Uuid::from_u128(8),
                ..taken(Speech, 0, 1)
            };
            assert_eq!(revocations.of(other, 5), NOTHING);
            assert_eq!(
                revocations.any_in(CHILD.to_string().as_bytes(), Speech, 5),
                of_speech.from_all
            );
        }
    }

    /// Clocks of nodes differ, so after a consent was given again its number and the epoch decide, and no time.
    #[test]
    fn what_is_taken_on_a_new_consent_is_stored() {
        let mut revocation = Revocation {
            id: 1,
            purpose: Purpose::Coppa,
            erases: true,
            revoked_at: 1_000,
            number: 5,
            granted: Some((3, 9)),
        };
        let of = |revocation, epoch, received_at, to| {
            let taken = taken(EventType::Message, epoch, received_at);
            known(revocation).of(taken, to).from_all
        };
        assert!(of(revocation, 2, 5_000, 9) && of(revocation, 0, 1, 9));
        assert!(!of(revocation, 3, 1, 9) && !of(revocation, 4, 1, 9));
        assert!(of(revocation, 3, 1, 8), "not yet");
        revocation.erases = false;
        assert!(!of(revocation, 2, 999, 9), "stored before, and kept");
        assert!(of(revocation, 2, 1_000, 9) && !of(revocation, 3, 1_000, 9));
    }
}
