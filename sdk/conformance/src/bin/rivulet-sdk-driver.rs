//! The driver of the Rust core for the conformance suite: docs/sdk-conformance.md.

use std::{
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rivulet_sdk::{
    Bounds, Client, Clock, Config, Credential, Event, Http, NotStored, OpenError, Stopped,
};
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Default)]
struct Clocks {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl Clock for Clocks {
    fn wall_ms(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> i64 {
        self.monotonic.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Driver {
    clocks: Arc<Clocks>,
    client: Option<Client>,
}

fn field<T: serde::de::DeserializeOwned>(command: &Value, name: &str) -> Result<T> {
    let value = command.get(name).with_context(|| format!("no {name}"))?;
    serde_json::from_value(value.clone()).with_context(|| name.to_owned())
}

impl Driver {
    fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("no client is open")
    }

    fn set_clocks(&self, command: &Value) -> Result<()> {
        self.clocks
            .wall
            .store(field(command, "wall_ms")?, Ordering::Relaxed);
        self.clocks
            .monotonic
            .store(field(command, "monotonic_ms")?, Ordering::Relaxed);
        Ok(())
    }

    fn open(&mut self, command: &Value) -> Result<Value> {
        self.set_clocks(command)?;
        let tokens = Mutex::new(field::<Vec<String>>(command, "tokens")?);
        let ask = move || {
            let mut tokens = tokens.lock();
            if tokens.len() > 1 {
                Some(tokens.remove(0))
            } else {
                tokens.first().cloned()
            }
        };
        let mut bounds = Bounds::default();
        if command.get("max_events").is_some() {
            bounds.events = field(command, "max_events")?;
        }
        let config = Config {
            bounds,
            background: false,
            clock: Arc::clone(&self.clocks) as _,
            ..Config::with(
                field::<String>(command, "url")?,
                Credential::Token(Arc::new(ask)),
                field::<PathBuf>(command, "dir")?,
                Arc::new(Http::new(Duration::from_secs(2))),
            )
        };
        Ok(match Client::open(config) {
            Ok(client) => {
                self.client = Some(client);
                json!({"ok": true})
            }
            Err(OpenError::InUse) => json!({"ok": false, "error": "in_use"}),
            Err(error) => json!({"ok": false, "error": error.to_string()}),
        })
    }

    fn track(&self, command: &Value) -> Result<Value> {
        let mut event = Event::new(field::<String>(command, "type")?, field(command, "data")?);
        if command.get("session_id").is_some() {
            event.session_id = Some(field(command, "session_id")?);
        }
        Ok(
            match self
                .client()?
                .track(field::<Uuid>(command, "child_id")?, event)
            {
                Ok(id) => json!({"id": id}),
                Err(NotStored::Consent) => json!({"dropped": "consent"}),
                Err(NotStored::TooLarge) => json!({"dropped": "too_large"}),
                Err(NotStored::Disk) => json!({"dropped": "disk"}),
                Err(NotStored::Closed) => json!({"dropped": "closed"}),
            },
        )
    }

    fn send(&self) -> Result<Value> {
        let progress = self.client()?.send();
        let stopped = match progress.stopped {
            Some(Stopped::Unauthorized) => Some("unauthorized"),
            Some(Stopped::Forbidden) => Some("forbidden"),
            Some(Stopped::Disabled) => Some("disabled"),
            Some(Stopped::Refused { .. }) | None => None,
        };
        let wait = progress.wait.map(|wait| wait.as_millis());
        Ok(json!({"queued": progress.queued, "wait_ms": wait, "stopped": stopped}))
    }

    fn obey(&mut self, command: &Value) -> Result<Value> {
        let done = json!({"ok": true});
        Ok(match command["op"].as_str().unwrap_or_default() {
            "open" => self.open(command)?,
            "clock" => {
                self.set_clocks(command)?;
                done
            }
            "track" => self.track(command)?,
            "send" => self.send()?,
            "report" => {
                let stats = self.client()?.stats()?;
                json!({"queued": stats.queued, "accepted": stats.accepted, "rejected": stats.rejected,
                       "dropped": stats.dropped})
            }
            "credential" => {
                self.client()?
                    .set_credential(field::<String>(command, "token")?);
                done
            }
            "consent" => {
                let of = |name: &str| command[name].as_bool();
                self.client()?.set_consent(of("coppa"), of("audio"));
                done
            }
            "close" => {
                let client = self.client.take().context("no client is open")?;
                json!({"ok": client.close(Duration::from_secs(1))})
            }
            other => bail!("an unknown command: {other}"),
        })
    }
}

fn main() -> Result<()> {
    let mut driver = Driver::default();
    for line in io::stdin().lock().lines() {
        let answer = driver.obey(&serde_json::from_str(&line?)?)?;
        let mut output = io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}
