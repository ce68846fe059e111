//! The breaker: a consumer that would set aside too large a share of a topic stops.
//!
//! One bad record in a thousand is an accident, and goes into quarantine without stopping anybody. If it is one in ten,
//! something is wrong with a producer, or a newer release has written what this one cannot read. Then it is better to
//! leave the records in Kafka until somebody has looked, than to move hundreds of thousands of them to a table.

use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use rivulet_telemetry::Readiness;
use sqlx::PgPool;

use crate::metrics::PAUSED;
use crate::pauses;

/// The readiness check that a consumer fails while it has stopped.
pub const READINESS_CHECK: &str = "quarantine";

/// A share is judged only if there are this many records.
const LEAST_RECORDS: u64 = 1_000;

/// Whenever there are more than this, the counts so far are halved.
const RECENT_RECORDS: u64 = 10_000;

/// Records of a topic in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Records.
    pub records: u64,
    /// Those that go into quarantine.
    pub unfit: u64,
    /// Why, for one of those.
    pub code: Option<&'a str>,
}

/// Stops a consumer, all of its tasks, until an operator lets it go on.
#[derive(Debug)]
pub struct Breaker {
    consumer: &'static str,
    pool: PgPool,
    readiness: Readiness,
    limit: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: AHashMap<Box<str>, Recent>,
    stopped: Option<Trouble>,
}

/// A topic's recent records.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    records: u64,
    unfit: u64,
    /// An operator said to go on, and the share has not been small since.
    resumed: bool,
    /// PostgreSQL has no pause for it.
    settled: bool,
}

#[derive(Clone, Debug)]
struct Trouble {
    topic: Box<str>,
    records: u64,
    unfit: u64,
    code: Box<str>,
}

impl Breaker {
    /// How long to wait after a "no" before asking again.
    pub const LOOK_AGAIN: Duration = Duration::from_secs(2);

    /// `limit` is the share of a topic's recent records, at least 1 000, that may be unfit; 1 for any.
    #[must_use]
    pub fn new(consumer: &'static str, pool: PgPool, readiness: Readiness, limit: f64) -> Self {
        Self {
            consumer,
            pool,
            readiness,
            limit,
            state: Mutex::default(),
        }
    }

    /// Whether a batch may be committed. If not, nothing of it may be committed, and the caller asks again [a little
    /// later](Self::LOOK_AGAIN).
    pub async fn allows(&self, batch: &[Share<'_>]) -> bool {
        let Some(trouble) = self.trouble(batch) else {
            return true;
        };
        let counts = (trouble.unfit, trouble.records);
        match pauses::may_go_on(&self.pool, self.consumer, &trouble.topic, counts).await {
            Ok(true) => {
                self.resume(&trouble);
                self.trouble(batch).is_none()
            }
            Ok(false) => {
                self.stop(trouble);
                false
            }
            Err(error) => {
                tracing::warn!(consumer = self.consumer, %error, "cannot ask whether to go on; waiting");
                false
            }
        }
    }

    /// To be called when a batch that was allowed has been committed.
    pub async fn committed(&self, batch: &[Share<'_>]) {
        for topic in self.count(batch) {
            if let Err(error) = pauses::forget(&self.pool, self.consumer, &topic).await {
                tracing::warn!(consumer = self.consumer, %error, "a pause that is over could not be forgotten");
            }
        }
    }

    /// Why the batch must wait.
    fn trouble(&self, batch: &[Share<'_>]) -> Option<Trouble> {
        let state = self.state.lock();
        if state.stopped.is_some() {
            return state.stopped.clone();
        }
        batch.iter().find_map(|share| {
            let code = share.code?;
            let recent = state.topics.get(share.topic).copied().unwrap_or_default();
            let (mut records, mut unfit) = (recent.records, recent.unfit);
            for of_topic in batch.iter().filter(|other| other.topic == share.topic) {
                records += of_topic.records;
                unfit += of_topic.unfit;
            }
            let too_many = records >= LEAST_RECORDS && !self.is_small(unfit, records);
            (too_many && !recent.resumed).then(|| Trouble {
                topic: share.topic.into(),
                records,
                unfit,
                code: code.into(),
            })
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "some thousands of records")]
    fn is_small(&self, unfit: u64, records: u64) -> bool {
        unfit as f64 <= self.limit * records as f64
    }

    fn stop(&self, trouble: Trouble) {
        let mut state = self.state.lock();
        let resumed = |recent: &Recent| recent.resumed;
        if state.stopped.is_some() || state.topics.get(&trouble.topic).is_some_and(resumed) {
            return;
        }
        let Trouble {
            topic,
            records,
            unfit,
            code,
        } = &trouble;
        // The topic must be known from here on. A batch of it that was allowed before may still be committed, and the
        // first batch of an unknown topic would set its gauge to 0.
        state.topics.entry(topic.clone()).or_default();
        self.gauge(topic, 1.0);
        self.readiness.fail(
            READINESS_CHECK,
            format!(
                "stopped: {unfit} of {records} recent records of {topic} are unfit ({code}); \
                 `rivulet quarantine resume` lets it go on"
            ),
        );
        tracing::error!(
            consumer = self.consumer,
            %topic,
            unfit,
            records,
            %code,
            "too many records are unfit: the consumer has stopped until somebody has looked and runs `rivulet quarantine resume`; \
             nothing is lost or skipped"
        );
        state.stopped = Some(trouble);
    }

    fn resume(&self, trouble: &Trouble) {
        let mut state = self.state.lock();
        state.stopped = None;
        let recent = state.topics.entry(trouble.topic.clone()).or_default();
        if !recent.resumed {
            // From here on the share has to become small, whatever was counted before.
            *recent = Recent {
                records: trouble.records,
                unfit: trouble.unfit,
                resumed: true,
                settled: false,
            };
            tracing::info!(consumer = self.consumer, topic = %trouble.topic, "the consumer goes on, because an operator resumed it");
        }
        self.gauge(&trouble.topic, 0.0);
        self.readiness.pass(READINESS_CHECK);
    }

    /// Adds a batch to the recent counts. Returns the topics whose share has become small.
    fn count(&self, batch: &[Share<'_>]) -> Vec<Box<str>> {
        let mut state = self.state.lock();
        let mut well = Vec::new();
        for share in batch {
            let recent = state.topics.entry(share.topic.into()).or_insert_with(|| {
                self.gauge(share.topic, 0.0);
                Recent::default()
            });
            recent.records += share.records;
            recent.unfit += share.unfit;
            while recent.records > RECENT_RECORDS {
                recent.records /= 2;
                recent.unfit /= 2;
            }
            let is_well =
                recent.records >= LEAST_RECORDS && self.is_small(recent.unfit, recent.records);
            if is_well && !recent.settled {
                (recent.resumed, recent.settled) = (false, true);
                well.push(share.topic.into());
            }
        }
        well
    }

    fn gauge(&self, topic: &str, value: f64) {
        PAUSED
            .with([self.consumer.to_owned(), topic.to_owned()])
            .set(value);
    }
}
