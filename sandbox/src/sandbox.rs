//! One directory's servers, as a whole: up, down, and what state they are in.

use std::{collections::BTreeMap, fs::File, path::Path};

use anyhow::{Result, ensure};

use crate::{
    clickhouse::{self, Clickhouse},
    daemon::{Outcome, Server, inspect, start, take_down},
    home::Home,
    kafka::{self, Kafka},
    leftovers,
    postgres::Postgres,
    roles::{Canary, Roles, Simulator},
    service::Service,
    stack::{Stack, external},
};

/// The servers of one directory.
pub struct Sandbox {
    pub(crate) home: Home,
}

impl Sandbox {
    /// The checkout's own, in `.dev/` or what `RIVULET_DEV_DIR` names.
    ///
    /// # Errors
    /// When the directory cannot be made, or what it remembers cannot be read.
    pub fn of_checkout() -> Result<Self> {
        Self::at(&Home::default_dir())
    }

    /// The one in `dir`, which is made when it is not there.
    ///
    /// # Errors
    /// When the directory cannot be made, or what it remembers cannot be read.
    pub fn at(dir: &Path) -> Result<Self> {
        Ok(Self {
            home: Home::create(dir)?,
        })
    }

    /// Sees to it that all services run and answer: what is dead is started, what is deaf is
    /// restarted, what works is left alone. `named` holds addresses that the user gave; one that
    /// this sandbox did not print itself is used in place of a server of its own.
    ///
    /// # Errors
    /// When a service cannot be started; the message says why and shows the end of its log.
    pub async fn up(&self, named: &BTreeMap<Service, String>) -> Result<Stack> {
        let _turn = self.home.lock()?;
        let external = self.external(named);
        self.home.update(|state| {
            state.external = external
                .iter()
                .map(|(service, address)| (service.name().to_owned(), address.clone()))
                .collect();
        })?;
        let own = |service| !external.contains_key(&service);
        if own(Service::Postgres) {
            self.home.make_logins()?;
        }
        let postgres = self.inspect::<Postgres>(own(Service::Postgres)).await?;
        let kafka = self.inspect::<Kafka>(own(Service::Kafka)).await?;
        let clickhouse = self.inspect::<Clickhouse>(own(Service::Clickhouse)).await?;
        // All three at once: most of a start is waiting for a server.
        let (postgres, kafka, clickhouse) = tokio::join!(
            self.start::<Postgres>(Service::Postgres, postgres),
            self.start::<Kafka>(Service::Kafka, kafka),
            self.start::<Clickhouse>(Service::Clickhouse, clickhouse),
        );
        let errors: Vec<String> = [postgres, kafka, clickhouse]
            .into_iter()
            .filter_map(|started| Some(format!("{:#}", started.err()?)))
            .collect();
        ensure!(errors.is_empty(), "{}", errors.join("\n"));
        let stack = self.stack()?;
        leftovers::sweep(&stack, &external).await;
        Ok(stack)
    }

    /// `None` when the user named another.
    async fn inspect<S: Server>(&self, own: bool) -> Result<Option<Outcome>> {
        if own {
            return inspect::<S>(&self.home).await.map(Some);
        }
        eprintln!("{}: using the one that the environment names", S::NAME);
        Ok(None)
    }

    async fn start<S: Server>(&self, service: Service, inspected: Option<Outcome>) -> Result<()> {
        let Some(outcome) = inspected else {
            return Ok(());
        };
        if outcome != Outcome::Found {
            start::<S>(&self.home).await?;
        }
        let what = match service {
            Service::Postgres => "PostgreSQL".to_owned(),
            Service::Kafka => kafka::describe(),
            Service::Clickhouse => clickhouse::describe(),
        };
        self.home.remember_address(&service.address(&self.home)?)?;
        let port = self.home.port(S::NAME).unwrap_or_default();
        say(S::NAME, outcome, &format!("{what}, 127.0.0.1:{port}"));
        Ok(())
    }

    /// Which of the addresses that the user gave belong to others.
    pub fn external(&self, named: &BTreeMap<Service, String>) -> BTreeMap<Service, String> {
        external(&self.home, named)
    }

    /// Where the services are.
    ///
    /// # Errors
    /// When they were never brought up.
    pub fn stack(&self) -> Result<Stack> {
        Stack::of(&self.home)
    }

    /// The process of a service, while this sandbox runs it: for tests that kill it.
    pub fn pid(&self, service: Service) -> Option<i32> {
        let state = self.home.state();
        let process = &state.daemons.get(service.name())?.process;
        process.is_alive().then_some(process.pid)
    }

    /// Whether any server of this sandbox runs.
    pub fn is_running(&self) -> bool {
        let daemons = self.home.state().daemons;
        daemons.values().any(|record| record.process.is_alive())
    }

    /// Says that the stack is to stay when a test run ends.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn keep(&self) -> Result<()> {
        self.home.update(|state| state.kept = true)
    }

    /// Marks the stack as in use until [`Sandbox::end_use`], or until this process ends.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn begin_use(&self) -> Result<File> {
        let users = self.home.lock_file("users.lock")?;
        users.lock_shared()?;
        Ok(users)
    }

    /// Stops the stack, unless `up` started it or another run still uses it.
    ///
    /// # Errors
    /// Those of [`Sandbox::down`].
    pub async fn end_use(&self, users: File) -> Result<()> {
        users.unlock()?;
        // Somebody else's `up` may have written since.
        drop(self.home.lock()?);
        if self.home.state().kept || users.try_lock().is_err() {
            return Ok(());
        }
        self.down(false).await
    }

    /// Stops every server of this sandbox, recorded or left behind by a start that was killed.
    /// Data stays unless `wipe`.
    ///
    /// # Errors
    /// When the record cannot be written, or data cannot be removed.
    pub async fn down(&self, wipe: bool) -> Result<()> {
        let _turn = self.home.lock()?;
        // Those who use the services go first.
        self.stop::<Canary>().await?;
        self.stop::<Simulator>().await?;
        self.stop::<Roles>().await?;
        let services = tokio::join!(
            self.stop::<Clickhouse>(),
            self.stop::<Kafka>(),
            self.stop::<Postgres>()
        );
        services.0.and(services.1).and(services.2)?;
        self.home.update(|state| state.kept = false)?;
        if wipe {
            self.home.wipe()?;
            eprintln!("wiped: data, logs and keys are gone, downloads stay");
        }
        Ok(())
    }

    async fn stop<S: Server>(&self) -> Result<()> {
        if take_down::<S>(&self.home).await? {
            eprintln!("{}: stopped", S::NAME);
        }
        Ok(())
    }
}

pub(crate) fn say(name: &str, outcome: Outcome, what: &str) {
    let word = match outcome {
        Outcome::Found => "already running",
        Outcome::Started => "started",
        Outcome::Repaired => "started again",
    };
    eprintln!("{name}: {word} ({what})");
}
