//! A private PostgreSQL cluster, run by the system's binaries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    daemon::{Daemon, Server},
    home::{Home, write_private},
    program::{has, run},
    tls,
};

const OLDEST: u32 = 15;

pub(crate) struct Postgres;

impl Server for Postgres {
    const NAME: &'static str = "postgres";
    const PORTS: &'static [&'static str] = &["postgres"];
    const PROGRAMS: &'static [&'static str] = &["postgres"];
    /// "Fast" shutdown: sessions are ended, everything is written.
    const STOP: Signal = Signal::INT;

    async fn prepare(home: &Home) -> Result<()> {
        let dir = home.server_dir("postgres")?;
        home.make_password()?;
        tls::prepare(home)?;
        if dir.join("data").exists() {
            return Ok(());
        }
        eprintln!("postgres: making a database cluster");
        let password = dir.join("password");
        write_private(&password, home.state().password.as_bytes())?;
        // Under another name until it is whole: a killed initdb leaves half of one.
        let new = dir.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        let mut initdb = Command::new(programs(&dir)?.join("initdb"));
        initdb
            .current_dir(&dir)
            .args([
                "--username=rivulet",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
            ])
            // The same sorting on every machine.
            .args([
                "--locale=C",
                "--no-instructions",
                "--pwfile=password",
                "--pgdata=data.new",
            ]);
        if let Some(account) = home.account {
            account.own(&password)?;
            account.assume(&mut initdb);
        }
        run(initdb)?;
        fs::remove_file(password)?;
        fs::rename(new, dir.join("data")).context("rename data.new")
    }

    async fn daemon(home: &Home) -> Result<Daemon> {
        let dir = home.path("postgres");
        let port = home.port("postgres").unwrap_or_default();
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "max_connections=200".to_owned(),
            "shared_buffers=128MB".to_owned(),
            // A query over a table with a partition a day locks each of them.
            "max_locks_per_transaction=256".to_owned(),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
        ];
        // Beside plain text, which on this machine is what everybody uses.
        let tls = home.path("tls");
        settings.extend([
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", tls.join("server.pem").display()),
            format!("ssl_key_file={}", tls.join("server.key").display()),
        ]);
        settings.push(format!("unix_socket_directories={}", socket_dir(&dir)));
        let mut args = vec!["-D".into(), "data".into()];
        for setting in settings {
            args.extend(["-c".into(), setting.into()]);
        }
        Ok(Daemon {
            program: programs(&dir)?.join("postgres"),
            args,
            account: home.account,
            ..Daemon::default()
        })
    }

    async fn answers(home: &Home) -> Result<()> {
        let admin = url(home, "postgres")?.parse::<PgConnectOptions>()?;
        let mut connection = admin.disable_statement_logging().connect().await?;
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        create_database(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

async fn create_database(connection: &mut PgConnection) -> Result<()> {
    let exists = sqlx::query("SELECT FROM pg_database WHERE datname = 'rivulet'")
        .fetch_optional(&mut *connection)
        .await?;
    if exists.is_none() {
        sqlx::query("CREATE DATABASE rivulet")
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The URL of a database on the private cluster.
pub(crate) fn url(home: &Home, database: &str) -> Result<String> {
    let state = home.state();
    let port = state
        .ports
        .get("postgres")
        .context("PostgreSQL was never started")?;
    Ok(format!(
        "postgres://rivulet:{}@127.0.0.1:{port}/{database}?sslmode=disable",
        state.password
    ))
}

/// A socket's path holds about 100 bytes; a deeper checkout does without one.
fn socket_dir(dir: &Path) -> String {
    let dir = dir.display().to_string();
    if dir.len() > 85 { String::new() } else { dir }
}

/// A `psql` for the user: the one on PATH, else the one beside the server.
pub(crate) fn psql(home: &Home) -> String {
    let beside = programs(&home.path("postgres")).map(|dir| dir.join("psql"));
    match beside {
        Ok(psql) if !has("psql") => psql.display().to_string(),
        _ => "psql".to_owned(),
    }
}

/// The newest suitable PostgreSQL of this machine, or the one that made the cluster.
fn programs(dir: &Path) -> Result<PathBuf> {
    let made_by = fs::read_to_string(dir.join("data/PG_VERSION"))
        .ok()
        .and_then(|version| version.trim().parse::<u32>().ok());
    let mut found: Vec<(u32, PathBuf)> = candidates()
        .into_iter()
        .filter(|dir| dir.join("initdb").exists())
        .filter_map(|dir| Some((major(&dir.join("postgres"))?, dir)))
        .filter(|(version, _)| made_by.map_or(*version >= OLDEST, |made_by| *version == made_by))
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    match (found.into_iter().next(), made_by) {
        (Some((_, dir)), _) => Ok(dir),
        (None, Some(version)) => bail!(
            "the cluster in {} was made by PostgreSQL {version}, which is not to be found: \
             install it, or begin anew with `./dev down --wipe`",
            dir.display()
        ),
        (None, None) => bail!(
            "PostgreSQL {OLDEST} or newer is not installed: install your system's package (Debian \
             and Ubuntu: postgresql), or name a server in DATABASE_URL"
        ),
    }
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian and Ubuntu; Red Hat; Homebrew.
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ] {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        dirs.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join("bin")),
        );
    }
    dirs
}

/// `postgres (PostgreSQL) 16.4 (Debian …)` is 16.
fn major(postgres: &Path) -> Option<u32> {
    let out = Command::new(postgres).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let version = text.split_whitespace().nth(2)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
