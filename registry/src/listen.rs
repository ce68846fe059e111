//! The connection that hears of changes, and the pings that prove it does.

use std::{
    convert::Infallible,
    time::{Duration, Instant, SystemTime},
};

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::metrics::{CONFIRMED_TIMESTAMP_SECONDS, INVALIDATIONS, LISTEN_LOSSES};
use crate::shared::{PROBE_EVERY, READ_TIMEOUT, Shared};

/// A change of a child, or of its parent, tells of the child on this channel, at commit. Payload: its id.
pub const CHILDREN_CHANNEL: &str = "rivulet_registry";
/// No payload.
const KEYS: &str = "rivulet_keys";

/// How often a ping is sent.
const PING_EVERY: Duration = Duration::from_millis(500);

/// Listens for ever, on one connection after another.
pub(crate) async fn run(shared: &Shared) -> Infallible {
    let mut lost = false;
    loop {
        let error = match listen(shared, &mut lost).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        LISTEN_LOSSES.increment(1);
        if !lost {
            tracing::warn!(%error, "no longer hearing of registry changes; trying again");
            lost = true;
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn listen(shared: &Shared, lost: &mut bool) -> Result<Infallible, sqlx::Error> {
    // A connection outside the pool: it is held for good and must not be waited for.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(READ_TIMEOUT)
        .connect_lazy_with((*shared.pool.connect_options()).clone());
    let mut listener = PgListener::connect_with(&own).await?;
    // sqlx must not connect again by itself, because a new connection must begin a new epoch.
    listener.eager_reconnect(false);
    let echo = format!("rivulet_echo_{}", Uuid::new_v4().simple());
    within(listener.listen_all([CHILDREN_CHANNEL, KEYS, &echo])).await?;
    shared.confirmation.lock().begin_epoch(Instant::now());
    read_keys(shared, &mut listener).await?;

    let mut ping_sent: Option<Instant> = None;
    let mut due = Instant::now();
    loop {
        let Ok(heard) = timeout_at(due.into(), listener.try_recv()).await else {
            if ping_sent.is_some() {
                return Err(sqlx::Error::Protocol("no echo of a ping".to_owned()));
            }
            let sent = Instant::now();
            within(
                sqlx::query("SELECT pg_notify($1, '')")
                    .bind(&echo)
                    .execute(&mut listener),
            )
            .await?;
            ping_sent = Some(sent);
            due = sent + READ_TIMEOUT;
            continue;
        };
        let Some(notice) = heard? else {
            return Err(sqlx::Error::Protocol("the connection was lost".to_owned()));
        };
        match notice.channel() {
            CHILDREN_CHANNEL => {
                if let Ok(id) = notice.payload().parse() {
                    shared.entries.forget(id);
                    INVALIDATIONS.increment(1);
                }
            }
            KEYS => read_keys(shared, &mut listener).await?,
            _ => {
                if let Some(sent) = ping_sent.take() {
                    shared.confirmation.lock().confirm(sent);
                    due = sent + PING_EVERY;
                    if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
                        let confirmed = now.saturating_sub(sent.elapsed()).as_secs_f64();
                        CONFIRMED_TIMESTAMP_SECONDS.set(confirmed);
                    }
                    if std::mem::take(lost) {
                        tracing::info!("hearing of registry changes again");
                    }
                }
            }
        }
    }
}

async fn read_keys(shared: &Shared, listener: &mut PgListener) -> Result<(), sqlx::Error> {
    use sqlx::Acquire as _;
    within(async { shared.read_keys(listener.acquire().await?).await }).await
}

/// A connection that hangs is a connection that is lost.
async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(READ_TIMEOUT, work)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
