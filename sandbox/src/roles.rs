//! Rivulet itself and the simulated family app, as `./dev up` runs them.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    daemon::{Daemon, Server},
    home::{Home, Keys},
    program::{run, sibling},
    service::Service,
    stack::Stack,
};

const HISTORY_DAYS: &str = "28";

/// Seconds: how long the roles let a token live. Longer than by default, so that one that `./dev env`
/// printed is good for days.
pub(crate) const TOKEN_LIFETIME: i64 = 7 * 24 * 60 * 60;

const PORTS: [&str; 4] = ["ingest", "aggregate", "sink", "api"];

/// `rivulet all`: every role in one process.
pub(crate) struct Roles;

/// `rivulet simulate`: a family app as a load source.
pub(crate) struct Simulator;

/// `rivulet canary`: sends events of its own and waits for them.
pub(crate) struct Canary;

/// The roles are not started as the servers' user: only PostgreSQL minds root.
impl Server for Roles {
    const NAME: &'static str = "rivulet";
    const PORTS: &'static [&'static str] = &PORTS;
    const DIR: &'static str = "rivulet/all";
    const PROGRAMS: &'static [&'static str] = &["rivulet"];

    async fn daemon(home: &Home) -> Result<Daemon> {
        let listen = |name| {
            let port = home.port(name).unwrap_or_default();
            format!("127.0.0.1:{port}")
        };
        let mut env = environment(home, "all")?;
        env.push(("RIVULET_LISTEN", listen("ingest")));
        env.push(("RIVULET_AGGREGATE_LISTEN", listen("aggregate")));
        env.push(("RIVULET_SINK_LISTEN", listen("sink")));
        env.push(("RIVULET_API_LISTEN", listen("api")));
        // Whoever makes an app here sees what arrives.
        env.push(("RIVULET_INSPECT", "on".to_owned()));
        env.push(("RIVULET_INSPECT_INGEST", ingest_url(home)?));
        Ok(Daemon {
            program: sibling("rivulet")?,
            args: vec!["all".into()],
            env,
            ..Daemon::default()
        })
    }

    async fn answers(home: &Home) -> Result<()> {
        for name in PORTS {
            let port = home.port(name).unwrap_or_default();
            let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await?;
            if !answer.status().is_success() {
                bail!("{name} is not ready: {}", answer.text().await?);
            }
        }
        Ok(())
    }
}

impl Server for Simulator {
    const NAME: &'static str = "simulator";
    const PORTS: &'static [&'static str] = &[];
    const DIR: &'static str = "rivulet/simulator";
    const PROGRAMS: &'static [&'static str] = &["rivulet"];

    async fn daemon(home: &Home) -> Result<Daemon> {
        Ok(Daemon {
            program: sibling("rivulet")?,
            args: vec!["simulate".into(), "--sdk".into()],
            env: simulation(home)?,
            ..Daemon::default()
        })
    }

    /// It listens to nobody; that it lives is all there is to ask.
    async fn answers(_: &Home) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }
}

impl Server for Canary {
    const NAME: &'static str = "canary";
    const PORTS: &'static [&'static str] = &["canary"];
    const DIR: &'static str = "rivulet/canary";
    const PROGRAMS: &'static [&'static str] = &["rivulet"];

    async fn daemon(home: &Home) -> Result<Daemon> {
        let port = home.port("canary").unwrap_or_default();
        let mut env = environment(home, "canary")?;
        env.extend(simulation(home)?);
        env.push(("RIVULET_CANARY_LISTEN", format!("127.0.0.1:{port}")));
        Ok(Daemon {
            program: sibling("rivulet")?,
            args: ["canary", "--every", "10"].map(Into::into).to_vec(),
            env,
            ..Daemon::default()
        })
    }

    /// That it lives: its events arrive once the family app's past has been counted.
    async fn answers(home: &Home) -> Result<()> {
        reqwest::get(format!("{}/healthz", canary_url(home)?)).await?;
        Ok(())
    }
}

/// What those read who send events. The keys are no arguments: those can be read by everybody.
fn simulation(home: &Home) -> Result<Vec<(&'static str, String)>> {
    let keys = home.state().keys.context("no keys yet")?;
    Ok(vec![
        ("RIVULET_INGEST_URL", ingest_url(home)?),
        ("RIVULET_INGEST_KEY", keys.ingest),
        ("RIVULET_ADMIN_KEY", keys.admin),
    ])
}

/// Gives the family app a past, so that streaks and charts have something to show.
pub(crate) fn fill_history(home: &Home) -> Result<()> {
    if home.state().history_filled {
        return Ok(());
    }
    eprintln!("simulator: filling in the last {HISTORY_DAYS} days");
    let status = Command::new(sibling("rivulet")?)
        .args(["simulate", "--duration", "0", "--history", HISTORY_DAYS])
        .envs(simulation(home)?)
        // It sums up on standard output, which is for where to look.
        .stdout(Stdio::null())
        .status()
        .context("run rivulet simulate")?;
    if !status.success() {
        bail!("rivulet simulate --history {HISTORY_DAYS} failed");
    }
    home.update(|state| state.history_filled = true)
}

/// What a `rivulet` command reads, with the login to PostgreSQL that is its own.
pub(crate) fn environment(home: &Home, command: &str) -> Result<Vec<(&'static str, String)>> {
    let stack = Stack::of(home)?;
    let mut environment = services(home, &stack);
    environment.retain(|(name, _)| *name != Service::Postgres.variable());
    environment.extend(stack.logins.environment(command, &stack.database_url));
    Ok(environment)
}

/// What a shell reads: the owner's login, for `psql`, and the passwords that an operator's commands take.
pub(crate) fn shell(home: &Home) -> Result<Vec<(&'static str, String)>> {
    let stack = Stack::of(home)?;
    let mut environment = services(home, &stack);
    environment.extend(stack.logins.passwords(&["operator", "auditor"]));
    Ok(environment)
}

fn services(home: &Home, stack: &Stack) -> Vec<(&'static str, String)> {
    let mut environment = stack
        .variables()
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec();
    // So that `rivulet keys token` makes tokens that the roles take. Where every service is somebody
    // else's there is no password to make a secret of.
    let password = home.state().password;
    if !password.is_empty() {
        environment.extend([
            ("RIVULET_TOKEN_SECRET", password.repeat(2)),
            ("RIVULET_TOKEN_AUDIENCE", "rivulet-dev".to_owned()),
            ("RIVULET_TOKEN_MAX_LIFETIME", TOKEN_LIFETIME.to_string()),
        ]);
    }
    environment
}

pub(crate) fn ingest_url(home: &Home) -> Result<String> {
    url(home, "ingest")
}

pub(crate) fn api_url(home: &Home) -> Result<String> {
    url(home, "api")
}

pub(crate) fn canary_url(home: &Home) -> Result<String> {
    url(home, "canary")
}

fn url(home: &Home, role: &str) -> Result<String> {
    let port = home.port(role).context("Rivulet was never started")?;
    Ok(format!("http://127.0.0.1:{port}"))
}

/// Runs one `rivulet` command to its end and returns what it printed.
pub(crate) fn rivulet(home: &Home, args: &[&str]) -> Result<String> {
    let mut command = Command::new(sibling("rivulet")?);
    let name = args.first().copied().unwrap_or_default();
    command.args(args).envs(environment(home, name)?);
    run(command).with_context(|| format!("rivulet {}", args.join(" ")))
}

/// A token for development. It is made while PostgreSQL is down as well, so no audit log tells of it.
pub(crate) fn token(home: &Home, parent: &str, seconds: &str) -> Result<String> {
    let mut command = Command::new(sibling("rivulet")?);
    command
        .args(["keys", "token", "--parent", parent, "--ttl", seconds])
        .envs(environment(home, "keys")?)
        .env_remove(Service::Postgres.variable());
    let token = run(command).context("rivulet keys token")?;
    Ok(token.trim().to_owned())
}

/// The development keys, made once for a database.
pub(crate) fn keys(home: &Home) -> Result<Keys> {
    let database = Stack::of(home)?.database_url;
    if let Some(keys) = home.state().keys
        && keys.database == database
    {
        return Ok(keys);
    }
    // A name is given once in a database, which may have seen this checkout before.
    let suffix = &uuid::Uuid::new_v4().simple().to_string()[..8];
    let create = |scope: &str| {
        let name = format!("dev-{scope}-{suffix}");
        let key = rivulet(home, &["keys", "create", "--name", &name, "--scope", scope])?;
        anyhow::Ok(key.trim().to_owned())
    };
    let keys = Keys {
        ingest: create("ingest")?,
        admin: create("admin")?,
        read: create("read")?,
        database,
    };
    home.update(|state| state.keys = Some(keys.clone()))?;
    Ok(keys)
}
