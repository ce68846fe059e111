//! How long what is kept: the file that a command or role goes by, and whether the stores do.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use rivulet_kafka::Cluster;
use rivulet_migrations::{
    logins::{self, Login},
    retention::{clickhouse_drift, postgres_drift},
};
use rivulet_retention::{Class, Drift, Policy};
use sqlx::PgPool;

use crate::supervise::Roles;

/// How long to wait before stores that did not answer are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

const DAY: Duration = Duration::from_secs(86_400);

/// How long what is kept.
#[derive(Args, Clone)]
pub(crate) struct RetentionFlags {
    /// A file like retention.toml, which is built in and is used without this: how long what is kept, and for what.
    /// The same everywhere.
    #[arg(long = "retention", env = "RIVULET_RETENTION", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl RetentionFlags {
    /// # Errors
    /// The file cannot be read, or is not good.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        let Some(file) = &self.file else {
            return Ok(Policy::default());
        };
        let text = fs::read_to_string(file)
            .with_context(|| format!("{} (RIVULET_RETENTION) cannot be read", file.display()))?;
        text.parse()
            .map_err(|error| anyhow!("{} (RIVULET_RETENTION):\n{error}", file.display()))
    }
}

/// A flag from before there was the file may say what the file says, and nothing else.
///
/// # Errors
/// It says something else.
pub(crate) fn agreed(
    policy: &Policy,
    class: Class,
    variable: &str,
    flag: Option<u64>,
) -> anyhow::Result<u32> {
    let (file, class) = (policy.days(class), class.as_str());
    if let Some(days) = flag
        && days != u64::from(file)
    {
        bail!(
            "{variable} says {days} days, and the file {file} ([{class}]): the file is the one place for it. Leave \
             {variable} away, or change a copy of retention.toml and name it with RIVULET_RETENTION"
        );
    }
    Ok(file)
}

/// The stores that are compared with the file.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) policy: Policy,
    pub(crate) pool: PgPool,
    /// Whose work the pool's login does.
    pub(crate) login: Login,
    pub(crate) kafka: Option<Cluster>,
    /// The client, and the database of the history.
    pub(crate) clickhouse: Option<(clickhouse::Client, String)>,
}

impl Kept {
    /// Where a store differs from the file.
    ///
    /// # Errors
    /// A store does not answer, or was not set up.
    pub(crate) async fn drifts(&self) -> anyhow::Result<Vec<Drift>> {
        let mut drifts = postgres_drift(&self.pool, &self.policy).await?;
        if let Some((client, database)) = &self.clickhouse {
            drifts.extend(clickhouse_drift(client, database, &self.policy).await?);
        }
        if let Some(cluster) = &self.kafka {
            drifts.extend(kafka_drift(cluster, &self.policy).await?);
        }
        Ok(drifts)
    }

    /// Waits until the stores answer.
    ///
    /// # Errors
    /// A store differs from the file, or the login to PostgreSQL lacks what the role needs.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        let mut told = false;
        loop {
            match self.objection().await {
                Ok(None) => return Ok(()),
                Ok(Some(objection)) => bail!("{objection}"),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let error = crate::explain(&error);
                        tracing::warn!(
                            error,
                            "it is not known yet for how long the stores keep what they have; asking again"
                        );
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Why the role cannot begin, if the stores answer.
    async fn objection(&self) -> anyhow::Result<Option<String>> {
        if let Some(lacks) = logins::lacks(&self.pool, self.login).await? {
            return Ok(Some(lacks));
        }
        let drifts = self.drifts().await?;
        let each: Vec<_> = drifts.iter().map(ToString::to_string).collect();
        Ok((!each.is_empty()).then(|| each.join("; ")))
    }

    /// Ends the process where a store differs from the file, beside a role that starts before the stores answer.
    pub(crate) fn watch(self, roles: &mut Roles, name: &'static str) {
        let shutdown = roles.shutdown.clone();
        roles.spawn(name, async move {
            if let Some(checked) = shutdown.run_until_cancelled(self.check()).await {
                checked?;
            }
            shutdown.cancelled().await;
            Ok(())
        });
    }
}

async fn kafka_drift(cluster: &Cluster, policy: &Policy) -> anyhow::Result<Vec<Drift>> {
    let file = policy.days(Class::Kafka);
    let topics = rivulet_kafka::kept_by_topic(cluster).await?;
    let drift = |(topic, kept): (String, Option<Duration>)| {
        let store = format!("Kafka (retention.ms of {topic})");
        (kept != Some(DAY * file))
            .then(|| Drift::of(Class::Kafka, store, file, in_words(kept), "rivulet topics"))
    };
    Ok(topics.into_iter().filter_map(drift).collect())
}

/// How long a topic keeps its records.
pub(crate) fn in_words(kept: Option<Duration>) -> String {
    match kept {
        None => "no end".to_owned(),
        Some(kept) if kept.as_secs().is_multiple_of(86_400) && kept.subsec_nanos() == 0 => {
            format!("{} days", kept.as_secs() / 86_400)
        }
        Some(kept) => format!("{} ms", kept.as_millis()),
    }
}

/// For Kafka's `retention.ms`.
pub(crate) fn kafka_keeps(days: u32) -> Duration {
    DAY * days
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Cli, Command};

    #[test]
    fn what_a_role_keeps_in_memory_or_on_its_disk_is_as_old_as_the_file_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = include_str!("../../retention.toml")
            .replace("[spill]\nkeep = \"3 days\"", "[spill]\nkeep = \"2 days\"")
            .replace(
                "[identities]\nkeep = \"45 days\"",
                "[identities]\nkeep = \"50 days\"",
            );
        fs::write(file.path(), text).unwrap();
        let parse = |role: &str, more: &[&str]| {
            let services = [
                "--database-url",
                "postgres:///x",
                "--kafka-brokers",
                "127.0.0.1:1",
            ];
            let of_file = ["--retention", file.path().to_str().unwrap()];
            let all = [&["rivulet", role][..], &services, &of_file, more].concat();
            Cli::try_parse_from(all)
                .unwrap_or_else(|error| panic!("{error}"))
                .command
        };
        let Command::Ingest(ingest) = parse("ingest", &["--spill-dir", "x"]) else {
            panic!("another command");
        };
        assert_eq!(ingest.config().unwrap().spill.unwrap().max_age, DAY * 2);
        let Command::Aggregate(aggregate) = parse("aggregate", &[]) else {
            panic!("another command");
        };
        let config = aggregate.config().unwrap();
        assert_eq!(
            (config.spill_max_age_days, config.seen_retention_days),
            (2, 50)
        );
        let Command::Ingest(other) =
            parse("ingest", &["--spill-dir", "x", "--spill-max-age-days", "3"])
        else {
            panic!("another command");
        };
        let refused = other.config().unwrap_err().to_string();
        assert!(
            refused.contains("RIVULET_SPILL_MAX_AGE_DAYS says 3 days, and the file 2 ([spill])"),
            "{refused}"
        );
    }

    #[test]
    fn a_topic_that_keeps_for_ever_says_so() {
        assert_eq!(in_words(None), "no end");
        assert_eq!(in_words(Some(DAY * 7)), "7 days");
        assert_eq!(
            in_words(Some(Duration::from_millis(3_600_001))),
            "3600001 ms"
        );
    }
}
