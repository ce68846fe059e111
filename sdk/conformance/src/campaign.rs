//! Everything that can go wrong, at random, and whether the SDK's word equals the server's ledger in the end.

use std::{collections::HashMap, fmt, time::Duration};

use anyhow::{Result, ensure};
use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use uuid::Uuid;

use crate::{
    device::{CHILD, DAY, Device, HOUR, NOW, SECOND, sum},
    server::{Fault, Server, Upstream},
};

/// An event time that is further off than this is wrong. The server leaves a clock alone that is off by up to a minute.
const TOLERANCE_MS: i64 = 65 * SECOND;

/// What is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of all that is random.
    pub seed: u64,
    /// How many events.
    pub events: usize,
    /// How many faults come in between.
    pub faults: usize,
    /// Whose they are.
    pub children: Vec<Uuid>,
}

impl Plan {
    /// 10 000 events through 200 faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            events: 10_000,
            faults: 200,
            children: vec![CHILD],
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that the SDK said it has.
    pub tracked: u64,
    /// Events that the server has.
    pub stored: u64,
    /// Events that the server refused.
    pub rejected: u64,
    /// Events that the SDK reports as dropped.
    pub dropped: u64,
    /// Events that the SDK had, and neither the server has nor anybody reports: must be 0.
    pub lost: u64,
    /// Events that came more than once, which the server counts once.
    pub sent_again: u64,
    /// How often its process was killed.
    pub kills: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tracked,
            stored,
            rejected,
            dropped,
            lost,
            sent_again,
            kills,
        } = self;
        write!(
            f,
            "{tracked} tracked, {stored} stored, {rejected} rejected, {dropped} dropped, {lost} lost; {sent_again} sent \
             more than once, {kills} kills"
        )
    }
}

/// What goes wrong on the device.
#[derive(Clone, Copy, Debug)]
enum OnDevice {
    Kill,
    KillWhileTracking,
    KillWhileSending,
    SetClock,
    SecondProcess,
    FullDisk,
    Offline,
}

/// Runs it against a scripted server, or through one against a real one, in whose registry the children are.
///
/// # Errors
/// The SDK breaks the contract; the text says how.
pub fn run(command: &[String], plan: &Plan, upstream: Option<Upstream>) -> Result<Outcome> {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let is_real = upstream.is_some();
    let now = if is_real {
        chrono::Utc::now().timestamp_millis()
    } else {
        NOW
    };
    let server = Server::start(plan.seed, now, upstream)?;
    let mut device = Device::new(command, server)?;
    device.clocks.wall_ms = now;
    device.open()?;
    // Of each event that the SDK said it has: when it happened.
    let mut truth: HashMap<Uuid, i64> = HashMap::new();
    let mut unsure = 0;
    let mut outcome = Outcome::default();
    let mut faults = 0;
    while truth.len() < plan.events || faults < plan.faults {
        if truth.len() < plan.events {
            for _ in 0..rng.random_range(1..100) {
                track(&mut device, plan, &mut rng, &mut truth)?;
            }
        }
        device.pass(rng.random_range(0..120 * SECOND))?;
        if faults < plan.faults {
            faults += 1;
            if rng.random_bool(0.6) {
                let fault = on_the_way(&mut rng);
                let of_config = rng.random_bool(0.1);
                device.server.with(|state| match of_config {
                    true => state.config_faults.push_back(fault),
                    false => state.faults.push_back(fault),
                });
            } else {
                let what = on_device(&mut rng, is_real);
                suffer(
                    what,
                    &mut device,
                    plan,
                    &mut rng,
                    &mut truth,
                    &mut unsure,
                    &mut outcome,
                )?;
            }
        }
        device.send()?;
    }
    device.server.with(|state| {
        state.faults.clear();
        state.config_faults.clear();
    });
    device.send_all()?;
    compare(&mut device, &truth, unsure, &mut outcome, is_real)?;
    Ok(outcome)
}

fn event(plan: &Plan, rng: &mut ChaCha8Rng) -> serde_json::Value {
    let child = plan.children.choose(rng).copied().unwrap_or(CHILD);
    let data =
        json!({"action": "answer", "is_correct": rng.random_bool(0.7), "response_time_ms": 2300});
    json!({"op": "track", "child_id": child, "type": "interaction", "data": data})
}

fn track(
    device: &mut Device<'_>,
    plan: &Plan,
    rng: &mut ChaCha8Rng,
    truth: &mut HashMap<Uuid, i64>,
) -> Result<()> {
    let event = event(plan, rng);
    if let Ok(id) = device.track_event(&event)? {
        let now = device.server.with(|state| state.now_ms);
        ensure!(
            truth.insert(id, now).is_none(),
            "{id} was given to two events"
        );
    }
    Ok(())
}

fn on_the_way(rng: &mut ChaCha8Rng) -> Fault {
    let retry_after = rng
        .random_bool(0.4)
        .then(|| rng.random_range(0..60).to_string());
    match rng.random_range(0..12) {
        0 | 1 => Fault::CutRequest(rng.random_range(0..3_000)),
        2..=4 => Fault::CutAnswer(rng.random_range(0..600)),
        5 => Fault::Portal,
        6 => Fault::TooFewResults,
        7 => Fault::Retry(rng.random_range(0.0..1.0)),
        8 => Fault::Reject(rng.random_range(0.0..0.1), "invalid_field"),
        // One in a hundred takes the whole patience of a client.
        9 if rng.random_bool(0.1) => Fault::Silent,
        _ => {
            let status = *[408, 413, 429, 500, 502, 503, 504]
                .choose(rng)
                .unwrap_or(&503);
            Fault::Status {
                status,
                retry_after: retry_after.filter(|_| status != 413),
            }
        }
    }
}

fn on_device(rng: &mut ChaCha8Rng, is_real: bool) -> OnDevice {
    let all = [
        OnDevice::Kill,
        OnDevice::KillWhileTracking,
        OnDevice::KillWhileSending,
        OnDevice::SetClock,
        OnDevice::SecondProcess,
        OnDevice::FullDisk,
        OnDevice::Offline,
    ];
    // A real server's clock goes on by itself, and nobody else's can.
    let of = if is_real { &all[..3] } else { &all[..] };
    *of.choose(rng).unwrap_or(&OnDevice::Kill)
}

fn suffer(
    what: OnDevice,
    device: &mut Device<'_>,
    plan: &Plan,
    rng: &mut ChaCha8Rng,
    truth: &mut HashMap<Uuid, i64>,
    unsure: &mut u64,
    outcome: &mut Outcome,
) -> Result<()> {
    match what {
        OnDevice::Kill => {
            outcome.kills += 1;
            device.restart()?;
        }
        OnDevice::KillWhileTracking => {
            outcome.kills += 1;
            let killer = device
                .driver
                .kill_after(Duration::from_micros(rng.random_range(0..20_000)));
            while track(device, plan, rng, truth).is_ok() {}
            // The last one may be stored, without anybody having been told.
            *unsure += 1;
            join(killer);
            device.restart()?;
        }
        OnDevice::KillWhileSending => {
            outcome.kills += 1;
            let killer = device
                .driver
                .kill_after(Duration::from_micros(rng.random_range(0..30_000)));
            while let Ok(sent) = device.send() {
                if device.pass(sent.wait_ms.unwrap_or(1).max(1)).is_err() {
                    break;
                }
            }
            join(killer);
            device.restart()?;
        }
        OnDevice::SetClock => {
            device.set_clock(rng.random_range(-40 * DAY..40 * DAY))?;
            // A client sees it when it runs next.
            track(device, plan, rng, truth)?;
        }
        OnDevice::SecondProcess => {
            let mut second = crate::driver::Driver::start(device.command())?;
            let url = device.server.url.clone();
            let open = crate::driver::Open {
                dir: device.dir(),
                url: &url,
                tokens: &["token-1"],
                max_events: None,
            };
            let refused = second.open(&open, device.clocks)?;
            claim_eq!(refused, Err("in_use".to_owned()), "a second process");
        }
        OnDevice::FullDisk => {
            device.driver.limit_files(Some(0))?;
            for _ in 0..20 {
                // An SDK may end with such a disk. It may not say that it has what it has not.
                if track(device, plan, rng, truth).is_err() {
                    *unsure += 1;
                    outcome.kills += 1;
                    return device.restart();
                }
            }
            device.driver.limit_files(None)?;
        }
        OnDevice::Offline => device.pass(rng.random_range(HOUR..2 * DAY))?,
    }
    Ok(())
}

fn join(killer: std::thread::JoinHandle<()>) {
    // It does nothing that could panic.
    _ = killer.join();
}

fn compare(
    device: &mut Device<'_>,
    truth: &HashMap<Uuid, i64>,
    unsure: u64,
    outcome: &mut Outcome,
    is_real: bool,
) -> Result<()> {
    let report = device.report()?;
    let (stored, rejected, violations) = device.server.with(|state| {
        (
            state.stored.clone(),
            state.rejected.clone(),
            state.violations.clone(),
        )
    });
    ensure!(
        violations.is_empty(),
        "{} times against the contract: {}",
        violations.len(),
        violations[0]
    );
    let is_known = |id: &&Uuid| !stored.contains_key(*id) && !rejected.contains_key(*id);
    let missing = truth.keys().filter(is_known).count() as u64;
    outcome.tracked = truth.len() as u64;
    outcome.stored = stored.len() as u64;
    outcome.rejected = rejected.len() as u64;
    outcome.dropped = sum(&report["dropped"]);
    // What the disk refused was never said to be there.
    let dropped_later = outcome.dropped - report["dropped"]["disk"].as_u64().unwrap_or(0);
    outcome.lost = missing.saturating_sub(dropped_later);
    outcome.sent_again = stored.values().filter(|stored| stored.times > 1).count() as u64;
    ensure!(
        outcome.lost == 0,
        "lost and not reported: {outcome}; its report: {report}"
    );
    claim_eq!(report["queued"], 0, "queued, by its report");
    // An event whose answer was cut, and which alone was then too large, is in both.
    let accepted = report["accepted"].as_u64().unwrap_or(0);
    let twice = outcome.stored.checked_sub(accepted);
    let too_large = report["dropped"]["too_large"].as_u64().unwrap_or(0);
    ensure!(
        twice.is_some_and(|twice| twice <= too_large),
        "accepted, by its report: {accepted}, and {outcome}"
    );
    claim_eq!(
        sum(&report["rejected"]),
        outcome.rejected,
        "rejected, by its report"
    );
    let strangers = stored.keys().filter(|id| !truth.contains_key(id)).count() as u64;
    ensure!(
        strangers <= unsure,
        "{strangers} events that nobody tracked, {unsure} of them may have been"
    );
    if is_real {
        return Ok(());
    }
    for (id, stored) in &stored {
        if let Some(happened) = truth.get(id) {
            let off = stored.event_time_ms - happened;
            ensure!(
                off.abs() <= TOLERANCE_MS,
                "the event time of {id} is {off} ms off: {}",
                stored.event
            );
        }
    }
    Ok(())
}
