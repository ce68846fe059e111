//! Processes that are measured: CPU time and memory from `/proc`.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::load::Client;

const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(45);

/// User and system time of a process with all its threads; `None` if there is no such process here.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows is fields 3 and on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // Linux counts in hundredths of a second on every architecture Rust runs on.
    Some(Duration::from_millis(ticks * 10))
}

/// The most memory a process ever held, MiB.
fn peak_memory(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The `rivulet` command of the same build.
fn rivulet() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("rivulet");
    ensure!(
        path.exists(),
        "{} is not there: `cargo build --release -p rivulet` (or `./dev bench`, which does it)",
        path.display()
    );
    Ok(path)
}

/// Runs a `rivulet` command to its end and returns what it printed, trimmed.
pub(crate) async fn command(args: &[&str], env: &[(&str, String)]) -> Result<String> {
    let output = Command::new(rivulet()?)
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .env("RIVULET_LOG", "warn")
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "`rivulet {}` failed",
        args.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Makes an API key.
pub(crate) async fn key(name: &str, scope: &str, env: &[(&str, String)]) -> Result<String> {
    command(&["keys", "create", "--name", name, "--scope", scope], env).await
}

/// A role in a process of its own.
pub(crate) struct Role {
    child: Child,
    pid: u32,
    /// Where it listens, `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Role {
    /// Starts these roles, and waits until all of them are ready.
    pub(crate) async fn all<const N: usize>(
        roles: [&str; N],
        env: &[(&str, String)],
    ) -> Result<[Self; N]> {
        let mut started = Vec::new();
        for role in roles {
            started.push(Self::start(role, env)?);
        }
        for role in &mut started {
            role.ready().await?;
        }
        let all = started.try_into();
        all.map_err(|_| anyhow::anyhow!("as many as were asked for"))
    }

    /// Starts `rivulet <role>` listening on a free port.
    pub(crate) fn start(role: &str, env: &[(&str, String)]) -> Result<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .to_string();
        let listen = match role {
            "ingest" => "RIVULET_LISTEN",
            "aggregate" => "RIVULET_AGGREGATE_LISTEN",
            "api" => "RIVULET_API_LISTEN",
            _ => "RIVULET_SINK_LISTEN",
        };
        let child = Command::new(rivulet()?)
            .arg(role)
            .env("RIVULET_LOG", "warn")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env(listen, &address)
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("the role ended at once")?;
        Ok(Self {
            child,
            pid,
            address,
        })
    }

    async fn ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY {
            if let Some(status) = self.child.try_wait()? {
                bail!("the role ended before it was ready: {status}");
            }
            let request = b"GET /readyz HTTP/1.1\r\nHost: bench\r\n\r\n";
            let answer = async { Client::connect(&self.address).await?.succeed(request).await };
            if answer.await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the role was not ready within {READY:?}")
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.pid).context("the role has ended")
    }

    pub(crate) fn peak_memory(&self) -> Result<f64> {
        peak_memory(self.pid).context("the role has ended")
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(STOP, self.child.wait())
            .await
            .context("the role did not stop in time")??;
        ensure!(status.success(), "the role did not stop in order: {status}");
        Ok(())
    }
}
