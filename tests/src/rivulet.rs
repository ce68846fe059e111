//! A whole Rivulet, made with the commands that an operator would use.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use rivulet_sandbox::{Role, Service, TestBed, sibling};
use rivulet_simulator::Config;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::kafka;

/// Names the `rivulet` of another release, for every second role that is started: an upgrade, of which
/// every test is then one.
const OTHER_RELEASE: &str = "RIVULET_OTHER_RELEASE";

const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// Databases, topics and keys of one test, and the processes that run on them.
pub struct Rivulet {
    /// The services.
    pub bed: TestBed,
    /// A key with scope `ingest`.
    pub ingest_key: String,
    /// A key with scope `admin`.
    pub admin_key: String,
    env: Vec<(&'static str, String)>,
    dir: TempDir,
    logs: AtomicU32,
}

impl Rivulet {
    /// Migrates, makes the topics and the keys. `env` is added to every process's environment.
    ///
    /// # Errors
    /// A command failed.
    pub async fn new(bed: TestBed, env: &[(&'static str, &str)]) -> Result<Self> {
        let mut all = bed.environment();
        all.push(("RIVULET_LOG", "info".to_owned()));
        all.extend(env.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut this = Self {
            bed,
            ingest_key: String::new(),
            admin_key: String::new(),
            env: all,
            dir: tempfile::tempdir()?,
            logs: AtomicU32::new(0),
        };
        this.command(&["migrate"]).await?;
        this.command(&["topics"]).await?;
        this.ingest_key = this.key("ingest").await?;
        this.admin_key = this.key("admin").await?;
        Ok(this)
    }

    /// The same on a bed of its own, with these roles, which are ready.
    ///
    /// # Errors
    /// A command failed, or a role is not ready.
    pub async fn running<const N: usize>(
        env: &[(&'static str, &str)],
        roles: [&'static str; N],
    ) -> Result<(Self, [Role; N])> {
        let this = Self::new(TestBed::new().await, env).await?;
        let roles = this.start(roles).await?;
        Ok((this, roles))
    }

    /// The login to PostgreSQL of this command, at the address that all are given.
    fn login(&self, command: &str) -> Vec<(&'static str, String)> {
        let is_url = |(name, _): &&(&str, String)| *name == Service::Postgres.variable();
        let url = self.env.iter().rfind(is_url);
        url.map_or_else(Vec::new, |(_, url)| self.bed.login(command, url))
    }

    async fn key(&self, scope: &str) -> Result<String> {
        self.command(&["keys", "create", "--name", scope, "--scope", scope])
            .await
    }

    /// Runs a `rivulet` command to its end and returns what it printed, trimmed.
    ///
    /// # Errors
    /// It failed; with what it said.
    pub async fn command(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "rivulet {} failed: {said}",
            args.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a `rivulet` command to its end, however it ends.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn output(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(sibling("rivulet")?);
        let login = self.login(args.first().copied().unwrap_or_default());
        command
            .args(args)
            .envs(
                self.env
                    .iter()
                    .chain(&login)
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null());
        Ok(command.output().await?)
    }

    /// Starts a `rivulet` command that goes on, with more in its environment; what it prints is to be read.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, args: &[&str], env: &[(&'static str, String)]) -> Result<Child> {
        let login = self.login(args.first().copied().unwrap_or_default());
        let env = [&self.env, &login, env].concat();
        let mut command = Command::new(sibling("rivulet")?);
        command
            .args(args)
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(command.spawn()?)
    }

    /// Starts roles and waits until all of them are ready.
    ///
    /// # Errors
    /// One of them is not.
    pub async fn start<const N: usize>(&self, names: [&'static str; N]) -> Result<[Role; N]> {
        let mut roles = Vec::new();
        for name in names {
            roles.push(self.launch(name, &[])?);
        }
        Role::all_ready(roles).await
    }

    /// Starts a role with more in its environment, and waits until it is ready.
    ///
    /// # Errors
    /// It is not.
    pub async fn start_with(
        &self,
        name: &'static str,
        env: &[(&'static str, String)],
    ) -> Result<Role> {
        let mut role = self.launch(name, env)?;
        role.ready().await?;
        Ok(role)
    }

    fn launch(&self, name: &'static str, env: &[(&'static str, String)]) -> Result<Role> {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        let (program, login) = match std::env::var_os(OTHER_RELEASE) {
            // It may be from before there were logins.
            Some(other) if number % 2 == 1 => (other.into(), Vec::new()),
            _ => (sibling("rivulet")?, self.login(name)),
        };
        let env = [&self.env, &login, env].concat();
        let log = self.path(&format!("{name}.{number}.log"));
        Role::start(program, name, &env, Some(log))
    }

    /// A simulator's settings for this Rivulet; its ledger is named after the seed.
    #[must_use]
    pub fn simulator(&self, ingest: &Role, seed: u64) -> Config {
        Config {
            url: format!("http://{}", ingest.address),
            ingest_key: self.ingest_key.clone(),
            admin_key: self.admin_key.clone(),
            seed,
            ledger: Some(self.ledger(seed)),
            ..Config::default()
        }
    }

    /// Where the simulator with this seed keeps its ledger.
    #[must_use]
    pub fn ledger(&self, seed: u64) -> PathBuf {
        self.path(&format!("ledger.{seed}"))
    }

    /// A file of this test's own, gone with it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything that the roles logged so far.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn logs(&self) -> Result<Vec<u8>> {
        let mut logs = Vec::new();
        for file in fs::read_dir(self.dir.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                logs.extend(fs::read(path)?);
            }
        }
        Ok(logs)
    }

    /// Waits until both consumers have taken in all that is in Kafka now.
    ///
    /// # Errors
    /// They do not get there, with where they are.
    pub async fn settle(&self) -> Result<()> {
        let ends = kafka::ends(&self.bed.cluster).await?;
        let began = Instant::now();
        loop {
            let positions: Vec<(String, String, i32, i64, Option<i64>)> = sqlx::query_as(
                "SELECT consumer, topic, partition, next_offset, pending_end FROM kafka_positions",
            )
            .fetch_all(&self.bed.pool)
            .await?;
            let behind: Vec<_> = ["aggregator", "history"]
                .iter()
                .flat_map(|consumer| ends.iter().map(move |end| (consumer, end)))
                .filter(|(consumer, ((topic, partition), end))| {
                    let done = positions.iter().any(|(by, of, part, next, pending)| {
                        by == *consumer
                            && of == topic
                            && part == partition
                            && next >= end
                            && pending.is_none()
                    });
                    // A partition that was never written to may have no position.
                    !done && **end > 0
                })
                .collect();
            if behind.is_empty() {
                return Ok(());
            }
            if began.elapsed() > SETTLE_WITHIN {
                bail!("behind: {behind:?}\nat: {positions:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until what was stored on consents that were withdrawn is out of every store.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn withdrawals_are_done(&self) -> Result<()> {
        const LEFT: &str = "SELECT count(*) FROM revocations WHERE erases AND (postgres_at IS NULL OR clickhouse_at IS NULL)";
        let began = Instant::now();
        loop {
            let left: i64 = sqlx::query_scalar(LEFT).fetch_one(&self.bed.pool).await?;
            if left == 0 {
                return Ok(());
            }
            if began.elapsed() > SETTLE_WITHIN {
                bail!("{left} withdrawals are not done");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
