//! A device: its clocks, its disk, and the SDK that runs on it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    driver::{Clocks, Driver, Open},
    server::Server,
};

/// 2026-05-04T09:30:00Z.
pub(crate) const NOW: i64 = 1_777_887_000_000;
pub(crate) const SECOND: i64 = 1_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) const CHILD: Uuid = Uuid::from_u128(0x0f9e_8d7c_2222_4222_8333_4444_4444_4444);

/// Longer than anything may have to be waited for.
const ROUNDS: u32 = 400;

pub(crate) struct Device<'a> {
    command: &'a [String],
    pub(crate) server: Server,
    pub(crate) driver: Driver,
    dir: PathBuf,
    _dir: TempDir,
    pub(crate) clocks: Clocks,
    pub(crate) tokens: Vec<&'static str>,
    pub(crate) max_events: Option<u64>,
}

/// What `send` came to.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) queued: u64,
    pub(crate) wait_ms: Option<i64>,
    pub(crate) stopped: Option<String>,
}

impl<'a> Device<'a> {
    /// Starts the driver, without a client.
    pub(crate) fn new(command: &'a [String], server: Server) -> Result<Self> {
        let dir = TempDir::new()?;
        Ok(Self {
            command,
            server,
            driver: Driver::start(command)?,
            dir: dir.path().join("store"),
            _dir: dir,
            clocks: Clocks {
                wall_ms: NOW,
                monotonic_ms: 1_000,
            },
            tokens: vec!["token-1"],
            max_events: None,
        })
    }

    /// With a client.
    pub(crate) fn opened(command: &'a [String], server: Server) -> Result<Self> {
        let mut device = Self::new(command, server)?;
        device.open()?;
        Ok(device)
    }

    pub(crate) fn command(&self) -> &'a [String] {
        self.command
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn try_open(&mut self) -> Result<std::result::Result<(), String>> {
        let open = Open {
            dir: &self.dir,
            url: &self.server.url,
            tokens: &self.tokens,
            max_events: self.max_events,
        };
        self.driver.open(&open, self.clocks)
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.try_open()?
            .map_err(|error| anyhow!("the store cannot be opened: {error}"))
    }

    /// A new process with the same store; the monotonic clock begins anew.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.driver.kill()?;
        // Where it was killed before it read the answer, nobody knows how long the server said to wait.
        self.server.with(|state| state.not_before_ms = i64::MIN);
        self.driver = Driver::start(self.command)?;
        self.clocks.monotonic_ms = 1_000;
        self.open()
    }

    /// Time passes, for server and device.
    pub(crate) fn pass(&mut self, millis: i64) -> Result<()> {
        self.server.with(|state| state.now_ms += millis);
        self.clocks.wall_ms += millis;
        self.clocks.monotonic_ms += millis;
        self.driver.clock(self.clocks)
    }

    /// Somebody sets the device's clock.
    pub(crate) fn set_clock(&mut self, by_ms: i64) -> Result<()> {
        self.clocks.wall_ms += by_ms;
        self.driver.clock(self.clocks)
    }

    /// An event; the error of an SDK that did not take it is its reason.
    pub(crate) fn track(&mut self) -> Result<std::result::Result<Uuid, String>> {
        let data = json!({"action": "view", "subject": "math"});
        self.track_event(
            &json!({"op": "track", "child_id": CHILD, "type": "interaction", "data": data}),
        )
    }

    pub(crate) fn track_event(
        &mut self,
        command: &Value,
    ) -> Result<std::result::Result<Uuid, String>> {
        let answer = self.driver.ask(command)?;
        if let Some(reason) = answer["dropped"].as_str() {
            return Ok(Err(reason.to_owned()));
        }
        let id = answer["id"].as_str().and_then(|id| id.parse().ok());
        id.map(Ok)
            .with_context(|| format!("track is answered {answer}"))
    }

    /// Events that have to be taken.
    pub(crate) fn tracked(&mut self, count: usize) -> Result<Vec<Uuid>> {
        (0..count)
            .map(|_| {
                self.track()?
                    .map_err(|reason| anyhow!("an event was dropped: {reason}"))
            })
            .collect()
    }

    pub(crate) fn send(&mut self) -> Result<Sent> {
        let answer = self.driver.ask(&json!({"op": "send"}))?;
        Ok(Sent {
            queued: answer["queued"]
                .as_u64()
                .with_context(|| format!("send is answered {answer}"))?,
            wait_ms: answer["wait_ms"].as_f64().map(|wait| wait.ceil() as i64),
            stopped: answer["stopped"].as_str().map(str::to_owned),
        })
    }

    /// Sends, and lets as much time pass as it asks for, until the queue is empty. Returns how long that took.
    pub(crate) fn send_all(&mut self) -> Result<i64> {
        let began = self.clocks.monotonic_ms;
        for _ in 0..ROUNDS {
            let sent = self.send()?;
            if sent.queued == 0 {
                return Ok(self.clocks.monotonic_ms - began);
            }
            let wait = sent
                .wait_ms
                .with_context(|| format!("it waits for nothing: {sent:?}"))?;
            self.pass(wait.max(1))?;
        }
        Err(anyhow!("the queue does not get empty"))
    }

    pub(crate) fn report(&mut self) -> Result<Value> {
        self.driver.ask(&json!({"op": "report"}))
    }
}

/// The sum of counts by name.
pub(crate) fn sum(counts: &Value) -> u64 {
    counts
        .as_object()
        .into_iter()
        .flat_map(|counts| counts.values())
        .filter_map(Value::as_u64)
        .sum()
}
