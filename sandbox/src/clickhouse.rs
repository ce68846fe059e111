//! A private ClickHouse: the system's server where there is one, else the same engine as a
//! library behind a development door.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache,
    daemon::{Daemon, Server},
    home::Home,
    program::{has, readable, run, sibling, which},
};

/// The version tagged `latest` on npm is older and lacks the streaming insert.
const CHDB: &str = "26.7.3-stable.1";

pub(crate) struct Clickhouse;

impl Server for Clickhouse {
    const NAME: &'static str = "clickhouse";
    const PORTS: &'static [&'static str] = &["clickhouse"];
    const PROGRAMS: &'static [&'static str] = &["clickhouse", "clickhouse-door"];

    async fn prepare(home: &Home) -> Result<()> {
        home.server_dir("clickhouse")?;
        if which("clickhouse").is_some() {
            return Ok(());
        }
        cache::directory(&chdb(home), fetch_library)?;
        copy_door(home)
    }

    async fn daemon(home: &Home) -> Result<Daemon> {
        let dir = home.path("clickhouse");
        let (program, args) = match which("clickhouse") {
            Some(program) => {
                let config = dir.join("config.xml");
                if dir.exists() {
                    fs::write(&config, server_config(home)?)
                        .with_context(|| format!("write {}", config.display()))?;
                }
                let config = format!("--config-file={}", config.display());
                (program, vec!["server".into(), config.into()])
            }
            None => {
                let args = vec![
                    "--listen".into(),
                    authority(home)?.into(),
                    "--data".into(),
                    dir.join("library").into(),
                    "--library".into(),
                    library(home).into(),
                ];
                (door(home), args)
            }
        };
        Ok(Daemon {
            program,
            args,
            account: home.account,
            ..Daemon::default()
        })
    }

    async fn answers(home: &Home) -> Result<()> {
        Ok(client(&url(home)?)?.query("SELECT 1").execute().await?)
    }
}

/// The URL of the private server.
pub(crate) fn url(home: &Home) -> Result<String> {
    Ok(format!("http://{}", authority(home)?))
}

fn authority(home: &Home) -> Result<String> {
    let port = home
        .port("clickhouse")
        .context("ClickHouse was never started")?;
    Ok(format!("127.0.0.1:{port}"))
}

/// What runs, for the user to know.
pub(crate) fn describe() -> String {
    match which("clickhouse") {
        Some(program) => format!("ClickHouse ({})", program.display()),
        None => format!("ClickHouse's engine as a library (chdb {CHDB}) behind a development door"),
    }
}

/// A home may be shared by machines of several kinds.
fn chdb(home: &Home) -> PathBuf {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    home.path(format!("tools/chdb-{CHDB}-{os}-{arch}"))
}

fn library(home: &Home) -> PathBuf {
    chdb(home).join("libchdb.so")
}

fn fetch_library(dir: &Path) -> Result<()> {
    let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x64-gnu",
        ("linux", "aarch64") => "linux-arm64-gnu",
        ("macos", "x86_64") => "darwin-x64",
        ("macos", "aarch64") => "darwin-arm64",
        (os, arch) => bail!(
            "no ClickHouse library for {os} on {arch}: put a clickhouse binary on PATH, or name a \
             server in CLICKHOUSE_URL"
        ),
    };
    if !has("npm") {
        bail!(
            "npm is needed to fetch ClickHouse's library: install it (Debian and Ubuntu: npm), put \
             a clickhouse binary on PATH, or name a server in CLICKHOUSE_URL"
        );
    }
    eprintln!("clickhouse: fetching chdb {CHDB} from npm (178 MB)");
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", &format!("@chdb/lib-{platform}@{CHDB}")])
        .current_dir(dir);
    if let Some(cache) = cache::of_client(dir) {
        pack.arg("--cache").arg(cache);
    }
    let archive = run(pack)?;
    eprintln!("clickhouse: unpacking it (566 MB)");
    let mut unpack = Command::new("tar");
    unpack
        .args([
            "-xzf",
            archive.trim(),
            "--strip-components=1",
            "package/libchdb.so",
        ])
        .current_dir(dir);
    run(unpack)?;
    Ok(fs::remove_file(dir.join(archive.trim()))?)
}

fn door(home: &Home) -> PathBuf {
    home.path("clickhouse/clickhouse-door")
}

/// The door is built beside this program. The servers' user runs a copy: it may not reach the
/// build directory, and a build may replace that file at any time.
fn copy_door(home: &Home) -> Result<()> {
    let built = sibling("clickhouse-door")?;
    let new = home.path("clickhouse/clickhouse-door.new");
    fs::copy(&built, &new).with_context(|| format!("copy {}", built.display()))?;
    readable(&new)?;
    fs::rename(new, door(home)).context("rename clickhouse-door.new")
}

/// The client takes user and password apart from the address.
pub(crate) fn client(url: &str) -> Result<clickhouse::Client> {
    let url = reqwest::Url::parse(url).context("CLICKHOUSE_URL is no URL")?;
    let client = clickhouse::Client::default().with_url(url.origin().ascii_serialization());
    Ok(match (url.username(), url.password()) {
        ("", _) => client,
        (user, password) => client
            .with_user(user)
            .with_password(password.unwrap_or_default()),
    })
}

fn server_config(home: &Home) -> Result<String> {
    let dir = home.path("clickhouse/server");
    let dir = dir.display();
    let port = home
        .port("clickhouse")
        .context("ClickHouse was never started")?;
    Ok(format!(
        "<clickhouse>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{port}</http_port>
  <path>{dir}/</path>
  <tmp_path>{dir}/tmp/</tmp_path>
  <user_files_path>{dir}/user_files/</user_files_path>
  <format_schema_path>{dir}/format_schemas/</format_schema_path>
  <timezone>UTC</timezone>
  <max_server_memory_usage>2000000000</max_server_memory_usage>
  <mark_cache_size>134217728</mark_cache_size>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>1</access_management>
    </default>
  </users>
  <user_directories><users_xml><path>{home}/config.xml</path></users_xml></user_directories>
</clickhouse>
",
        home = home.path("clickhouse").display()
    ))
}
