//! A private Apache Kafka, of jars from Maven Central, run by the system's Java.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    cache,
    daemon::{Daemon, Server},
    home::{Home, write_private},
    program::{has, run, which},
    tls::{self, KAFKA_USER},
};

/// The jars' versions, in the one place where they stand.
const POM: &str = include_str!("../kafka/pom.xml");
const OLDEST_JAVA: u32 = 17;

pub(crate) struct Kafka;

impl Server for Kafka {
    const NAME: &'static str = "kafka";
    const PORTS: &'static [&'static str] =
        &["kafka", "kafka-controller", "kafka-sasl", "kafka-mutual"];
    const PROGRAMS: &'static [&'static str] = &["java"];

    async fn prepare(home: &Home) -> Result<()> {
        home.server_dir("kafka")?;
        home.make_password()?;
        tls::prepare(home)?;
        cache::directory(&jars(home), fetch_jars)?;
        if home.path("kafka/data/meta.properties").exists() {
            return Ok(());
        }
        for port in Self::PORTS {
            home.pick_port(port)?;
        }
        format(home)
    }

    async fn daemon(home: &Home) -> Result<Daemon> {
        let dir = home.path("kafka");
        let file = dir.join("server.properties");
        let config = properties(home)?;
        if dir.exists() {
            write_properties(home, &file, &config)?;
        }
        let mut args = java_args(home);
        args.extend(["kafka.Kafka".to_owned(), file.display().to_string()]);
        Ok(Daemon {
            program: java()?,
            args: args.into_iter().map(Into::into).collect(),
            config,
            account: home.account,
            ..Daemon::default()
        })
    }

    async fn answers(home: &Home) -> Result<()> {
        let brokers = address(home)?;
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("log_level", "0")
                .create()?;
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(2))?;
            if metadata.brokers().is_empty() {
                bail!("no broker is registered yet");
            }
            Ok(())
        })
        .await?
    }
}

/// `host:port` for clients.
pub(crate) fn address(home: &Home) -> Result<String> {
    let port = home.port("kafka").context("Kafka was never started")?;
    Ok(format!("127.0.0.1:{port}"))
}

/// What runs, for the user to know.
pub(crate) fn describe() -> String {
    format!("Apache Kafka {}", kafka_version())
}

fn kafka_version() -> &'static str {
    let after = POM
        .split("kafka_2.13</artifactId>")
        .nth(1)
        .unwrap_or_default();
    let tail = after.split("<version>").nth(1).unwrap_or_default();
    tail.split('<').next().unwrap_or_default()
}

/// Others for another list of them.
fn jars(home: &Home) -> PathBuf {
    let list = xxh3_64(POM.as_bytes());
    home.path(format!("tools/kafka-{}-{list:016x}", kafka_version()))
}

/// The system's Java, when it is new enough.
fn java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let mut found = home.into_iter().chain(which("java")).filter(|java| {
        // `openjdk version "17.0.15" 2025-04-15`, on stderr.
        let out = Command::new(java).arg("-version").output().ok();
        let text = out
            .and_then(|out| String::from_utf8(out.stderr).ok())
            .unwrap_or_default();
        let version = text.split('"').nth(1).unwrap_or_default();
        let major = version.split(['.', '-']).next().unwrap_or_default();
        major.parse::<u32>().is_ok_and(|major| major >= OLDEST_JAVA)
    });
    found.next().with_context(|| {
        format!("Kafka needs Java {OLDEST_JAVA} or newer: install it, or name it by JAVA_HOME")
    })
}

fn java_args(home: &Home) -> Vec<String> {
    [
        // One small broker on a developer's machine: start fast, stay small.
        "-Xms64m",
        "-Xmx384m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-cp",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([jars(home).join("*").display().to_string()])
    .collect()
}

/// There is a password among them.
fn write_properties(home: &Home, file: &Path, properties: &str) -> Result<()> {
    write_private(file, properties.as_bytes())?;
    home.account.map_or(Ok(()), |account| account.own(file))
}

fn properties(home: &Home) -> Result<String> {
    let address = address(home)?;
    let controller = home
        .port("kafka-controller")
        .context("Kafka was never started")?;
    // A broker that was started before there were any has none.
    let [sasl, mutual] =
        ["kafka-sasl", "kafka-mutual"].map(|name| home.port(name).unwrap_or_default());
    let (tls, password) = (
        home.path("tls").display().to_string(),
        home.state().password,
    );
    Ok(format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{mutual}
advertised.listeners=PLAINTEXT://{address},SASL_SSL://localhost:{sasl},SSL://localhost:{mutual}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={tls}/server-keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location={tls}/ca.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{KAFKA_USER}=\"{password}\";
log.dirs={}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Nobody waits for more members to come, and tests may use short sessions.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Tests make and delete many topics: their files go at once.
log.segment.delete.delay.ms=1000
",
        home.path("kafka/data").display()
    ))
}

/// Makes the directory of a new broker.
fn format(home: &Home) -> Result<()> {
    let config = home.path("kafka/format.properties");
    write_properties(home, &config, &properties(home)?)?;
    let java = java()?;
    let tool = |args: &[&str]| {
        let mut command = Command::new(&java);
        command
            .args(java_args(home))
            .arg("kafka.tools.StorageTool")
            .args(args);
        command.current_dir(home.path("kafka"));
        if let Some(account) = home.account {
            account.assume(&mut command);
        }
        run(command)
    };
    let id = tool(&["random-uuid"])?;
    tool(&[
        "format",
        "-t",
        id.trim(),
        "-c",
        &config.display().to_string(),
    ])?;
    Ok(())
}

fn fetch_jars(dir: &Path) -> Result<()> {
    java()?;
    if !has("mvn") {
        bail!("Maven fetches Kafka, and it is not here: install it (its command is `mvn`)");
    }
    eprintln!(
        "kafka: fetching Apache Kafka {} from Maven Central (44 MB)",
        kafka_version()
    );
    fs::write(dir.join("pom.xml"), POM)?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(dir.join("pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", dir.display()));
    if let Some(cache) = cache::of_client(dir) {
        maven.arg(format!("-Dmaven.repo.local={}", cache.display()));
    }
    run(maven).map(drop)
}
