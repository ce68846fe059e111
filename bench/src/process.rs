//! Processes that are measured: CPU time and memory from `/proc`.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rivulet_sandbox::{Role, Stack, sibling};
use tokio::process::Command;

/// User and system time of a process with all its threads; `None` if there is no such process here.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows is fields 3 and on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // Linux counts in hundredths of a second on every architecture Rust runs on.
    Some(Duration::from_millis(ticks * 10))
}

/// The environment with the command's own login to PostgreSQL, as in production.
fn with_login<'e>(command: &str, env: &[(&'e str, String)]) -> Result<Vec<(&'e str, String)>> {
    let mut env = env.to_vec();
    let url = env.iter().rfind(|(name, _)| *name == "DATABASE_URL");
    if let Some((_, url)) = url {
        let logins = Stack::for_tests()?.logins;
        env.extend(logins.environment(command, url));
    }
    Ok(env)
}

/// Runs a `rivulet` command to its end and returns what it printed, trimmed.
pub(crate) async fn command(args: &[&str], env: &[(&str, String)]) -> Result<String> {
    let env = with_login(args.first().copied().unwrap_or_default(), env)?;
    let output = Command::new(sibling("rivulet")?)
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

/// Starts `rivulet <role>` listening on a free port.
pub(crate) fn start(role: &'static str, env: &[(&'static str, String)]) -> Result<Role> {
    let env = with_login(role, env)?;
    let env = [&[("RIVULET_LOG", "warn".to_owned())], &env[..]].concat();
    Role::start(sibling("rivulet")?, role, &env, None)
}

/// Starts these roles, and waits until all of them are ready.
pub(crate) async fn start_all<const N: usize>(
    roles: [&'static str; N],
    env: &[(&'static str, String)],
) -> Result<[Role; N]> {
    let mut started = Vec::new();
    for role in roles {
        started.push(start(role, env)?);
    }
    Role::all_ready(started).await
}

/// User and system time of a role.
pub(crate) fn cpu_of(role: &Role) -> Result<Duration> {
    cpu(role.id()?).context("the role has ended")
}

/// The most memory that a role ever held, MiB.
pub(crate) fn peak_memory(role: &Role) -> Result<f64> {
    Ok(role.peak_memory()? as f64 / f64::from(1 << 20))
}
