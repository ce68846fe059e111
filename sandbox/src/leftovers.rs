//! What a test makes on the services, and what a killed test left there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use sqlx::{Connection, PgConnection};

use crate::{process::Process, service::Service, stack::Stack};

const PREFIX: &str = "rivulet_test_";

/// A name for a test's databases and topics that says which process made them.
pub(crate) fn new_name() -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = i32::try_from(std::process::id())?;
    let owner = Process::with_pid(pid)
        .context("no such process as this one")?
        .mark();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{PREFIX}{pid}_{owner}_{count}"))
}

/// Whether the process that made this name is gone.
fn is_abandoned(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('_');
    let pid = parts.next().and_then(|pid| pid.parse().ok());
    match (pid, parts.next()) {
        (Some(pid), Some(owner)) => Process::with_pid(pid).is_none_or(|now| now.mark() != owner),
        _ => false,
    }
}

/// Removes what killed tests left on our own services. On others' a name's owner may well live
/// on another machine. A failure here is nobody's problem but the disk's.
pub(crate) async fn sweep(stack: &Stack, external: &BTreeMap<Service, String>) {
    if !external.is_empty() {
        return;
    }
    match abandoned(stack).await {
        Ok(names) => {
            for name in names {
                if let Err(error) = remove(stack, &name).await {
                    eprintln!("cannot remove {name} of a killed test: {error:#}");
                }
            }
        }
        Err(error) => eprintln!("cannot look for leftovers of killed tests: {error:#}"),
    }
}

async fn abandoned(stack: &Stack) -> Result<BTreeSet<String>> {
    let mut postgres = PgConnection::connect(&stack.database_url).await?;
    let mut names: BTreeSet<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database")
        .fetch_all(&mut postgres)
        .await?
        .into_iter()
        .collect();
    postgres.close().await?;
    let clickhouse = stack.clickhouse()?;
    names.extend(
        clickhouse
            .query("SELECT name FROM system.databases")
            .fetch_all::<String>()
            .await?,
    );
    let topics = topics(stack)?;
    names.extend(
        topics
            .iter()
            .filter_map(|topic| Some(topic.split_once('.')?.0.to_owned())),
    );
    names.retain(|name| is_abandoned(name));
    Ok(names)
}

/// Drops the databases called `name` and deletes the topics that begin with `name.`.
pub(crate) async fn remove(stack: &Stack, name: &str) -> Result<()> {
    let mut postgres = PgConnection::connect(&stack.database_url).await?;
    // The name is our own, made of letters, digits and underscores.
    let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    sqlx::query(drop).execute(&mut postgres).await?;
    postgres.close().await?;
    let clickhouse = stack.clickhouse()?;
    clickhouse
        .query(&format!("DROP DATABASE IF EXISTS {name} SYNC"))
        .execute()
        .await?;
    let mut topics = topics(stack)?;
    topics.retain(|topic| topic.starts_with(&format!("{name}.")));
    if !topics.is_empty() {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        admin(stack)?
            .delete_topics(&topics, &AdminOptions::new())
            .await?;
    }
    Ok(())
}

fn admin(stack: &Stack) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", &stack.kafka_brokers)
        .create()?)
}

fn topics(stack: &Stack) -> Result<Vec<String>> {
    let metadata = admin(stack)?
        .inner()
        .fetch_metadata(None, Duration::from_secs(10))?;
    Ok(metadata
        .topics()
        .iter()
        .map(|topic| topic.name().to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_tests_made_is_abandoned() {
        let mine = new_name().unwrap();
        assert!(!is_abandoned(&mine));
        let pid = std::process::id();
        assert!(is_abandoned(&format!("{PREFIX}{pid}_anotherbirth_0")));
        assert!(is_abandoned(&format!("{PREFIX}4194999_x_0")));
        for not_a_tests in [
            "rivulet",
            "postgres",
            "default",
            "rivulet_test_",
            "rivulet_testing_1_2",
        ] {
            assert!(!is_abandoned(not_a_tests), "{not_a_tests}");
        }
    }
}
