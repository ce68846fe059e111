//! Fresh databases and topics for one test.

use anyhow::{Context, Result};
use rivulet_kafka::Cluster;
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};

use crate::{leftovers, link::Link, stack::Stack};

/// A test's own corner of the running stack: an empty PostgreSQL database, an empty ClickHouse
/// database, and a topic prefix that nobody else uses (topics are the test's to create). All of
/// it goes when this is dropped; what a killed test leaves, the next `./dev up` or `./dev test`
/// removes.
pub struct TestBed {
    /// Connections to the fresh database, which has no tables yet.
    pub pool: PgPool,
    /// The same database as a URL.
    pub database_url: String,
    /// The brokers, and a topic prefix that nobody else uses.
    pub cluster: Cluster,
    /// A client whose database is the fresh one.
    pub clickhouse: clickhouse::Client,
    /// ClickHouse's HTTP interface, as a URL.
    pub clickhouse_url: String,
    /// The name of the fresh ClickHouse database.
    pub clickhouse_database: String,
    stack: Stack,
}

impl TestBed {
    /// # Panics
    /// When the services are not up, with what to do about it.
    #[expect(
        clippy::expect_used,
        reason = "for tests only, which end here in any case"
    )]
    pub async fn new() -> Self {
        Self::on(Stack::for_tests().expect("a test needs the services"))
            .await
            .expect("a test needs the services: are they up? `./dev up --services`")
    }

    /// The same on a stack of the test's own.
    ///
    /// # Errors
    /// When a service of the stack does not work.
    pub async fn on(stack: Stack) -> Result<Self> {
        let name = leftovers::new_name()?;
        let mut postgres = PgConnection::connect(&stack.database_url)
            .await
            .context("connect to PostgreSQL")?;
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut postgres).await?;
        postgres.close().await?;
        let database_url = with_database(&stack.database_url, &name);
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect(&database_url)
            .await?;
        let clickhouse = stack.clickhouse()?;
        clickhouse
            .query(&format!("CREATE DATABASE {name}"))
            .execute()
            .await
            .context("create a ClickHouse database")?;
        Ok(Self {
            pool,
            database_url,
            cluster: Cluster {
                brokers: stack.kafka_brokers.clone(),
                topic_prefix: name.clone(),
                properties: Vec::new(),
            },
            clickhouse: clickhouse.with_database(&name),
            clickhouse_url: stack.clickhouse_url.clone(),
            clickhouse_database: name,
            stack,
        })
    }

    /// A pool whose connections have what a role of PostgreSQL has and no more.
    pub fn pool_as(&self, role: &'static str, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let become_it = format!("SET SESSION AUTHORIZATION {role}");
                    let become_it = sqlx::raw_sql(sqlx::AssertSqlSafe(become_it));
                    become_it.execute(connection).await.map(drop)
                })
            })
            .connect_lazy_with((*self.pool.connect_options()).clone())
    }

    /// A link to the database, and a pool that goes through it.
    ///
    /// # Errors
    /// No port is free.
    pub async fn behind_a_link(&self) -> Result<(Link, PgPool)> {
        let options = (*self.pool.connect_options()).clone();
        let link = Link::to(&format!("{}:{}", options.get_host(), options.get_port())).await?;
        let (host, port) = link.address.split_once(':').context("an address")?;
        let options = options.host(host).port(port.parse()?);
        let pool = PgPoolOptions::new().max_connections(4);
        Ok((link, pool.connect_lazy_with(options)))
    }

    /// The variables by which a `rivulet` command gets at a database of this PostgreSQL with the login of its own, which
    /// `rivulet migrate` has made. `database_url` is what the owner logs in by.
    pub fn login(&self, command: &str, database_url: &str) -> Vec<(&'static str, String)> {
        self.stack.logins.environment(command, database_url)
    }

    /// The variables that point a `rivulet` at it, as the owner of the database.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let (cluster, database) = (&self.cluster, &self.clickhouse_database);
        let prefix = &cluster.topic_prefix;
        vec![
            ("DATABASE_URL", self.database_url.clone()),
            ("KAFKA_BROKERS", cluster.brokers.clone()),
            ("CLICKHOUSE_URL", self.clickhouse_url.clone()),
            ("RIVULET_TOPIC_PREFIX", prefix.clone()),
            ("RIVULET_CLICKHOUSE_DATABASE", database.clone()),
            // Groups are the cluster's, not the prefix's.
            ("RIVULET_AGGREGATE_GROUP", format!("{prefix}-aggregator")),
            ("RIVULET_SINK_GROUP", format!("{prefix}-history")),
        ]
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        let (stack, name) = (self.stack.clone(), self.clickhouse_database.clone());
        // A thread with a runtime of its own: the test's may be the one that this blocks.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(leftovers::remove(&stack, &name))
        })
        .join();
        match removed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("cannot clean up after a test: {error:#}"),
            Err(_) => eprintln!("cannot clean up after a test: the clean-up panicked"),
        }
    }
}

/// The URL with another database in its path.
fn with_database(url: &str, database: &str) -> String {
    let (before, query) = url
        .split_once('?')
        .map_or((url, None), |(url, query)| (url, Some(query)));
    let begin = before.find("://").map_or(0, |at| at + 3);
    let end = before[begin..]
        .find('/')
        .map_or(before.len(), |at| begin + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &before[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_changes() {
        for (url, expected) in [
            ("postgres://u:p@h:1/old", "postgres://u:p@h:1/new"),
            ("postgres://u:p@h:1", "postgres://u:p@h:1/new"),
            (
                "postgres://h/old?sslmode=require",
                "postgres://h/new?sslmode=require",
            ),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
