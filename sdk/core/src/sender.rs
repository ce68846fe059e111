//! Sends what is stored: one batch after the other, until nothing waits or something has to be waited for. What a
//! client has to do about each answer is docs/sending-events.md#the-answer.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::Rng as _;
use uuid::Uuid;

use crate::{
    Config, Credential, Dropped, NoAnswer, Rejected, Request, Response,
    client::Inner,
    clock::{Reading, reading},
    store::{Batch, Fate, Purge},
    wire::{self, Outcome, ServerConfig},
};

/// More would hold up the first event of a batch, fewer waste round trips (docs/sending-events.md).
pub(crate) const BATCH_EVENTS: usize = 200;

/// Of JSON, before it is compressed: well below what a server takes, and little to send again.
const BATCH_BYTES: usize = 500_000;

/// The server takes nothing that is older.
const OLDEST_MS: i64 = 30 * 24 * 3_600_000;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The cap of exponential backoff, and of what a server may ask for.
const LONGEST_BACKOFF_MS: u64 = 300_000;
const LONGEST_RETRY_AFTER_S: u64 = 3_600;

/// An answer that took longer says too little about the server's clock.
const LEARN_WITHIN_MS: i64 = 10_000;

/// A smaller change of a clock's offset is noise of the network.
const OFFSET_NOISE_MS: i64 = 500;

/// Why nothing is sent until the app, or time, changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The server does not know the credential (401), a new one neither. It is tried again after an hour, with a [new
    /// credential](crate::Client::set_credential), and at the next start.
    Unauthorized,
    /// The credential does not allow it (403): its scope, its origins or its event types. Tried again as above.
    Forbidden,
    /// The server asks clients to keep what they have; it is asked again every ten minutes.
    Disabled,
    /// The server takes no request of this kind: the app or the SDK has to be changed. Tried again, ever more rarely.
    Refused {
        /// Any other 4xx.
        status: u16,
        /// Of the problem document.
        code: String,
    },
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthorized => f.write_str("the server does not know the credential (401)"),
            Self::Forbidden => f.write_str("the credential does not allow to send (403)"),
            Self::Disabled => f.write_str("the server asks clients to send nothing for now"),
            Self::Refused { status, code } => {
                write!(f, "the server refuses such requests ({status}, {code})")
            }
        }
    }
}

/// How far [`Client::send`](crate::Client::send) came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Events that still wait.
    pub queued: u64,
    /// How long to wait before the next attempt makes sense; `None` where nothing has to be waited for.
    pub wait: Option<Duration>,
    /// Why nothing is sent until something is changed.
    pub stopped: Option<Stopped>,
    /// Why the last request was in vain; nothing once one is answered.
    pub failed: Option<Failed>,
}

/// Why a request is sent again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// No answer came, half of one, or somebody else's.
    NoAnswer(String),
    /// The server cannot take it now (408, 429, 5xx).
    Later {
        /// Its status.
        status: u16,
        /// Of the problem document.
        code: String,
    },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
            Self::Later { status, code } => write!(f, "{status}, {code}"),
        }
    }
}

/// What the sender knows of the server. All times are of the monotonic clock.
pub(crate) struct State {
    /// In a row, since anything was accepted.
    failures: u32,
    /// The end of the backoff.
    not_before_ms: i64,
    /// What the server said by `Retry-After`.
    server_until_ms: i64,
    stopped: Option<(Stopped, i64)>,
    failed: Option<Failed>,
    batch_events: usize,
    config_due_ms: i64,
    credential: Credential,
    token: Option<String>,
    /// The base of the epoch in which the server was asked for nothing but its time.
    asked_time: Option<i64>,
}

/// What a request came to.
enum Sent {
    Answer(Response),
    Nothing(NoAnswer),
    /// The app has no credential now.
    NoCredential,
}

impl State {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            failures: 0,
            not_before_ms: i64::MIN,
            server_until_ms: i64::MIN,
            stopped: None,
            failed: None,
            batch_events: BATCH_EVENTS,
            config_due_ms: i64::MIN,
            credential: config.credential.clone(),
            token: None,
            asked_time: None,
        }
    }

    fn set_credential(&mut self, credential: Credential) {
        self.credential = credential;
        self.token = None;
        self.stopped = None;
        self.hurry();
    }

    /// The device is online again, or the app wishes it: no wait of our own making holds any more.
    pub(crate) fn hurry(&mut self) {
        self.failures = 0;
        self.not_before_ms = i64::MIN;
    }

    /// One more failure: waits as long as the server says, else for a random time that grows.
    fn wait(&mut self, now_ms: i64, retry_after_s: Option<u64>) {
        self.failures = self.failures.saturating_add(1);
        let (until, (least, longest)) = match retry_after_s {
            Some(seconds) => {
                let millis = seconds.min(LONGEST_RETRY_AFTER_S) * 1000;
                (&mut self.server_until_ms, (millis, millis + millis / 5))
            }
            None => {
                let longest = (1000_u64 << self.failures.min(10)).min(LONGEST_BACKOFF_MS);
                (&mut self.not_before_ms, (0, longest))
            }
        };
        let wait = rand::rng().random_range(least..=longest);
        *until = now_ms + i64::try_from(wait).unwrap_or(HOUR_MS);
    }

    fn waits_until(&self) -> i64 {
        self.not_before_ms.max(self.server_until_ms)
    }

    fn stop(&mut self, why: Stopped, until_ms: i64) {
        self.stopped = Some((why, until_ms));
    }

    /// The credential to send; a token that is about to end, or was refused, is asked for anew.
    fn token(&mut self, anew: bool, server_s: i64) -> Option<String> {
        let ask = match &self.credential {
            Credential::Key(key) => return Some(key.clone()),
            Credential::Token(ask) => ask,
        };
        let ends = |token: &String| wire::expires(token).is_some_and(|exp| exp - server_s < 60);
        if anew || self.token.as_ref().is_none_or(ends) {
            self.token = ask();
        }
        self.token.clone()
    }
}

impl Inner {
    /// All that may be sent now. Blocks for as long as the server does.
    pub(crate) fn send(&self) -> Progress {
        let mut state = self.sender.lock();
        let progress = loop {
            if let Some(credential) = self.new_credential.lock().take() {
                state.set_credential(credential);
            }
            let now = self.clock().monotonic_ms();
            if let Some((why, until)) = &state.stopped {
                if now < *until {
                    break self.progress(&state, Some(until - now), Some(why.clone()));
                }
                state.stopped = None;
            }
            if now < state.waits_until() {
                break self.progress(&state, Some(state.waits_until() - now), None);
            }
            if now >= state.config_due_ms {
                self.ask_config(&mut state);
                continue;
            }
            match self.store.next(state.batch_events, BATCH_BYTES) {
                Ok(Some(batch)) => self.send_batch(&mut state, &batch),
                Ok(None) => break self.progress(&state, None, None),
                Err(error) => {
                    self.say(|| format!("the store cannot be read: {error}"));
                    break self.progress(&state, Some(MINUTE_MS), None);
                }
            }
        };
        self.tidy();
        progress
    }

    fn progress(&self, state: &State, wait_ms: Option<i64>, stopped: Option<Stopped>) -> Progress {
        let wait = wait_ms.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs()));
        Progress {
            queued: self.store.queued(),
            wait,
            stopped,
            failed: state.failed.clone(),
        }
    }

    fn stop(&self, state: &mut State, why: Stopped, for_ms: i64) {
        let until = self.clock().monotonic_ms() + for_ms;
        self.say(|| format!("stopped: {why}"));
        if state
            .stopped
            .as_ref()
            .is_none_or(|(before, _)| *before != why)
        {
            self.config.observer.stopped(&why);
        }
        state.stop(why, until);
    }

    /// What the server wishes. Where it does not say, everything goes on as before.
    fn ask_config(&self, state: &mut State) {
        let answer = self.request(state, "GET", "/v1/config", Vec::new());
        let now = self.clock().monotonic_ms();
        state.config_due_ms = now + HOUR_MS;
        match answer {
            Sent::Answer(Response {
                status: 200, body, ..
            }) => match wire::config(&body) {
                Some(server) => self.obey(state, &server),
                None => state.config_due_ms = now + MINUTE_MS,
            },
            Sent::Answer(Response { status: 401, .. }) => {
                state.config_due_ms = i64::MIN;
                self.stop(state, Stopped::Unauthorized, HOUR_MS);
            }
            // Refused for ever, or an older server that has no such path: the events are tried all the same.
            Sent::Answer(Response {
                status: 400..=407 | 409..=428,
                ..
            }) => {}
            Sent::Answer(_) | Sent::Nothing(_) | Sent::NoCredential => {
                state.config_due_ms = now + MINUTE_MS;
            }
        }
    }

    fn obey(&self, state: &mut State, server: &ServerConfig) {
        state.batch_events = BATCH_EVENTS.min(server.max_events.max(1));
        self.set_flush_interval(Duration::from_secs(server.flush_interval_s.clamp(1, 3600)));
        self.set_max_event_bytes(server.max_event_bytes);
        if let Some(consents) = server.consents {
            self.server_consents(consents);
        }
        if !server.enabled {
            state.config_due_ms = i64::MIN;
            self.stop(state, Stopped::Disabled, 10 * MINUTE_MS);
        }
    }

    fn send_batch(&self, state: &mut State, batch: &Batch) {
        let (Some(first), Some(last)) = (batch.events.first(), batch.events.last()) else {
            return;
        };
        let newest = batch
            .events
            .iter()
            .map(|event| event.made_ms)
            .max()
            .unwrap_or(last.made_ms);
        let now_in = self.epoch();
        let same_run = batch.epoch.id > self.store.last_epoch_before;
        let may_ask = state.asked_time != Some(now_in.base_ms);
        let wall_ms = self.clock().wall_ms();
        let sent_ms = match reading(wall_ms, &now_in, &batch.epoch, same_run, may_ask, newest) {
            Reading::At(millis) => millis,
            Reading::AskFirst => {
                state.asked_time = Some(now_in.base_ms);
                self.store.release();
                self.post(state, wall_ms, &BTreeMap::new(), None);
                return;
            }
        };
        // Only a clock that the server has confirmed says that something is too old.
        let oldest = sent_ms - OLDEST_MS;
        if now_in.offset_ms.is_some() && first.made_ms < oldest {
            let expired = batch.events.iter().filter(|event| event.made_ms < oldest);
            let fates: Vec<_> = expired
                .map(|event| (event.seq, Fate::Dropped(Dropped::Expired)))
                .collect();
            let count = fates.len() as u64;
            if self.settled(state, &fates, &BTreeMap::new()) {
                self.config.observer.dropped(Dropped::Expired, count);
            }
            return;
        }
        match self.store.untold() {
            Ok(dropped) => self.post(state, sent_ms, &dropped, Some(batch)),
            Err(error) => self.cannot_write(state, &error),
        }
    }

    /// Posts a batch, or nothing but the question what time it is, and does what the answer asks for.
    fn post(
        &self,
        state: &mut State,
        sent_ms: i64,
        dropped: &BTreeMap<String, u64>,
        batch: Option<&Batch>,
    ) {
        let events = batch.map_or(&[][..], |batch| &batch.events);
        let body = wire::body(sent_ms, dropped, events.iter().map(|event| &*event.json));
        // Into memory nothing fails.
        let Ok(body) = body else { return };
        let (wall, began) = (self.clock().wall_ms(), self.clock().monotonic_ms());
        let sent = self.request(state, "POST", "/v1/events", body);
        let now = self.clock().monotonic_ms();
        let response = match sent {
            Sent::Answer(response) => response,
            Sent::Nothing(NoAnswer(why)) => return self.again(state, Failed::NoAnswer(why), None),
            Sent::NoCredential => {
                let why = "the app has no credential now".to_owned();
                return self.again(state, Failed::NoAnswer(why), None);
            }
        };
        let asked_to_wait = response
            .retry_after
            .as_deref()
            .and_then(|value| wire::retry_after(value, self.clock().wall_ms()));
        match response.status {
            200 => {
                let Some(answer) = wire::answer(&response.body, events.len()) else {
                    let why = "it is of somebody else, or half of one".to_owned();
                    return self.again(state, Failed::NoAnswer(why), None);
                };
                state.failed = None;
                if now - began < LEARN_WITHIN_MS {
                    self.learn_clock(answer.received_at - (wall + (now - began) / 2));
                }
                self.answered(state, events, answer, dropped, asked_to_wait);
            }
            413 if events.len() == 1 => {
                let fates = [(events[0].seq, Fate::Dropped(Dropped::TooLarge))];
                if self.settled(state, &fates, &BTreeMap::new()) {
                    self.config.observer.dropped(Dropped::TooLarge, 1);
                }
            }
            413 if events.len() > 1 => {
                self.store.release();
                state.batch_events = events.len() / 2;
                self.say(|| format!("too much at once: from now on {} events", events.len() / 2));
            }
            401 => {
                self.store.release();
                self.stop(state, Stopped::Unauthorized, HOUR_MS);
            }
            403 => {
                self.store.release();
                self.stop(state, Stopped::Forbidden, HOUR_MS);
            }
            status @ (408 | 429 | 500..) => {
                let code = wire::code(&response.body);
                self.again(state, Failed::Later { status, code }, asked_to_wait);
            }
            status => {
                self.store.release();
                let code = wire::code(&response.body);
                state.wait(now, asked_to_wait);
                let wait = state.waits_until() - now;
                self.stop(state, Stopped::Refused { status, code }, wait);
            }
        }
    }

    /// The batch stays, and is sent again later.
    fn again(&self, state: &mut State, why: Failed, asked_to_wait: Option<u64>) {
        self.say(|| why.to_string());
        self.store.release();
        state.failed = Some(why);
        state.wait(self.clock().monotonic_ms(), asked_to_wait);
    }

    fn answered(
        &self,
        state: &mut State,
        events: &[crate::store::Waiting],
        answer: wire::Answer,
        told: &BTreeMap<String, u64>,
        asked_to_wait: Option<u64>,
    ) {
        let mut fates = Vec::with_capacity(events.len());
        let mut rejected = Vec::new();
        let mut without_consent = Vec::new();
        let (mut accepted, mut later) = (0, 0);
        for (event, result) in events.iter().zip(answer.results) {
            for warning in &result.warnings {
                self.say(|| format!("{}: {warning}", event.id));
            }
            match result.outcome {
                Outcome::Accepted => {
                    accepted += 1;
                    fates.push((event.seq, Fate::Accepted));
                }
                Outcome::Retry => later += 1,
                Outcome::Rejected => {
                    if result.code == "consent_required" {
                        without_consent.push((event.child, event.is_speech));
                    }
                    fates.push((
                        event.seq,
                        Fate::Rejected {
                            code: result.code.clone(),
                        },
                    ));
                    rejected.push(Rejected {
                        id: event.id,
                        code: result.code,
                        pointer: result.pointer,
                        message: result.message,
                    });
                }
            }
        }
        self.say(|| {
            format!(
                "{accepted} accepted, {} rejected, {later} to be sent again",
                rejected.len()
            )
        });
        if !self.settled(state, &fates, told) {
            return;
        }
        for rejected in &rejected {
            self.config.observer.rejected(rejected);
        }
        for (child, is_speech) in without_consent {
            self.refused_consent(child, is_speech);
        }
        if accepted > 0 || later == 0 {
            state.failures = 0;
        }
        if later > 0 {
            state.wait(self.clock().monotonic_ms(), asked_to_wait);
        }
    }

    /// Takes events out of the store. Where the disk does not take even that, they stay and will be sent again, which is counted
    /// once.
    fn settled(
        &self,
        state: &mut State,
        fates: &[(i64, Fate)],
        told: &BTreeMap<String, u64>,
    ) -> bool {
        match self.store.settle(fates, told) {
            Ok(()) => true,
            Err(error) => {
                self.cannot_write(state, &error);
                false
            }
        }
    }

    fn cannot_write(&self, state: &mut State, error: &rusqlite::Error) {
        self.say(|| format!("the store cannot be written: {error}"));
        self.store.release();
        state.not_before_ms = self.clock().monotonic_ms() + MINUTE_MS;
    }

    fn request(&self, state: &mut State, method: &'static str, path: &str, body: Vec<u8>) -> Sent {
        let server_s = (self.clock().wall_ms() + self.epoch().offset_ms.unwrap_or(0)) / 1000;
        let Some(mut token) = state.token(false, server_s) else {
            return Sent::NoCredential;
        };
        let mut headers = vec![("Authorization", String::new())];
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json".to_owned()));
            headers.push(("Content-Encoding", "gzip".to_owned()));
        }
        let url = format!("{}{path}", self.config.url.trim_end_matches('/'));
        let mut request = Request {
            method,
            url,
            headers,
            body,
        };
        let mut asked = false;
        loop {
            request.headers[0].1 = format!("Bearer {token}");
            let response = match self.config.transport.send(&request) {
                Ok(response) => response,
                Err(error) => return Sent::Nothing(error),
            };
            if response.status != 401 || asked || matches!(state.credential, Credential::Key(_)) {
                return Sent::Answer(response);
            }
            asked = true;
            match state.token(true, server_s) {
                Some(new) => token = new,
                None => return Sent::NoCredential,
            }
        }
    }

    /// The server's clock is this much ahead of this device's.
    fn learn_clock(&self, offset_ms: i64) {
        let mut running = self.running_epoch();
        let is_news = |before: i64| (before - offset_ms).abs() > OFFSET_NOISE_MS;
        if !running.offset_ms.is_none_or(is_news) {
            return;
        }
        running.offset_ms = Some(offset_ms);
        // Not stored yet: it will be with the first event.
        if running.id > 0
            && let Err(error) = self.store.learn(running.id, offset_ms)
        {
            self.say(|| format!("the clock's offset cannot be stored: {error}"));
        }
    }

    /// What the server has refused, it will refuse again: it is not even kept.
    fn refused_consent(&self, child: Uuid, is_speech: bool) {
        let mut blocked = self.blocked.write();
        let list = if is_speech {
            &mut blocked.speech_of
        } else {
            &mut blocked.children
        };
        if list.insert(child) {
            self.purge(Purge {
                child: Some(child),
                only_speech: is_speech,
            });
        }
    }
}
