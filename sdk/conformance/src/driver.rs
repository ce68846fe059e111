//! An SDK's driver as a process: a command goes in as a line, its answer comes out as one (docs/sdk-conformance.md).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The two clocks that a driver is told.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Unix milliseconds, as the device believes.
    pub wall_ms: i64,
    /// Milliseconds since some moment of this process.
    pub monotonic_ms: i64,
}

/// What a client is opened with.
#[derive(Clone, Debug)]
pub struct Open<'a> {
    /// Where its store is.
    pub dir: &'a Path,
    /// Where the server is.
    pub url: &'a str,
    /// What it is given, one after the other, when it asks for a credential.
    pub tokens: &'a [&'a str],
    /// The bound of its queue.
    pub max_events: Option<u64>,
}

/// A process that is ended when it is dropped.
pub struct Driver {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts it; `command` is a program and its arguments.
    ///
    /// # Errors
    /// There is no such program.
    pub fn start(command: &[String]) -> Result<Self> {
        let Some(program) = command.first() else {
            anyhow::bail!("no driver is named")
        };
        // A file that may not grow is an error to the driver then, and not a signal that ends it.
        let mut process = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("the driver {program} cannot be started"))?;
        let input = process.stdin.take().context("no stdin")?;
        let output = BufReader::new(process.stdout.take().context("no stdout")?);
        Ok(Self {
            process,
            input,
            output,
        })
    }

    /// Gives a command and waits for the answer.
    ///
    /// # Errors
    /// The process is gone, or its answer is not a line of JSON.
    pub fn ask(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.input, "{command}").context("the driver is gone")?;
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("the driver is gone")?;
        ensure!(line.ends_with('\n'), "the driver is gone");
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))
    }

    /// Opens a client; the error is what the driver calls it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn open(
        &mut self,
        open: &Open<'_>,
        clocks: Clocks,
    ) -> Result<std::result::Result<(), String>> {
        let mut command = json!({
            "op": "open", "dir": open.dir, "url": open.url, "tokens": open.tokens,
            "wall_ms": clocks.wall_ms, "monotonic_ms": clocks.monotonic_ms,
        });
        if let Some(events) = open.max_events {
            command["max_events"] = events.into();
        }
        let answer = self.ask(&command)?;
        let error = || {
            answer["error"]
                .as_str()
                .unwrap_or("it says nothing of why")
                .to_owned()
        };
        Ok(if answer["ok"] == true {
            Ok(())
        } else {
            Err(error())
        })
    }

    /// Tells what time it is.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn clock(&mut self, clocks: Clocks) -> Result<()> {
        let command =
            json!({"op": "clock", "wall_ms": clocks.wall_ms, "monotonic_ms": clocks.monotonic_ms});
        self.done(&command)
    }

    /// A command that is answered by nothing but that it was done.
    ///
    /// # Errors
    /// As [`Self::ask`], or it was not done.
    pub fn done(&mut self, command: &Value) -> Result<()> {
        let answer = self.ask(command)?;
        ensure!(answer["ok"] == true, "{command} is answered {answer}");
        Ok(())
    }

    /// Ends it as nothing can be ended gentler: SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        // Where it is gone already there is nothing to kill.
        _ = self.process.kill();
        self.process.wait()?;
        Ok(())
    }

    /// The same after a while, in the middle of whatever it does then.
    pub fn kill_after(&self, wait: Duration) -> thread::JoinHandle<()> {
        let pid = self.process.id();
        thread::spawn(move || {
            thread::sleep(wait);
            // Its exit status is not collected before this thread was joined, so the number is nobody else's.
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                _ = kill_process(pid, Signal::KILL);
            }
        })
    }

    /// Bounds the files that it may write, as a full disk would; nothing takes the bound away.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        use rustix::process::{Resource, Rlimit, prlimit};
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        prlimit(
            pid,
            Resource::Fsize,
            Rlimit {
                current: bytes,
                maximum: None,
            },
        )?;
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        _ = self.kill();
    }
}
