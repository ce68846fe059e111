//! The run: workers that take deliveries off the plan and see each through to its last answer.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    client::{Answer, Client},
    event::Planned,
    ledger::{self, Attempt, Line, Outcome, Sent},
    plan::{Delivery, Plan, Planner},
    progress::Progress,
    sdk::{Exchange, Handset},
};

/// After a cancellation, requests in flight are seen through for this long.
const GRACE: Duration = Duration::from_secs(5);

/// An impatient SDK hangs up after this long.
const PATIENCE: Duration = Duration::from_millis(4);

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

struct Shared {
    client: Client,
    planner: Mutex<Planner>,
    progress: Mutex<Progress>,
    ledger: Option<Mutex<ledger::Writer>>,
    /// Devices with the SDK, by their ids; `None` where none has it.
    handsets: Option<Mutex<HashMap<String, Arc<Mutex<Handset>>>>>,
    config: Config,
    began: Instant,
    /// When the first live delivery was taken off the plan.
    live_began: Mutex<Option<Instant>>,
    /// Cancelled, or the duration is over.
    stop: CancellationToken,
    /// Why an SDK's events could not be recorded.
    failed: Mutex<Option<Error>>,
    /// Past this, nothing is tried again.
    give_up: Mutex<Option<Instant>>,
}

/// Registers the families, sends what the plan says, and returns the counts.
///
/// The events are a function of the seed in `config` and of `start`; what the server answers has no
/// part in them. `report` is called about once a second. Ends when the plan does, when
/// `config.duration` is over or on `shutdown`; requests in flight are then seen through for up to
/// five seconds.
///
/// # Errors
/// The server refused what no waiting repairs, gave an answer that docs/contract.md does not allow, or could not
/// be reached at all; or the ledger could not be written.
pub async fn run(
    config: &Config,
    start: DateTime<Utc>,
    report: impl Fn(&Progress),
    shutdown: &CancellationToken,
) -> Result<Progress, Error> {
    let live_events = config.duration.filter(|_| config.rate > 0.0);
    let planner = Planner::new(Plan {
        seed: config.seed,
        start_ms: start.timestamp_millis(),
        children: config.children,
        history_days: config.history_days,
        rate: config.rate,
        live_events: live_events.map(|duration| (duration.as_secs_f64() * config.rate) as u64),
        batch: config.batch,
        max_batch: config.max_batch,
    });
    let families = planner.families();
    let mut writer = match &config.ledger {
        Some(path) => Some(ledger::Writer::create(path).map_err(Error::Ledger)?),
        None => None,
    };
    for family in families.iter() {
        if let Some(writer) = &mut writer {
            writer
                .write(&Line::Family(family.into()))
                .map_err(Error::Ledger)?;
        }
    }
    let client = Client::new(config)?;
    // Collected first: with the closures inside, the future of a run could not be spawned.
    let mut registrations = Vec::new();
    for family in families.iter().filter(|family| family.registered) {
        registrations.push(client.register(family));
    }
    let registrations = stream::iter(registrations)
        .buffer_unordered(config.concurrency.max(1))
        .try_collect::<()>();
    tokio::select! {
        done = registrations => done?,
        () = shutdown.cancelled() => return Ok(Progress::default()),
    }
    let shared = Arc::new(Shared {
        client,
        planner: Mutex::new(planner),
        progress: Mutex::default(),
        ledger: writer.map(Mutex::new),
        handsets: config.sdk.then(Mutex::default),
        config: config.clone(),
        began: Instant::now(),
        live_began: Mutex::default(),
        stop: shutdown.child_token(),
        failed: Mutex::default(),
        give_up: Mutex::default(),
    });
    let mut workers = JoinSet::new();
    for _ in 0..config.concurrency.max(1) {
        let shared = Arc::clone(&shared);
        workers.spawn(async move { shared.work().await });
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut failure = None;
    loop {
        tokio::select! {
            done = workers.join_next() => match done {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => { failure.get_or_insert(error); shared.stop(); }
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            },
            _ = ticks.tick() => {
                report(&shared.snapshot());
                let live = *locked(&shared.live_began);
                let over = config.duration.zip(live).is_some_and(|(d, live)| live.elapsed() >= d);
                // With a rate the plan ends by itself, to the event.
                if shutdown.is_cancelled() || (over && live_events.is_none()) {
                    shared.stop();
                }
            }
        }
    }
    if let Some(handsets) = &shared.handsets {
        for handset in locked(handsets).values() {
            for sent in locked(handset).unsettled() {
                shared.record(sent)?;
            }
        }
    }
    failure = failure.or_else(|| locked(&shared.failed).take());
    if let Some(ledger) = &shared.ledger {
        locked(ledger).flush().map_err(Error::Ledger)?;
    }
    let progress = shared.snapshot();
    report(&progress);
    failure.map_or(Ok(progress), Err)
}

impl Shared {
    fn stop(&self) {
        self.stop.cancel();
        locked(&self.give_up).get_or_insert(Instant::now() + GRACE);
    }

    fn snapshot(&self) -> Progress {
        let mut progress = locked(&self.progress).clone();
        progress.elapsed = self.began.elapsed();
        progress
    }

    async fn work(self: &Arc<Self>) -> Result<(), Error> {
        while !self.stop.is_cancelled() {
            let Some(delivery) = locked(&self.planner).next() else {
                break;
            };
            if let Some(due_ms) = delivery.due_ms {
                let live_began = *locked(&self.live_began).get_or_insert_with(Instant::now);
                let due = live_began + Duration::from_millis(due_ms.unsigned_abs());
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.stop.cancelled() => break,
                }
            }
            match &self.handsets {
                Some(handsets) if delivery.due_ms.is_some() => {
                    self.deliver_by_sdk(handsets, delivery).await?;
                }
                _ => self.deliver(&delivery).await?,
            }
        }
        Ok(())
    }

    /// Gives a delivery to its device's SDK, and has that send until nothing is left.
    async fn deliver_by_sdk(
        self: &Arc<Self>,
        handsets: &Mutex<HashMap<String, Arc<Mutex<Handset>>>>,
        delivery: Delivery,
    ) -> Result<(), Error> {
        let handset = match locked(handsets).entry(delivery.device.id.clone()) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let shared = Arc::downgrade(self);
                let tell = Arc::new(move |exchange| {
                    if let Some(shared) = shared.upgrade() {
                        shared.note(exchange);
                    }
                });
                let Config {
                    url,
                    ingest_key,
                    timeout,
                    ..
                } = &self.config;
                let made = Handset::new(url, ingest_key, &delivery.device, *timeout, tell)?;
                Arc::clone(new.insert(Arc::new(Mutex::new(made))))
            }
        };
        let mut delivery = Some(delivery);
        loop {
            let (handset, delivery) = (Arc::clone(&handset), delivery.take());
            let sent = tokio::task::spawn_blocking(move || {
                let mut handset = locked(&handset);
                if let Some(delivery) = delivery {
                    handset.track(&delivery);
                }
                handset.send()
            });
            let wait = match sent.await {
                Ok(Ok(Some(wait))) => wait,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Counts what a request of an SDK came to.
    fn note(&self, exchange: Exchange) {
        let mut progress = locked(&self.progress);
        progress.requests += 1;
        progress.answered_after(exchange.took);
        for (outcome, code) in &exchange.outcomes {
            progress.count(*outcome, code.as_deref());
        }
        drop(progress);
        for sent in exchange.settled {
            if let Err(error) = self.record(sent) {
                locked(&self.failed).get_or_insert(error);
                self.stop();
            }
        }
    }

    /// Sends a delivery until every event of it has its last answer, then, for a forgetful SDK,
    /// all of it once more.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        for _ in 0..=usize::from(delivery.again) {
            let mut pending: Vec<_> = delivery
                .events
                .iter()
                .map(|event| (event, Vec::new()))
                .collect();
            let result = self.see_through(delivery, &mut pending).await;
            // What has no answer yet is written as it stands.
            for (event, attempts) in pending.into_iter().filter(|(_, made)| !made.is_empty()) {
                self.write(event, attempts)?;
            }
            result?;
        }
        Ok(())
    }

    async fn see_through(
        &self,
        delivery: &Delivery,
        pending: &mut Vec<(&Planned, Vec<Attempt>)>,
    ) -> Result<(), Error> {
        let mut hang_up = delivery.impatient;
        let mut backoff = FIRST_WAIT;
        while !pending.is_empty() {
            let mut timeout = Duration::MAX;
            if let Some(give_up) = *locked(&self.give_up) {
                timeout = give_up.saturating_duration_since(Instant::now());
                if timeout.is_zero() {
                    break;
                }
            }
            if std::mem::take(&mut hang_up) {
                timeout = timeout.min(PATIENCE);
            }
            let device = &delivery.device;
            let began_at = now_ms();
            let sent_at = device
                .says_sent_at
                .then_some(began_at + device.clock_off_ms);
            let events: Vec<_> = pending.iter().map(|(event, _)| *event).collect();
            let began = Instant::now();
            let answer = self.client.post(device, &events, sent_at, timeout).await?;
            let (received_at, outcomes, wait) = match answer {
                Answer::Events {
                    received_at,
                    outcomes,
                    wait,
                } => {
                    locked(&self.progress).answered_after(began.elapsed());
                    (Some(received_at), outcomes, wait)
                }
                Answer::Later { status, wait } => {
                    let outcome = (Outcome::Retry, Some(status.as_u16().to_string()));
                    (None, vec![outcome; events.len()], wait)
                }
                Answer::None => (None, vec![(Outcome::Unknown, None); events.len()], None),
            };
            let ended_at = now_ms();
            {
                let mut progress = locked(&self.progress);
                progress.requests += 1;
                for (outcome, code) in &outcomes {
                    progress.count(*outcome, code.as_deref());
                }
            }
            let mut outcomes = outcomes.into_iter();
            let mut left = Vec::new();
            for (event, mut attempts) in pending.drain(..) {
                let Some((outcome, code)) = outcomes.next() else {
                    continue;
                };
                let attempt = Attempt {
                    began_at,
                    ended_at,
                    sent_at,
                    received_at,
                    outcome,
                    code,
                };
                attempts.push(attempt);
                match outcome {
                    Outcome::Accepted | Outcome::Rejected => self.write(event, attempts)?,
                    Outcome::Retry | Outcome::Unknown => left.push((event, attempts)),
                }
            }
            *pending = left;
            if !pending.is_empty() {
                tokio::time::sleep(wait.unwrap_or(backoff).min(LONGEST_WAIT)).await;
                backoff = (backoff * 2).min(LONGEST_WAIT);
            }
        }
        Ok(())
    }

    fn write(&self, event: &Planned, attempts: Vec<Attempt>) -> Result<(), Error> {
        self.record(Sent {
            event: event.json.to_string(),
            flaw: event.flaw.map(str::to_owned),
            attempts,
        })
    }

    fn record(&self, sent: Sent) -> Result<(), Error> {
        let Some(ledger) = &self.ledger else {
            return Ok(());
        };
        locked(ledger)
            .write(&Line::Event(sent))
            .map_err(Error::Ledger)
    }
}

fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// A panic while holding one of these locks ends the run by itself.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
