//! Hears of commits from PostgreSQL, and wakes those who watch the children concerned.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use chrono::NaiveDate;
use metrics::{Unit, counter, describe_counter};
use parking_lot::Mutex;
use rivulet_events::{ChildId, changes};
use rivulet_registry::CHILDREN_CHANNEL;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

/// A connection that was silent for so long is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who may watch one child at a time: a family's devices, many times over. Whoever has a parent's token
/// must not be able to take every place.
const WATCHERS_A_CHILD: usize = 64;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// What may have changed of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Days {
    These(BTreeSet<NaiveDate>),
    All,
}

impl Days {
    pub(crate) fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::These(days), Self::These(others)) => days.extend(others),
            _ => *self = Self::All,
        }
    }
}

pub(crate) type Changes = BTreeMap<ChildId, Days>;

/// Adds to what is known to have changed.
pub(crate) fn merge(changes: &mut Changes, child: ChildId, days: Days) {
    changes
        .entry(child)
        .or_insert_with(|| Days::These(BTreeSet::new()))
        .merge(days);
}

/// Who watches which child.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<AHashMap<ChildId, Vec<Arc<Mailbox>>>>);

#[derive(Default)]
struct Mailbox {
    changes: Mutex<Changes>,
    wake: Notify,
}

impl Mailbox {
    fn put(&self, child: ChildId, days: Days) {
        merge(&mut self.changes.lock(), child, days);
        self.wake.notify_one();
    }
}

/// Some children being watched, until it is dropped.
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    children: Vec<ChildId>,
    mailbox: Arc<Mailbox>,
}

impl Watch {
    /// From now on nothing is missed; all that was before counts as changed. `None` where too many watch
    /// one of the children.
    pub(crate) fn start(watchers: &Arc<Watchers>, children: Vec<ChildId>) -> Option<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let mut all = watchers.0.lock();
        let crowded = |child| {
            all.get(child)
                .is_some_and(|by| by.len() >= WATCHERS_A_CHILD)
        };
        if children.iter().any(crowded) {
            return None;
        }
        for child in &children {
            all.entry(*child).or_default().push(Arc::clone(&mailbox));
            mailbox.put(*child, Days::All);
        }
        drop(all);
        Some(Self {
            watchers: Arc::clone(watchers),
            children,
            mailbox,
        })
    }

    /// Waits until something has changed.
    pub(crate) async fn changed(&self) {
        while self.mailbox.changes.lock().is_empty() {
            self.mailbox.wake.notified().await;
        }
    }

    /// Takes what has changed, if anything has.
    pub(crate) fn take(&self) -> Changes {
        std::mem::take(&mut *self.mailbox.changes.lock())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.watchers.0.lock();
        for child in &self.children {
            if let Some(mailboxes) = all.get_mut(child) {
                mailboxes.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
                if mailboxes.is_empty() {
                    all.remove(child);
                }
            }
        }
    }
}

impl Watchers {
    fn tell(&self, child: ChildId, days: &Days) {
        if let Some(mailboxes) = self.0.lock().get(&child) {
            for mailbox in mailboxes {
                mailbox.put(child, days.clone());
            }
        }
    }

    fn tell_everybody(&self) {
        for (child, mailboxes) in self.0.lock().iter() {
            for mailbox in mailboxes {
                mailbox.put(*child, Days::All);
            }
        }
    }

    /// Listens for ever, on one connection after another.
    pub(crate) async fn listen(&self, pool: &PgPool) -> Infallible {
        let mut lost = false;
        loop {
            let error = match self.listen_once(pool, &mut lost).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            counter!("rivulet_live_listen_losses_total").increment(1);
            if !lost {
                tracing::warn!(%error, "live pages stand still: no longer hearing of commits; trying again");
                lost = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn listen_once(&self, pool: &PgPool, lost: &mut bool) -> Result<Infallible, sqlx::Error> {
        // A connection outside the pool: it is held for good and must not be waited for.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        // What a new connection may have missed must be known here.
        listener.eager_reconnect(false);
        within(listener.listen_all([changes::CHANNEL, CHILDREN_CHANNEL])).await?;
        self.tell_everybody();
        if std::mem::take(lost) {
            tracing::info!("hearing of commits again");
        }
        loop {
            let Ok(heard) = timeout(SILENCE, listener.try_recv()).await else {
                within(sqlx::query("SELECT 1").execute(&mut listener)).await?;
                continue;
            };
            let Some(notice) = heard? else {
                return Err(sqlx::Error::Protocol("the connection was lost".to_owned()));
            };
            if notice.channel() == changes::CHANNEL {
                for (child, day) in changes::days(notice.payload()) {
                    self.tell(child, &Days::These(BTreeSet::from([day])));
                }
            } else if let Ok(child) = notice.payload().parse::<Uuid>() {
                // It may have moved to another family, or into another time zone.
                self.tell(ChildId::new(child), &Days::All);
            }
        }
    }
}

/// A connection that hangs is a connection that is lost.
async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

pub(crate) fn describe() {
    describe_counter!(
        "rivulet_live_listen_losses_total",
        Unit::Count,
        "Times that the connection on which commits are heard of was lost; every listener is then read anew"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_watches_hears_of_their_own_and_forgets_when_they_leave() {
        let watchers = Arc::new(Watchers::default());
        let [ours, theirs] = [(); 2].map(|()| ChildId::new(Uuid::new_v4()));
        let watch = Watch::start(&watchers, vec![ours]).unwrap();
        watch.changed().await;
        assert_eq!(watch.take(), Changes::from([(ours, Days::All)]));
        assert_eq!(watch.take(), Changes::new());
        let day = |day: &str| Days::These(BTreeSet::from([day.parse().unwrap()]));
        watchers.tell(theirs, &day("2026-05-01"));
        watchers.tell(ours, &day("2026-05-02"));
        watchers.tell(ours, &day("2026-05-03"));
        let two = ["2026-05-02", "2026-05-03"].map(|day| day.parse().unwrap());
        watch.changed().await;
        assert_eq!(
            watch.take(),
            Changes::from([(ours, Days::These(two.into()))])
        );
        watchers.tell(ours, &day("2026-05-02"));
        watchers.tell_everybody();
        assert_eq!(watch.take(), Changes::from([(ours, Days::All)]));
        let more: Vec<_> = (0..100)
            .map_while(|_| Watch::start(&watchers, vec![theirs, ours]))
            .collect();
        assert_eq!(more.len(), WATCHERS_A_CHILD - 1);
        drop((watch, more));
        assert!(watchers.0.lock().is_empty());
    }
}
