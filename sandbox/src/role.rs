//! Roles as processes: started, waited for, killed, frozen, measured.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::process::{Child, Command};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(45);

/// Where each command listens.
const LISTEN: [(&str, &str); 6] = [
    ("ingest", "RIVULET_LISTEN"),
    ("aggregate", "RIVULET_AGGREGATE_LISTEN"),
    ("sink", "RIVULET_SINK_LISTEN"),
    ("api", "RIVULET_API_LISTEN"),
    ("canary", "RIVULET_CANARY_LISTEN"),
    ("verify", "RIVULET_VERIFY_LISTEN"),
];

/// A role in a process of its own. Killed when dropped.
pub struct Role {
    program: PathBuf,
    name: &'static str,
    env: Vec<(&'static str, String)>,
    log: Option<PathBuf>,
    child: Child,
    /// Where it listens, `127.0.0.1:PORT`; the same after a restart.
    pub address: String,
}

impl Role {
    /// Starts `rivulet <name>`, listening on a free port. It logs to a file, or to where this process does.
    ///
    /// # Errors
    /// There is no such program, or no free port.
    pub fn start(
        program: PathBuf,
        name: &'static str,
        env: &[(&'static str, String)],
        log: Option<PathBuf>,
    ) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let role = name.split(' ').next().unwrap_or_default();
        let own = LISTEN.iter().find(|(of, _)| *of == role);
        let (_, own) = own.unwrap_or(&LISTEN[0]);
        // Only one of them matters, unless it is every role in one process.
        let listen = LISTEN.map(|(_, variable)| match variable == *own {
            true => (variable, address.clone()),
            false => (variable, "127.0.0.1:0".to_owned()),
        });
        let env = [env, &listen].concat();
        let child = spawn(&program, name, &env, log.as_deref())?;
        Ok(Self {
            program,
            name,
            env,
            log,
            child,
            address,
        })
    }

    /// Waits until it says that it can do its work.
    ///
    /// # Errors
    /// It ended, or is not ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            self.assert_running()?;
            let why = match self.get("/readyz").await {
                Ok((true, _)) => return Ok(()),
                Ok((false, why)) => why,
                Err(error) => error.to_string(),
            };
            if began.elapsed() > READY_WITHIN {
                bail!("{} is not ready: {why}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it says yes, and what.
    async fn get(&self, path: &str) -> Result<(bool, String)> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client.get(format!("http://{}{path}", self.address));
        let answer = request.timeout(Duration::from_secs(5)).send().await?;
        Ok((answer.status().is_success(), answer.text().await?))
    }

    /// Waits until all of these are ready.
    ///
    /// # Errors
    /// One of them is not, or there are not so many.
    pub async fn all_ready<const N: usize>(mut roles: Vec<Self>) -> Result<[Self; N]> {
        for role in &mut roles {
            role.ready().await?;
        }
        roles
            .try_into()
            .map_err(|_| anyhow!("as many as were asked for"))
    }

    /// # Errors
    /// It has ended; with the end of its log.
    pub fn assert_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.log_tail()),
        }
    }

    /// Kills it as a power cut would, and starts it again at the same address.
    ///
    /// # Errors
    /// It had ended before, or cannot be started.
    pub async fn crash(&mut self) -> Result<()> {
        self.kill().await?;
        self.launch()
    }

    /// Kills it as a power cut would.
    ///
    /// # Errors
    /// It had ended before.
    pub async fn kill(&mut self) -> Result<()> {
        self.assert_running()?;
        Ok(self.child.kill().await?)
    }

    /// Starts it again at the same address, after it has ended.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        self.child = spawn(&self.program, self.name, &self.env, self.log.as_deref())?;
        Ok(())
    }

    /// Waits until `/readyz` says that it cannot do its work, and this of why.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn unready(&self, why: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let said = match self.get("/readyz").await {
                Ok((_, said)) => said,
                Err(error) => error.to_string(),
            };
            if said.contains(why) {
                return Ok(());
            }
            if began.elapsed() > READY_WITHIN {
                bail!("{} does not say {why:?} but: {said}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// # Errors
    /// It is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// # Errors
    /// It is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it in order, and starts it again at the same address.
    ///
    /// # Errors
    /// It ended before, took too long, failed, or cannot be started.
    pub async fn restart(&mut self) -> Result<()> {
        self.end().await?;
        self.launch()
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It ended before, took too long or failed.
    pub async fn stop(mut self) -> Result<()> {
        self.end().await
    }

    async fn end(&mut self) -> Result<()> {
        self.assert_running()?;
        self.signal(Signal::TERM)?;
        let status = tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .with_context(|| format!("{} did not stop\n{}", self.name, self.log_tail()))??;
        ensure!(
            status.success(),
            "{} failed to stop: {status}\n{}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// It is gone.
    pub fn id(&self) -> Result<u32> {
        self.child.id().context("it has ended")
    }

    /// The most memory that it ever held, bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        let pid = self.id()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: u64 = line
            .and_then(|line| line.trim().strip_suffix("kB"))
            .context("no VmHWM")?
            .trim()
            .parse()?;
        Ok(kib * 1024)
    }

    /// The value of a counter on `/metrics`, summed over its labels; 0 where it is not there yet.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn counter(&self, name: &str) -> Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let samples = text.lines().filter(|line| line.starts_with(name));
        Ok(samples
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum())
    }

    /// Lets it write no file beyond this size, as if the disk were full; `None` lifts that.
    ///
    /// # Errors
    /// It is gone.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(self.pid()?), Resource::Fsize, limit)?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.id()?.try_into()?).context("it has ended")
    }

    fn log_tail(&self) -> String {
        let log = self.log.as_ref().and_then(|log| fs::read(log).ok());
        let log = log.unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_000)..]).into_owned()
    }
}

fn spawn(
    program: &Path,
    name: &str,
    env: &[(&'static str, String)],
    log: Option<&Path>,
) -> Result<Child> {
    let mut command = Command::new(program);
    command
        .args(name.split(' '))
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(log) = log {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    command
        .spawn()
        .with_context(|| format!("cannot start rivulet {name}"))
}
