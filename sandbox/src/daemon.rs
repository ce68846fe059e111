//! Starting a server in the background, watching it get ready, and taking it down again.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    home::{Account, Home, Record},
    ports,
    process::{Process, working_in},
};

/// How to start a server.
#[derive(Default)]
pub(crate) struct Daemon {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(&'static str, String)>,
    /// What its configuration file says, where it has one.
    pub(crate) config: String,
    pub(crate) account: Option<Account>,
}

/// How long a server may take to start, and to end in order.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A server: how it is made ready, started and asked whether it works; and how it is found and ended, whatever
/// else is gone.
pub(crate) trait Server {
    /// Names its log and its record.
    const NAME: &'static str;
    /// The ports it listens on.
    const PORTS: &'static [&'static str];
    /// Where it works, under `.dev/`. No two servers share one.
    const DIR: &'static str = Self::NAME;
    /// What its program may be called.
    const PROGRAMS: &'static [&'static str];
    /// Asks it to end.
    const STOP: Signal = Signal::TERM;

    /// What a first start needs: downloads, a data directory. Called before each start.
    async fn prepare(home: &Home) -> Result<()> {
        Ok(fs::create_dir_all(home.path(Self::DIR))?)
    }
    /// How to start it with the ports that `home` now holds; writes its configuration.
    async fn daemon(home: &Home) -> Result<Daemon>;
    /// Succeeds when it does its work.
    async fn answers(home: &Home) -> Result<()>;
}

/// What `ensure` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Found,
    Started,
    Repaired,
}

/// Sees to it that a server runs, answers, and was started the way it would be now.
pub(crate) async fn ensure<S: Server>(home: &Home) -> Result<Outcome> {
    match inspect::<S>(home).await? {
        Outcome::Found => Ok(Outcome::Found),
        outcome => {
            start::<S>(home).await?;
            Ok(outcome)
        }
    }
}

/// Looks whether a server works; where it does not, makes everything ready for `start` and says
/// what that will be. Downloads happen here, while nobody waits for another server's answer.
pub(crate) async fn inspect<S: Server>(home: &Home) -> Result<Outcome> {
    let name = S::NAME;
    let record = home.state().daemons.get(name).cloned();
    if let Some(record) = &record
        && record.process.is_alive()
    {
        let recipe = S::daemon(home).await?.recipe();
        // Patience for one that is still starting or recovering.
        let healthy = wait_ready::<S>(home, &record.process, Duration::from_secs(10)).await;
        match healthy {
            Ok(()) if recipe == record.recipe => return Ok(Outcome::Found),
            Ok(()) => eprintln!("{name}: not what would be started now, restarting it"),
            Err(error) => eprintln!("{name}: does not work ({error:#}), restarting it"),
        }
    }
    S::prepare(home).await?;
    take_down::<S>(home).await?;
    Ok(match record {
        Some(_) => Outcome::Repaired,
        None => Outcome::Started,
    })
}

/// Starts a server that was made ready, and waits until it answers.
pub(crate) async fn start<S: Server>(home: &Home) -> Result<()> {
    let name = S::NAME;
    let mut attempts = 0;
    loop {
        attempts += 1;
        for port in S::PORTS {
            home.pick_port(port)?;
        }
        let daemon = S::daemon(home).await?;
        let log = home.log(name);
        let before = fs::metadata(&log).map_or(0, |log| log.len());
        let process = daemon
            .spawn(&home.path(S::DIR), &log)
            .with_context(|| format!("start {name}"))?;
        let record = Record {
            process: process.clone(),
            recipe: daemon.recipe(),
        };
        home.update(|state| state.daemons.insert(name.to_owned(), record))?;
        let Err(error) = wait_ready::<S>(home, &process, START_WITHIN).await else {
            return Ok(());
        };
        take_down::<S>(home).await?;
        // Somebody may have taken the port between the look and the start.
        let mut ports = S::PORTS.iter().filter_map(|port| home.port(port));
        let lost_a_port = ports.any(|port| !ports::is_free(port));
        if !lost_a_port || attempts == 3 {
            bail!(
                "{name} did not start{}: {error:#}\nThe end of {}:\n{}",
                shortage(home),
                log.display(),
                tail(&log, before)
            );
        }
    }
}

/// Polls until the server answers; an error when it ended, or did not answer in time.
async fn wait_ready<S: Server>(home: &Home, process: &Process, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        if !process.is_alive() {
            bail!("it ended");
        }
        let answer = tokio::time::timeout(Duration::from_secs(5), S::answers(home))
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer within 5 s")));
        match answer {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Stops a server, recorded or left behind, and forgets it; says whether there was one.
pub(crate) async fn take_down<S: Server>(home: &Home) -> Result<bool> {
    let recorded = home.state().daemons.remove(S::NAME);
    let recorded = recorded.map(|record| record.process);
    let mut stopped = false;
    // The recorded one first: a server takes its helpers with it when it is asked in order.
    for process in recorded.into_iter().filter(Process::is_alive) {
        process.stop(S::STOP, STOP_WITHIN).await;
        stopped = true;
    }
    // Again, because helpers whose parent was killed show only when it is gone.
    for _ in 0..3 {
        for process in working_in(&home.path(S::DIR), S::PROGRAMS) {
            process.stop(S::STOP, STOP_WITHIN).await;
            stopped = true;
        }
    }
    home.update(|state| state.daemons.remove(S::NAME))?;
    Ok(stopped)
}

impl Daemon {
    /// Changes when the program, its arguments, environment or configuration do, or it was built anew.
    fn recipe(&self) -> u64 {
        let mut hash = Xxh3::new();
        if let Ok(built) = fs::metadata(&self.program).and_then(|file| file.modified()) {
            let since = built
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            hash.update(&since.as_nanos().to_le_bytes());
        }
        hash.update(self.program.as_os_str().as_encoded_bytes());
        for arg in &self.args {
            hash.update(&[0]);
            hash.update(arg.as_encoded_bytes());
        }
        for (name, value) in &self.env {
            hash.update(&[1]);
            hash.update(name.as_bytes());
            hash.update(value.as_bytes());
        }
        hash.update(self.config.as_bytes());
        hash.digest()
    }

    fn spawn(&self, dir: &Path, log: &Path) -> Result<Process> {
        let output = open_log(log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own: Ctrl-C at the terminal is meant for `./dev`, not for this.
            .process_group(0);
        if let Some(account) = self.account {
            account.assume(&mut command);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let process = i32::try_from(child.id()).ok().and_then(Process::with_pid);
        // Reaps it, should it end before us.
        std::thread::spawn(move || child.wait());
        process.context("it ended at once")
    }
}

/// Opened for appending; a log that has grown past 16 MiB makes room first.
fn open_log(path: &Path) -> Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > 16 << 20) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// The last lines that were written after the first `skip` bytes.
fn tail(path: &Path, skip: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(
            skip.min(length).max(length.saturating_sub(8_192)),
        ))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// The commonest reason for which everything fails at once.
fn shortage(home: &Home) -> String {
    match rustix::fs::statvfs(home.path("")) {
        Ok(disk) if disk.f_bavail.saturating_mul(disk.f_frsize) < 512 << 20 => {
            format!(
                " (the disk with {} is all but full)",
                home.path("").display()
            )
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_begins_where_this_start_did() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        fs::write(&log, "old\nnew\n").unwrap();
        assert_eq!(tail(&log, 4), "    new\n");
        assert_eq!(tail(&dir.path().join("none"), 0), "");
        let many: String = (0..100).map(|n| format!("line {n}\n")).collect();
        fs::write(&log, many).unwrap();
        let tail = tail(&log, 0);
        assert_eq!(tail.lines().count(), 25);
        assert!(tail.ends_with("    line 99\n"));
    }
}
