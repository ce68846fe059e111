//! Hears of commits from PostgreSQL, and notifies the feeds of the children concerned.

use std::{convert::Infallible, time::Duration};

use rivulet_events::{ChildId, changes};
use rivulet_registry::CHILDREN_CHANNEL;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::feed::Feeds;
use crate::metrics::LIVE_LISTEN_LOSSES;

/// A connection that was silent for so long is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens for ever, on one connection after another.
pub(crate) async fn listen(pool: &PgPool, feeds: &Feeds) -> Infallible {
    let mut lost = false;
    loop {
        let error = match listen_once(pool, feeds, &mut lost).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        LIVE_LISTEN_LOSSES.increment(1);
        if !lost {
            tracing::warn!(%error, "live streams get no updates, because commits are not heard of; trying again");
            lost = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen_once(
    pool: &PgPool,
    feeds: &Feeds,
    lost: &mut bool,
) -> Result<Infallible, sqlx::Error> {
    // A connection outside the pool: it is held for good and must not be waited for.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with((*pool.connect_options()).clone());
    let mut listener = PgListener::connect_with(&own).await?;
    // sqlx must not connect again by itself: it must be known here that a new connection may have missed something.
    listener.eager_reconnect(false);
    within(listener.listen_all([changes::CHANNEL, CHILDREN_CHANNEL])).await?;
    feeds.hear_everything();
    if std::mem::take(lost) {
        tracing::info!("commits are heard of again");
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
                feeds.hear(child, Some(day));
            }
        } else if let Ok(child) = notice.payload().parse::<Uuid>() {
            // The child may have moved to another family or into another time zone.
            feeds.hear(ChildId::new(child), None);
        }
    }
}

/// A connection that hangs is a connection that is lost.
async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
