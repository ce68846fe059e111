//! Which events are sent when, in which request: a function of the seed and the start alone.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, Datelike, Days, Duration, TimeZone, Timelike, Utc, Weekday};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rivulet_zones::Zone;
use uuid::Uuid;

use crate::{
    event::{Planned, Scene, compose, compose_broken},
    family::{Device, Family, families, random_id},
    script::{self, Skills, Step, TOPICS},
};

const DAY_MS: i64 = 86_400_000;

/// An SDK collects events for this long before it sends fewer than a full batch, milliseconds.
const LINGER_MS: i64 = 2_000;

/// A body is kept below the limit of 1 MiB as sent (docs/contract.md, "Limits").
const MAX_BODY_BYTES: usize = 900_000;

/// As fast as it goes, time passes by this much an event, so that events never lie ahead.
const FULL_SPEED_STEP_MS: f64 = 0.02;

/// What to plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Same seed and start, same bytes.
    pub seed: u64,
    /// When the back-fill ends and live events begin, Unix milliseconds.
    pub start_ms: i64,
    /// Children in all.
    pub children: usize,
    /// Days to back-fill, at most 29.
    pub history_days: u32,
    /// Live events a second; 0 is as fast as they are taken.
    pub rate: f64,
    /// Live events in all, `None` without end.
    pub live_events: Option<u64>,
    /// Most events an SDK collects before it sends.
    pub batch: usize,
    /// Most events in a request, reached in bursts after a time offline.
    pub max_batch: usize,
}

/// One request's events.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whose SDK sends it.
    pub device: Device,
    /// In order.
    pub events: Vec<Planned>,
    /// Not before this long after the live part began, milliseconds; `None` in the back-fill.
    pub due_ms: Option<i64>,
    /// The SDK did not get to note the answer: it sends the whole again.
    pub again: bool,
    /// The SDK hangs up before the answer, once, and sends the whole again.
    pub impatient: bool,
}

/// Deals out deliveries; holds at most one child's day, or one batch a session, at a time.
pub struct Planner {
    plan: Plan,
    rng: ChaCha8Rng,
    families: Arc<[Family]>,
    children: Vec<State>,
    /// Days ago, and the next child of that day.
    history: Option<(u32, usize)>,
    sessions: Vec<Session>,
    live_events: u64,
    ready: VecDeque<Delivery>,
}

struct State {
    family: usize,
    child: usize,
    skills: Skills,
    devices: Vec<Backlog>,
}

/// What a device has not sent yet, and the last event that it has.
#[derive(Default)]
struct Backlog {
    events: Vec<Planned>,
    offline_days: u32,
    sent: Option<Planned>,
}

struct Session {
    child: usize,
    device: usize,
    id: Uuid,
    steps: VecDeque<Step>,
    buffer: Vec<Planned>,
    buffered_since_ms: i64,
    offline_until_ms: i64,
}

impl Planner {
    /// Plans from the beginning.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
        // Families depend on the seed alone: a later run finds them registered.
        let families: Arc<[Family]> =
            families(&mut ChaCha8Rng::from_seed(seed), plan.children, plan.batch).into();
        seed[8..16].copy_from_slice(&plan.start_ms.to_le_bytes());
        seed[16] = 1;
        let children = families
            .iter()
            .enumerate()
            .flat_map(|(family, of)| of.children.iter().enumerate().map(move |c| (family, c)))
            .map(|(family, (child, of))| State {
                family,
                child,
                skills: [0; TOPICS],
                devices: of.devices.iter().map(|_| Backlog::default()).collect(),
            })
            .collect();
        Self {
            rng: ChaCha8Rng::from_seed(seed),
            history: Some((plan.history_days.min(29), 0)),
            plan,
            families,
            children,
            sessions: Vec::new(),
            live_events: 0,
            ready: VecDeque::new(),
        }
    }

    /// Everyone, registered or not.
    #[must_use]
    pub fn families(&self) -> Arc<[Family]> {
        Arc::clone(&self.families)
    }

    /// One child's events of one day of the back-fill.
    fn history_step(&mut self, days_ago: u32, child: usize) {
        let families = Arc::clone(&self.families);
        let state = &self.children[child];
        let family = &families[state.family];
        let habit = &family.children[state.child].habit;
        let start = self.time(family.timezone, self.plan.start_ms);
        let today = start.date_naive() - Days::new(days_ago.into());
        let weekend = matches!(today.weekday(), Weekday::Sat | Weekday::Sun);
        let mut chance = if weekend {
            habit.weekend
        } else {
            habit.regularity
        };
        if (habit.holiday.0..=habit.holiday.1).contains(&days_ago) {
            chance = 0.0;
        }
        if !family.registered || !family.consents.coppa {
            // An app that is refused tries less, but not never: every back-fill shows a refusal.
            chance = if days_ago == 1 { 1.0 } else { chance * 0.2 };
        }
        let active = self.rng.random_bool(chance);
        let sittings = if active {
            self.rng.random_range(1..=2)
        } else {
            0
        };
        for sitting in 0..sittings {
            let hour = (habit.hour + 3 * sitting) % 24;
            let minute = self.rng.random_range(0..60);
            let begin = today.and_hms_opt(hour, minute, 0).and_then(|local| {
                // An hour that daylight saving skips is played an hour later.
                let zone = &family.timezone;
                zone.from_local_datetime(&local).earliest().or_else(|| {
                    zone.from_local_datetime(&(local + Duration::hours(1)))
                        .earliest()
                })
            });
            let Some(begin) = begin else { continue };
            let devices = self.children[child].devices.len();
            let device = self.rng.random_range(0..devices);
            self.past_session(child, device, begin.timestamp_millis());
            if devices > 1 && self.rng.random_bool(0.2) {
                self.past_session(child, 1 - device, begin.timestamp_millis() + 90_000);
            }
        }
        for device in 0..self.children[child].devices.len() {
            let days_offline = if self.rng.random_bool(0.06) {
                self.rng.random_range(2..=8)
            } else {
                0
            };
            let backlog = &mut self.children[child].devices[device];
            if backlog.offline_days == 0 {
                backlog.offline_days = days_offline;
            }
            let burst = backlog.offline_days > 0;
            backlog.offline_days = backlog.offline_days.saturating_sub(1);
            let full = backlog.events.len() >= self.plan.max_batch;
            if backlog.offline_days == 0 || full || days_ago == 0 {
                let events = std::mem::take(&mut backlog.events);
                let size = if burst {
                    self.plan.max_batch
                } else {
                    self.batch_of(child, device)
                };
                self.deliver(child, device, events, size, None);
            }
        }
    }

    /// A whole session of the past into its device's backlog.
    fn past_session(&mut self, child: usize, device: usize, begin_ms: i64) {
        let id = random_id(&mut self.rng);
        let mut at_ms = begin_ms;
        let window = self.plan.start_ms - i64::from(self.plan.history_days.min(29)) * DAY_MS
            ..self.plan.start_ms;
        for step in self.script(child, device) {
            at_ms += step.gap_ms;
            if window.contains(&at_ms) {
                let events = self.compose(child, device, id, at_ms, &step);
                self.children[child].devices[device].events.extend(events);
            }
        }
    }

    /// One live event.
    fn live_step(&mut self) {
        let step_ms = if self.plan.rate > 0.0 {
            1_000.0 / self.plan.rate
        } else {
            FULL_SPEED_STEP_MS
        };
        let elapsed_ms = (self.live_events as f64 * step_ms) as i64;
        self.live_events += 1;
        let now_ms = self.plan.start_ms + elapsed_ms;
        let at_once = (self.children.len() / 3).clamp(1, 200);
        while self.sessions.len() < at_once {
            let child = self.someone_awake(now_ms);
            let device = self.rng.random_range(0..self.children[child].devices.len());
            let steps = self.script(child, device).into();
            let offline = self.rng.random_bool(0.05);
            let id = random_id(&mut self.rng);
            self.sessions.push(Session {
                child,
                device,
                id,
                steps,
                buffer: Vec::new(),
                buffered_since_ms: now_ms,
                offline_until_ms: if offline { now_ms + 20_000 } else { 0 },
            });
        }
        let index = self.rng.random_range(0..self.sessions.len());
        let session = &mut self.sessions[index];
        let (child, device, id) = (session.child, session.device, session.id);
        if let Some(step) = session.steps.pop_front() {
            let events = self.compose(child, device, id, now_ms, &step);
            let session = &mut self.sessions[index];
            if session.buffer.is_empty() {
                session.buffered_since_ms = now_ms;
            }
            session.buffer.extend(events);
        }
        let last = self
            .plan
            .live_events
            .is_some_and(|all| self.live_events >= all);
        for index in (0..self.sessions.len()).rev() {
            let session = &self.sessions[index];
            let over = session.steps.is_empty();
            let batch = self.batch_of(session.child, session.device);
            let due = over
                || session.buffer.len() >= batch
                || now_ms - session.buffered_since_ms >= LINGER_MS;
            let offline = now_ms < session.offline_until_ms
                && session.buffer.len() < self.plan.max_batch
                && !over;
            if last || (due && !offline) {
                let (child, device) = (session.child, session.device);
                let events = std::mem::take(&mut self.sessions[index].buffer);
                if over {
                    self.sessions.swap_remove(index);
                }
                self.deliver(child, device, events, self.plan.max_batch, Some(elapsed_ms));
            }
        }
    }

    /// A child that may well play at this hour of its day.
    fn someone_awake(&mut self, now_ms: i64) -> usize {
        let mut child = 0;
        for _ in 0..16 {
            child = self.rng.random_range(0..self.children.len());
            let state = &self.children[child];
            let family = &self.families[state.family];
            let habit = &family.children[state.child].habit;
            let hour = self.time(family.timezone, now_ms).hour();
            let fits = match hour {
                hour if hour.abs_diff(habit.hour) <= 1 => 1.0,
                7..=21 => 0.3,
                _ => 0.02,
            };
            let served = if family.registered && family.consents.coppa {
                1.0
            } else {
                0.1
            };
            if self.rng.random_bool(fits * habit.regularity * served) {
                break;
            }
        }
        child
    }

    fn script(&mut self, child: usize, device: usize) -> Vec<Step> {
        let state = &mut self.children[child];
        let family = &self.families[state.family];
        let of = &family.children[state.child];
        // An app that has not yet heard of the refusal sends speech all the same.
        let audio = family.consents.audio || self.rng.random_bool(0.1);
        script::session(
            &mut self.rng,
            &of.habit,
            &of.devices[device],
            audio,
            &mut state.skills,
        )
    }

    /// The event of a step; now and then with a copy, or followed by a broken one.
    fn compose(
        &mut self,
        child: usize,
        device: usize,
        session_id: Uuid,
        at_ms: i64,
        step: &Step,
    ) -> Vec<Planned> {
        let state = &self.children[child];
        let family = &self.families[state.family];
        let of = &family.children[state.child];
        let scene = Scene {
            zone: family.timezone,
            child: of,
            device: &of.devices[device],
            session_id,
            at_ms,
        };
        let mut events = vec![compose(&mut self.rng, &scene, step)];
        if self.rng.random_bool(0.005) {
            events.push(events[0].clone());
        }
        if self.rng.random_bool(0.004) {
            events.push(compose_broken(&mut self.rng, &scene, step));
        }
        events
    }

    fn deliver(
        &mut self,
        child: usize,
        device: usize,
        mut events: Vec<Planned>,
        size: usize,
        due_ms: Option<i64>,
    ) {
        if events.is_empty() {
            return;
        }
        let state = &mut self.children[child];
        let backlog = &mut state.devices[device];
        if self.rng.random_bool(0.05) {
            // A single event of the last request once more.
            events.extend(backlog.sent.take());
        }
        backlog.sent = events.first().cloned();
        let of = &self.families[state.family].children[state.child].devices[device];
        for events in chunks(events, size.clamp(1, self.plan.max_batch)) {
            let delivery = Delivery {
                device: of.clone(),
                events,
                due_ms,
                again: self.rng.random_bool(0.02),
                impatient: self.rng.random_bool(0.01),
            };
            if self.rng.random_bool(0.01) {
                // Two threads of an SDK take the same batch at once.
                self.ready.push_back(delivery.clone());
            }
            self.ready.push_back(delivery);
        }
    }

    fn batch_of(&self, child: usize, device: usize) -> usize {
        let state = &self.children[child];
        self.families[state.family].children[state.child].devices[device].batch
    }

    fn time(&self, zone: Zone, at_ms: i64) -> DateTime<Zone> {
        DateTime::<Utc>::from_timestamp_millis(at_ms)
            .unwrap_or_default()
            .with_timezone(&zone)
    }
}

impl Iterator for Planner {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        if self.children.is_empty() {
            return None;
        }
        while self.ready.is_empty() {
            if let Some((days_ago, child)) = self.history.filter(|_| self.plan.history_days > 0) {
                self.history_step(days_ago, child);
                self.history = match (days_ago, child + 1) {
                    (days_ago, next) if next < self.children.len() => Some((days_ago, next)),
                    (0, _) => None,
                    (days_ago, _) => Some((days_ago - 1, 0)),
                };
            } else if self
                .plan
                .live_events
                .is_none_or(|all| self.live_events < all)
            {
                self.live_step();
            } else {
                return None;
            }
        }
        self.ready.pop_front()
    }
}

/// In order, at most `size` events and about [`MAX_BODY_BYTES`] each.
fn chunks(events: Vec<Planned>, size: usize) -> Vec<Vec<Planned>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        bytes += event.json.len() + 1;
        #[expect(clippy::expect_used, reason = "begun with one and only pushed to")]
        let chunk = chunks.last_mut().expect("a chunk");
        if chunk.len() < size && (bytes <= MAX_BODY_BYTES || chunk.is_empty()) {
            chunk.push(event);
        } else {
            bytes = event.json.len();
            chunks.push(vec![event]);
        }
    }
    chunks
}
