//! The contract for SDKs, a rule at a time.

use anyhow::{Result, ensure};
use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    device::{CHILD, DAY, Device, HOUR, NOW, SECOND},
    driver::{Driver, Open},
    server::{Fault, Server},
};

/// A rule, by what it says, and whether an SDK keeps it.
pub struct Rule {
    /// What must be true.
    pub name: &'static str,
    check: fn(&[String]) -> Result<()>,
}

impl Rule {
    /// Holds the SDK whose driver is `command` to it.
    ///
    /// # Errors
    /// It does not keep it; the text says how.
    pub fn check(&self, command: &[String]) -> Result<()> {
        (self.check)(command)
    }
}

macro_rules! rules {
    ($($(#[doc = $about:literal])+ fn $name:ident($command:ident) $body:block)+) => {
        /// All of them.
        #[must_use]
        pub fn all() -> Vec<Rule> {
            vec![$(Rule { name: stringify!($name), check: $name }),+]
        }

        $($(#[doc = $about])+ fn $name($command: &[String]) -> Result<()> {
            $body
            Ok(())
        })+
    };
}

fn server() -> Result<Server> {
    Ok(Server::start(1, NOW, None)?)
}

fn opened(command: &[String]) -> Result<Device<'_>> {
    Device::opened(command, server()?)
}

fn fault(device: &Device<'_>, fault: Fault) {
    device.server.with(|state| state.faults.push_back(fault));
}

fn status(status: u16, retry_after: Option<&str>) -> Fault {
    Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    }
}

fn speech() -> Value {
    json!({"op": "track", "child_id": CHILD, "type": "speech",
           "data": {"audio_session_id": Uuid::nil(), "window_ms": 1_000}})
}

fn config(enabled: bool, coppa: bool, audio: bool) -> Value {
    json!({"enabled": enabled, "max_events": 1_000, "max_event_bytes": 65_536, "flush_interval_s": 30,
           "consents": {"coppa": coppa, "audio": audio, "analytics": false}})
}

/// Whether everything that was tracked was stored, and nobody broke the contract.
fn all_stored(device: &mut Device<'_>, ids: &[Uuid]) -> Result<()> {
    device.server.with(|state| {
        for id in ids {
            ensure!(state.stored.contains_key(id), "{id} did not arrive");
        }
        ensure!(state.violations.is_empty(), "{}", state.violations[0]);
        Ok(())
    })
}

rules! {
    /// `id` is a UUIDv7 of the moment, `occurred_at` the clock of the device, and what is in the event arrives as it was told.
    fn an_event_arrives_as_it_happened(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(3)?;
        device.pass(90 * SECOND)?;
        device.send_all()?;
        all_stored(&mut device, &ids)?;
        let event = device.server.with(|state| state.stored[&ids[0]].clone());
        claim_eq!(event.event["child_id"], json!(CHILD), "child_id");
        claim_eq!(event.event["type"], "interaction", "type");
        claim_eq!(event.event["data"]["subject"], "math", "data");
        claim_eq!(event.event_time_ms, NOW, "event time");
        claim_eq!(ids[0].get_version_num(), 7, "version of the id");
        let made = ids[0].get_timestamp().map(|time| time.to_unix().0 as i64 * 1_000);
        claim_eq!(made, Some(NOW / 1_000 * 1_000), "time in the id");
    }

    /// A batch has 200 events at most, and not one each.
    fn events_are_sent_in_batches(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(450)?;
        device.send_all()?;
        all_stored(&mut device, &ids)?;
        let batches = device.server.with(|state| state.batches.clone());
        ensure!(batches.len() <= 23, "{} batches for 450 events", batches.len());
    }

    /// An answer that is cut at whatever byte is no answer: the batch comes again, verbatim, and is forgotten once.
    fn an_answer_may_be_cut_at_every_byte(command) {
        let mut device = opened(command)?;
        for at in 0..330 {
            let ids = device.tracked(1)?;
            fault(&device, Fault::CutAnswer(at));
            device.send_all()?;
            all_stored(&mut device, &ids)?;
        }
        claim_eq!(device.report()?["accepted"], 330, "accepted, by its report");
    }

    /// A request that is cut at whatever byte was not stored.
    fn a_request_may_be_cut_at_every_byte(command) {
        let mut device = opened(command)?;
        for at in (0..400).step_by(3) {
            let ids = device.tracked(1)?;
            fault(&device, Fault::CutRequest(at));
            device.send_all()?;
            all_stored(&mut device, &ids)?;
        }
    }

    /// No answer within the patience is no answer.
    fn silence_is_no_answer(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(2)?;
        fault(&device, Fault::Silent);
        claim_eq!(device.send()?.queued, 2, "queued after silence");
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// A status of 200 that is not the server's, or that does not answer for each event, is no answer.
    fn an_answer_of_somebody_else_is_no_answer(command) {
        for lie in [Fault::Portal, Fault::TooFewResults] {
            let mut device = opened(command)?;
                let ids = device.tracked(2)?;
            fault(&device, lie.clone());
            claim_eq!(device.send()?.queued, 2, "queued after {lie:?}");
            device.send_all()?;
            all_stored(&mut device, &ids)?;
        }
    }

    /// 408, 429 and every 5xx keep the batch. The n-th failure waits min(300 s, 2^n s) at most, and not always the same.
    fn failures_wait_longer_each_time(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(2)?;
        let mut waits = Vec::new();
        for n in 1..=14_u32 {
            fault(&device, status([408, 429, 500, 502, 503, 504, 520][n as usize % 7], None));
            let sent = device.send()?;
            claim_eq!(sent.queued, 2, "queued after failure {n}");
            let (wait, longest) = (sent.wait_ms.unwrap_or(0), 300_000.min(1_000 << n));
            ensure!(wait <= longest, "it waits for {wait} ms after failure {n}, at most {longest} are right");
            waits.push(wait);
            device.pass(wait.max(1))?;
        }
        ensure!(waits.iter().max() > Some(&20_000), "it never waits for long: {waits:?}");
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// `Retry-After`, in seconds, is waited for, with up to a fifth more; nobody comes before.
    fn the_server_says_how_long_to_wait(command) {
        for of in [429, 503] {
            let mut device = opened(command)?;
                let ids = device.tracked(2)?;
            fault(&device, status(of, Some("60")));
            let wait = device.send()?.wait_ms.unwrap_or(0);
            ensure!((60_000..=72_000).contains(&wait), "it waits for {wait} ms after `Retry-After: 60`");
            device.pass(59 * SECOND)?;
            device.send()?;
            device.send_all()?;
            all_stored(&mut device, &ids)?;
        }
    }

    /// `retry` keeps an event, `rejected` forgets and counts it, `accepted` forgets it.
    fn each_event_has_its_own_outcome(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(150)?;
        fault(&device, Fault::Retry(0.4));
        let queued = device.send()?.queued;
        ensure!((1..150).contains(&queued), "{queued} of 150 are queued after some were `retry`");
        device.send_all()?;
        all_stored(&mut device, &ids)?;
        device.tracked(100)?;
        fault(&device, Fault::Reject(0.3, "invalid_field"));
        device.send_all()?;
        let rejected = device.server.with(|state| state.rejected.len());
        ensure!(rejected > 0, "nothing was rejected");
        claim_eq!(device.report()?["rejected"], json!({"invalid_field": rejected}), "rejected, by its report");
    }

    /// A batch that is too large is halved; one event that is, is dropped and reported, and the others arrive.
    fn too_much_at_once_is_halved(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(120)?;
        device.server.with(|state| state.max_events = 20);
        device.send_all()?;
        all_stored(&mut device, &ids)?;
        device.server.with(|state| state.max_events = 0);
        device.tracked(1)?;
        device.send_all()?;
        device.server.with(|state| state.max_events = 1_000);
        claim_eq!(device.report()?["dropped"], json!({"too_large": 1}), "dropped, by its report");
    }

    /// 401 asks for a credential once. A second 401 stops; a credential of the app goes on. Nothing is lost by it.
    fn a_credential_is_asked_for_once(command) {
        let mut device = Device::new(command, server()?)?;
        device.tokens = vec!["old", "new", "newer"];
        device.server.with(|state| state.credentials = ["new".to_owned()].into());
        device.open()?;
        let mut ids = device.tracked(2)?;
        claim_eq!(device.send()?.queued, 0, "queued after the new token");
        device.server.with(|state| state.credentials = ["by hand".to_owned()].into());
        ids.extend(device.tracked(2)?);
        let before = device.server.with(|state| state.requests);
        let sent = device.send()?;
        claim_eq!(sent.stopped.as_deref(), Some("unauthorized"), "stopped");
        claim_eq!(device.server.with(|state| state.requests) - before, 2, "requests with bad credentials");
        device.pass(60 * SECOND)?;
        claim_eq!(device.send()?.queued, 2, "queued while it is stopped");
        claim_eq!(device.server.with(|state| state.requests) - before, 2, "requests while it is stopped");
        device.driver.done(&json!({"op": "credential", "token": "by hand"}))?;
        claim_eq!(device.send()?.queued, 0, "queued after the app's own");
        all_stored(&mut device, &ids)?;
    }

    /// 403 stops and keeps everything; the next start tries again.
    fn who_may_not_send_keeps_everything(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(2)?;
        fault(&device, status(403, None));
        claim_eq!(device.send()?.stopped.as_deref(), Some("forbidden"), "stopped");
        device.pass(60 * SECOND)?;
        claim_eq!(device.send()?.queued, 2, "queued while it is stopped");
        device.restart()?;
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// What nobody takes (any other 4xx) is kept, and not sent again at once.
    fn what_nobody_takes_is_kept(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(2)?;
        for of in [400, 404, 415] {
            fault(&device, status(of, None));
            claim_eq!(device.send()?.queued, 2, "queued after {of}");
            device.pass(300 * SECOND)?;
        }
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// `enabled: false` of the server keeps everything until it says otherwise.
    fn the_server_can_switch_clients_off(command) {
        let mut device = Device::new(command, server()?)?;
        device.server.with(|state| state.config = Some(config(false, true, true)));
        device.open()?;
        let ids = device.tracked(3)?;
        claim_eq!(device.send()?.stopped.as_deref(), Some("disabled"), "stopped");
        claim_eq!(device.server.with(|state| state.stored.len()), 0, "stored while it is switched off");
        device.server.with(|state| state.config = Some(config(true, true, true)));
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// Without `audio` no speech is kept, without `coppa` nothing; both by what the server says of the family.
    fn consents_of_the_family_are_kept(command) {
        let mut device = Device::new(command, server()?)?;
        device.server.with(|state| state.config = Some(config(true, true, false)));
        device.open()?;
        let kept = device.tracked(1)?;
        device.track_event(&speech())?.ok();
        device.send_all()?;
        all_stored(&mut device, &kept)?;
        claim_eq!(device.server.with(|state| state.stored.len()), 1, "stored without audio");
        claim_eq!(device.track_event(&speech())?, Err("consent".to_owned()), "speech without audio");
        device.server.with(|state| state.config = Some(config(true, false, false)));
        device.tracked(1)?;
        device.pass(HOUR + SECOND)?;
        device.send_all()?;
        claim_eq!(device.track()?, Err("consent".to_owned()), "an event without coppa");
        claim_eq!(device.server.with(|state| state.stored.len()), 1, "stored without coppa");
        claim_eq!(device.report()?["dropped"]["consent"], 4, "dropped for consent, by its report");
    }

    /// `consent_required` purges that child's events and takes no more of them; an app that withdraws purges all.
    fn consents_that_the_server_refuses_are_believed(command) {
        let mut device = opened(command)?;
        device.tracked(1)?;
        fault(&device, Fault::Reject(1.0, "consent_required"));
        device.send_all()?;
        claim_eq!(device.track()?, Err("consent".to_owned()), "an event after consent_required");
        let mut device = opened(command)?;
        device.tracked(5)?;
        device.driver.done(&json!({"op": "consent", "coppa": false}))?;
        device.send_all()?;
        claim_eq!(device.server.with(|state| state.stored.len()), 0, "stored after it was withdrawn");
        claim_eq!(device.report()?["dropped"], json!({"consent": 5}), "dropped, by its report");
    }

    /// The queue is bounded. What has to go is the oldest, is counted, and the server is told.
    fn a_full_queue_drops_the_oldest_and_says_so(command) {
        let mut device = Device::new(command, server()?)?;
        device.max_events = Some(50);
        device.open()?;
        let ids = device.tracked(80)?;
        device.send_all()?;
        all_stored(&mut device, &ids[30..])?;
        claim_eq!(device.report()?["dropped"], json!({"overflow": 30}), "dropped, by its report");
        claim_eq!(device.server.with(|state| state.dropped.get("overflow").copied()), Some(30), "told to the server");
    }

    /// What `track` has answered is there after SIGKILL.
    fn what_was_tracked_survives_kill(command) {
        let mut device = opened(command)?;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.extend(device.tracked(20)?);
            device.restart()?;
        }
        device.send_all()?;
        all_stored(&mut device, &ids)?;
        claim_eq!(device.report()?["accepted"], 100, "accepted, by its report");
    }

    /// Two processes never have the same store; a killed one leaves it free.
    fn a_store_has_one_process(command) {
        let mut device = opened(command)?;
        let ids = device.tracked(3)?;
        let url = device.server.url.clone();
        let open = Open { dir: device.dir(), url: &url, tokens: &["token-1"], max_events: None };
        let mut second = Driver::start(command)?;
        claim_eq!(second.open(&open, device.clocks)?, Err("in_use".to_owned()), "a second process");
        drop(second);
        device.restart()?;
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// A disk that takes no more: nothing is said to be stored that is not, and everything goes on when there is room.
    fn a_full_disk_loses_nothing_in_silence(command) {
        let mut device = opened(command)?;
        let mut ids = device.tracked(10)?;
        device.driver.limit_files(Some(0))?;
        let mut refused = 0;
        for _ in 0..20 {
            match device.track()? {
                Ok(id) => ids.push(id),
                Err(reason) => {
                    claim_eq!(reason, "disk", "the reason");
                    refused += 1;
                }
            }
        }
        ensure!(refused > 0, "a disk without room took everything");
        device.driver.limit_files(None)?;
        ids.extend(device.tracked(10)?);
        device.send_all()?;
        all_stored(&mut device, &ids)?;
    }

    /// 30 days offline: what is too old is reported, and the rest arrives with its own time.
    fn thirty_days_offline(command) {
        let mut device = opened(command)?;
        let old = device.tracked(3)?;
        device.pass(10 * DAY)?;
        let young = device.tracked(4)?;
        device.pass(21 * DAY)?;
        device.send_all()?;
        all_stored(&mut device, &young)?;
        let report = device.report()?;
        let dropped = report["dropped"]["expired"].as_u64().unwrap_or(0);
        let rejected = report["rejected"]["too_old"].as_u64().unwrap_or(0);
        claim_eq!(dropped + rejected, old.len() as u64, "reported as too old: {report}");
        let happened = device.server.with(|state| state.stored[&young[0]].event_time_ms);
        claim_eq!(happened, NOW + 10 * DAY, "event time");
    }

    /// A clock that is set while the app runs, before and after a restart, moves no event.
    fn clocks_that_are_set_move_no_event(command) {
        for by in [-9 * DAY, -2 * HOUR, 2 * HOUR, 9 * DAY, 400 * DAY] {
            for restarts in [false, true] {
                let mut device = opened(command)?;
                let before = device.tracked(1)?;
                device.pass(60 * SECOND)?;
                device.set_clock(by)?;
                let after = device.tracked(1)?;
                if restarts {
                    device.restart()?;
                }
                device.pass(60 * SECOND)?;
                device.send_all()?;
                let time = |id: &Uuid| device.server.with(|state| state.stored.get(id).map(|at| at.event_time_ms));
                claim_eq!(time(&before[0]), Some(NOW), "set by {by} ms, restarted: {restarts}, before");
                claim_eq!(time(&after[0]), Some(NOW + 60 * SECOND), "set by {by} ms, restarted: {restarts}, after");
            }
        }
    }

    /// A clock that is wrong all the time is known after the first answer: ids are made by the server's clock.
    fn a_wrong_clock_is_learned(command) {
        let mut device = Device::new(command, server()?)?;
        device.clocks.wall_ms -= 4_000 * DAY;
        device.open()?;
        let first = device.tracked(1)?;
        device.send_all()?;
        let second = device.tracked(1)?;
        device.send_all()?;
        for id in first.iter().chain(&second) {
            let time = device.server.with(|state| state.stored.get(id).map(|stored| stored.event_time_ms));
            ensure!(time.is_some_and(|time| (time - NOW).abs() < 2 * SECOND), "event time {time:?}");
        }
        let made = second[0].get_timestamp().map_or(0, |time| time.to_unix().0 as i64 * 1_000);
        ensure!((made - NOW).abs() < 2 * SECOND, "the id was made at {:?}", DateTime::from_timestamp_millis(made));
    }
}
