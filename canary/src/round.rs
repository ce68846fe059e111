//! One round of the canary, and rounds for ever.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use chrono::Utc;
use parking_lot::Mutex;
use rivulet_events::{EventType, data::AgeGroup};
use rivulet_registry::{consents::Consents, families};
use rivulet_sdk::{Client, Clock, Config, Device, Failed, Http, Observer, Platform, Rejected};
use rivulet_telemetry::Readiness;
use rivulet_zones::Zone;
use sqlx::{PgPool, postgres::PgBindIterExt as _};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{CHILD, PARENT, batch::Batch, metrics};

/// How long an answer may take: longer than ingest itself waits for Kafka.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long one look into a store may take, before it is tried again.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// The first pause between two looks into a store. It grows by a quarter each time, so a delay is reported at most a
/// quarter too long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The canary: a small app of its own that can also read both stores.
pub struct Canary {
    http: Arc<Http>,
    url: String,
    key: String,
    pool: PgPool,
    clickhouse: clickhouse::Client,
    patience: Duration,
    registered: bool,
}

/// How long it took from posting the events.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// To the answer that all of them are accepted.
    pub answer: Duration,
    /// Until the rollups counted the last of them.
    pub rollups: Duration,
    /// Until the history had the last of them.
    pub history: Duration,
}

impl Round {
    /// Each stage by its label, in seconds.
    pub(crate) fn stages(&self) -> [(&'static str, f64); 3] {
        [
            ("answer", self.answer.as_secs_f64()),
            ("rollups", self.rollups.as_secs_f64()),
            ("history", self.history.as_secs_f64()),
        ]
    }
}

/// For people.
impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [answer, rollups, history] = self.stages().map(|(_, seconds)| seconds);
        write!(
            f,
            "accepted after {answer:.3} s, counted in PostgreSQL after {rollups:.3} s, in ClickHouse's history \
             after {history:.3} s"
        )
    }
}

/// How far the events came.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The family is not in the registry, and could not be put there.
    #[error("its family cannot be registered: {0}")]
    Unregistered(#[from] families::Error),
    /// There was no answer that can be understood.
    #[error("ingest gave no answer: {0}")]
    Unanswered(String),
    /// The request as a whole, or some events, were not accepted.
    #[error("ingest did not accept its events: {0}")]
    Refused(String),
    /// Accepted, and not counted within the patience.
    #[error("accepted, but the rollups in PostgreSQL {0}")]
    NotCounted(Missing),
    /// Accepted, and not in the history within the patience.
    #[error("accepted, but the history in ClickHouse {0}")]
    NotInHistory(Missing),
}

impl Failure {
    /// Its label.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Unregistered(_) => "unregistered",
            Self::Unanswered(_) => "unanswered",
            Self::Refused(_) => "refused",
            Self::NotCounted(_) => "not_counted",
            Self::NotInHistory(_) => "not_in_history",
        }
    }
}

/// What a store did not have when patience was at its end.
#[derive(Debug)]
pub struct Missing {
    patience: Duration,
    last: Result<u64, String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.patience.as_secs();
        match &self.last {
            Ok(there) => write!(f, "has {there} of 4 after {seconds} s"),
            Err(error) => write!(f, "cannot be asked, after {seconds} s: {error}"),
        }
    }
}

/// A clock that stands still, at a time.
struct Still(i64);

impl Clock for Still {
    fn wall_ms(&self) -> i64 {
        self.0
    }

    fn monotonic_ms(&self) -> i64 {
        0
    }
}

/// The codes of events that were refused.
#[derive(Default)]
struct Refusals(Mutex<BTreeSet<String>>);

impl Observer for Refusals {
    fn rejected(&self, rejected: &Rejected) {
        self.0.lock().insert(rejected.code.clone());
    }
}

impl Canary {
    /// Posts to the server at `url` with an API key of scope `ingest`, and looks for what became of it in
    /// these stores, each for `patience` at most.
    ///
    #[must_use]
    pub fn new(
        url: &str,
        key: String,
        pool: PgPool,
        clickhouse: clickhouse::Client,
        patience: Duration,
    ) -> Self {
        Self {
            http: Arc::new(Http::new(ANSWER_WITHIN)),
            url: url.to_owned(),
            key,
            pool,
            clickhouse,
            patience,
            registered: false,
        }
    }

    /// Sends events and waits for them.
    ///
    /// # Errors
    /// They did not arrive; how far they came.
    pub async fn round(&mut self) -> Result<Round, Failure> {
        if !self.registered {
            self.register().await?;
            self.registered = true;
        }
        let sent = Instant::now();
        let posted = self.post().await;
        // The family is missing after the registry was restored from a backup.
        self.registered = posted.is_ok();
        let batch = posted?;
        let answer = sent.elapsed();
        let (rollups, history) = tokio::join!(
            self.wait(sent, || self.counted(&batch)),
            self.wait(sent, || self.in_history(&batch)),
        );
        Ok(Round {
            answer,
            rollups: rollups.map_err(Failure::NotCounted)?,
            history: history.map_err(Failure::NotInHistory)?,
        })
    }

    /// Rounds for ever, one each `every`, told to metrics and `readiness`.
    pub async fn watch(mut self, every: Duration, readiness: &Readiness) -> ! {
        // An alert on what has not arrived must not wait for the first success.
        metrics::ARRIVED_TIMESTAMP_SECONDS.set(0.0);
        let mut rounds = tokio::time::interval(every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut arrives = false;
        loop {
            rounds.tick().await;
            let round = self.round().await;
            metrics::publish(&round, Utc::now());
            match &round {
                Ok(round) => {
                    readiness.pass(CHECK);
                    if !arrives {
                        tracing::info!("the canary arrives: {round}");
                    }
                }
                Err(failure) => {
                    readiness.fail(CHECK, failure.to_string());
                    tracing::warn!("the canary did not arrive: {failure}");
                }
            }
            arrives = round.is_ok();
        }
    }

    async fn register(&self) -> Result<(), families::Error> {
        let all = Consents {
            coppa: Some(true.into()),
            audio: Some(true.into()),
            analytics: Some(true.into()),
        };
        families::put_parent(&self.pool, PARENT, Zone::utc(), all, Some(false)).await?;
        families::put_child(&self.pool, CHILD, PARENT, AgeGroup::CuriousExplorers).await
    }

    /// With the SDK that apps have. Each round has a client of its own: what one could not send is not sent by the next.
    async fn post(&self) -> Result<Batch, Failure> {
        let refusals = Arc::new(Refusals::default());
        let transport = Arc::clone(&self.http) as _;
        let config = Config {
            dir: None,
            background: false,
            device: Device {
                id: Some("canary".to_owned()),
                platform: Some(Platform::Other),
                app_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            },
            observer: Arc::clone(&refusals) as _,
            clock: Arc::new(Still(Utc::now().timestamp_millis())),
            ..Config::with(&*self.url, &*self.key, "", transport)
        };
        let send = move || {
            let client = Client::open(config).map_err(|error| error.to_string())?;
            let batch = Batch::told(&client).map_err(|error| error.to_string())?;
            Ok((batch, client.send()))
        };
        let sent = tokio::task::spawn_blocking(send).await;
        let (batch, progress) = sent
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(Failure::Refused)?;
        let codes = refusals
            .0
            .lock()
            .iter()
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match (progress.stopped, progress.failed) {
            (Some(why), _) => Err(Failure::Refused(why.to_string())),
            (None, Some(Failed::NoAnswer(why))) => Err(Failure::Unanswered(why)),
            (None, Some(later)) => Err(Failure::Refused(later.to_string())),
            (None, None) if !codes.is_empty() => Err(Failure::Refused(codes)),
            (None, None) if progress.queued > 0 => Err(Failure::Refused("retry".to_owned())),
            (None, None) => Ok(batch),
        }
    }

    /// Waits until a store has all events; returns how long after `sent` that was.
    async fn wait<L, E>(&self, sent: Instant, look: impl Fn() -> L) -> Result<Duration, Missing>
    where
        L: Future<Output = Result<u64, E>>,
        E: fmt::Display,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let last = match tokio::time::timeout(LOOK_WITHIN, look()).await {
                Ok(Ok(there)) if there == EventType::ALL.len() as u64 => return Ok(sent.elapsed()),
                Ok(Ok(there)) => Ok(there),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", LOOK_WITHIN.as_secs())),
            };
            if sent.elapsed() >= self.patience {
                return Err(Missing {
                    patience: self.patience,
                    last,
                });
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.25).min(LONGEST_PAUSE);
        }
    }

    /// By the identities, which commit with the rows that they are counted in.
    async fn counted(&self, batch: &Batch) -> Result<u64, sqlx::Error> {
        let there: i64 =
            sqlx::query_scalar("SELECT count(*) FROM event_seen WHERE day = $1 AND key = ANY ($2)")
                .bind(batch.day)
                .bind(batch.keys.iter().copied().bind_iter())
                .fetch_one(&self.pool)
                .await?;
        Ok(there.unsigned_abs())
    }

    async fn in_history(&self, batch: &Batch) -> Result<u64, clickhouse::error::Error> {
        let ids: Vec<_> = batch.ids.iter().map(|id| format!("'{id}'")).collect();
        let query = format!(
            "SELECT count() FROM history WHERE child_id = '{}' AND id_day = '{}' AND event_id IN ({})",
            CHILD.uuid(),
            batch.day,
            ids.join(",")
        );
        self.clickhouse.query(&query).fetch_one().await
    }
}

/// Its name in the answer of `/readyz`.
pub const CHECK: &str = "arrives";
