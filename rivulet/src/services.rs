//! Where the services are: the flags that several subcommands share.

use std::{env::VarError, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use log::LevelFilter;
use rivulet_audit::Stores;
use rivulet_kafka::Cluster;
use rivulet_migrations::{
    logins::Login,
    passwords::{Weak, check_password},
};
use rivulet_retention::{Class, Policy};
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use crate::{
    clickhouse_tls,
    exposure::{is_local, is_plain_text_elsewhere, warn_once},
    kafka_security::KafkaSecurity,
    retention::agreed,
};

/// PostgreSQL.
#[derive(Args, Clone)]
pub(crate) struct Postgres {
    /// PostgreSQL, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Where the environment has the password of a login of
    /// Rivulet's, such as RIVULET_INGEST_PASSWORD, that one's work is done as rivulet_ingest, and nothing is done by the
    /// login that stands here.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
}

impl Postgres {
    /// A pool for the work of a login, that connects when it is first used, so that a role can start before its database.
    /// As that login where its password is given, else as DATABASE_URL says.
    pub(crate) fn pool(
        &self,
        login: Login,
        name: &str,
        connections: u32,
    ) -> anyhow::Result<PgPool> {
        let options = self.options()?;
        let options = match password(login)? {
            Some(password) => options.username(login.role()).password(&password),
            None => options,
        };
        Ok(open(options, name, connections))
    }

    /// The same for the owner of the tables, as DATABASE_URL says.
    pub(crate) fn pool_of_owner(&self, name: &str, connections: u32) -> anyhow::Result<PgPool> {
        Ok(open(self.options()?, name, connections))
    }

    fn options(&self) -> anyhow::Result<PgConnectOptions> {
        let options: PgConnectOptions = self
            .database_url
            .parse()
            .context("DATABASE_URL is no PostgreSQL URL")?;
        check_sslmode(&options)?;
        Ok(options)
    }
}

/// PostgreSQL, for whoever can do without: the same flag.
#[derive(Args, Clone)]
pub(crate) struct OptionalPostgres {
    /// PostgreSQL, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Without it nothing is told of what became of events.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

impl OptionalPostgres {
    /// As [`Postgres::pool`], if it was said where that is.
    pub(crate) fn pool(
        &self,
        login: Login,
        name: &str,
        connections: u32,
    ) -> anyhow::Result<Option<PgPool>> {
        let Some(url) = self.database_url.clone().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let postgres = Postgres { database_url: url };
        postgres.pool(login, name, connections).map(Some)
    }
}

fn open(options: PgConnectOptions, name: &str, connections: u32) -> PgPool {
    let options = options
        .application_name(&format!("rivulet {name}"))
        // Batches run for milliseconds: a statement this old holds locks for nobody.
        .options([
            ("statement_timeout", "60s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        // With the whole statement, each time it is slow. Histograms tell of that already.
        .log_slow_statements(LevelFilter::Off, Duration::ZERO);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options)
}

/// The password of a login, if the environment has it. No flag: everybody on the machine could read it.
///
/// # Errors
/// It is one that PostgreSQL is not to be given.
pub(crate) fn password(login: Login) -> anyhow::Result<Option<String>> {
    let variable = login.variable();
    let password = match std::env::var(variable) {
        Ok(password) => password,
        Err(VarError::NotPresent) => return Ok(None),
        Err(VarError::NotUnicode(_)) => bail!("{variable} {}", Weak::Odd),
    };
    check_password(&password).map_err(|weak| anyhow!("{variable} {weak}"))?;
    Ok(Some(password))
}

/// The driver's default, `prefer`, goes on in plain text with whoever says that he has no TLS, and
/// verifies nobody: right on one machine, nowhere else.
fn check_sslmode(options: &PgConnectOptions) -> anyhow::Result<()> {
    if options.get_socket().is_some() || is_local(options.get_host()) {
        return Ok(());
    }
    match options.get_ssl_mode() {
        PgSslMode::VerifyFull => {}
        PgSslMode::Prefer | PgSslMode::Allow => bail!(
            "DATABASE_URL names another machine without saying how it is protected: whoever stands \
             between could ask for plain text and get the password. Add sslmode=verify-full (and \
             sslrootcert=FILE where the CA is your own), or sslmode=disable where nobody stands between"
        ),
        PgSslMode::Disable => warn_once(
            "PostgreSQL is spoken to in plain text: everybody on the way can read and change it; \
             sslmode=verify-full encrypts and verifies",
        ),
        PgSslMode::Require | PgSslMode::VerifyCa => warn_once(
            "PostgreSQL's name is not verified: another server can take its place; \
             sslmode=verify-full verifies it",
        ),
    }
    Ok(())
}

/// Ingest, as an app reaches it.
#[derive(Args)]
pub(crate) struct Endpoint {
    /// The server.
    #[arg(
        long,
        env = "RIVULET_INGEST_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// A key with scope `ingest`.
    #[arg(long, env = "RIVULET_INGEST_KEY", hide_env_values = true)]
    ingest_key: String,
}

impl Endpoint {
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        let url = url::Url::parse(&self.url).context("RIVULET_INGEST_URL is no URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("RIVULET_INGEST_URL must begin with http:// or https://");
        }
        if is_plain_text_elsewhere(&self.url) {
            warn_once(
                "ingest is spoken to in plain text: everybody on the way can read the key; an https:// URL \
                 encrypts and verifies",
            );
        }
        Ok(self.url.clone())
    }

    pub(crate) fn key(&self) -> anyhow::Result<String> {
        let key = self.ingest_key.trim();
        if key.is_empty() {
            bail!(
                "RIVULET_INGEST_KEY is empty, so no event would be taken: \
                 rivulet keys create --name NAME --scope ingest"
            );
        }
        Ok(key.to_owned())
    }
}

/// Kafka.
#[derive(Args, Clone)]
pub(crate) struct Kafka {
    /// Kafka's bootstrap servers, `HOST:PORT`, separated by commas.
    #[arg(long, env = "KAFKA_BROKERS")]
    kafka_brokers: String,
    /// What the topics' names begin with.
    #[arg(long, env = "RIVULET_TOPIC_PREFIX", default_value = "rivulet")]
    topic_prefix: String,
    /// A librdkafka property, `NAME=VALUE`; may be given again.
    #[arg(
        long = "kafka-property",
        env = "RIVULET_KAFKA_PROPERTIES",
        value_delimiter = ',',
        hide_env_values = true,
        value_parser = property
    )]
    properties: Vec<(String, String)>,
    #[command(flatten)]
    security: KafkaSecurity,
}

impl Kafka {
    /// Whether brokers were given.
    pub(crate) fn is_named(&self) -> bool {
        !self.kafka_brokers.is_empty()
    }

    /// # Errors
    /// Those of [`KafkaSecurity::properties`].
    pub(crate) fn cluster(&self) -> anyhow::Result<Cluster> {
        let mut properties = self
            .security
            .properties(&self.kafka_brokers, &self.properties)?;
        properties.extend(self.properties.iter().cloned());
        Ok(Cluster {
            brokers: self.kafka_brokers.clone(),
            topic_prefix: self.topic_prefix.clone(),
            properties,
        })
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "must be NAME=VALUE".to_owned())
}

/// What ingest and aggregate must agree on.
#[derive(Args, Clone)]
pub(crate) struct SpillAge {
    /// Days that an accepted event may wait in a spill. Older ones are held back by ingest; aggregate
    /// remembers identities for longer than that. The same everywhere.
    /// Must be what the retention file says, if given.
    #[arg(long, env = "RIVULET_SPILL_MAX_AGE_DAYS")]
    spill_max_age_days: Option<u64>,
}

impl SpillAge {
    /// # Errors
    /// The file says something else.
    pub(crate) fn days(&self, policy: &Policy) -> anyhow::Result<u32> {
        agreed(
            policy,
            Class::Spill,
            "RIVULET_SPILL_MAX_AGE_DAYS",
            self.spill_max_age_days,
        )
    }
}

/// ClickHouse.
#[derive(Args, Clone)]
pub(crate) struct ClickHouse {
    /// ClickHouse's HTTP interface, `http://USER:PASSWORD@HOST:PORT`.
    #[arg(long, env = "CLICKHOUSE_URL", hide_env_values = true)]
    clickhouse_url: String,
    /// PEM file of the authorities that ClickHouse's certificate is trusted by, for an https URL; the
    /// system's without it.
    #[arg(long, env = "RIVULET_CLICKHOUSE_CA", value_name = "FILE")]
    clickhouse_ca: Option<PathBuf>,
    /// The database of the history.
    #[arg(long, env = "RIVULET_CLICKHOUSE_DATABASE", default_value = "rivulet")]
    pub(crate) clickhouse_database: String,
}

impl ClickHouse {
    /// A client on the history's database.
    pub(crate) fn client(&self) -> anyhow::Result<clickhouse::Client> {
        let (url, login) = split_login(&self.clickhouse_url)?;
        let ca = self.clickhouse_ca.as_deref();
        if url.starts_with("http:") {
            if ca.is_some() {
                bail!(
                    "RIVULET_CLICKHOUSE_CA is given, but CLICKHOUSE_URL begins with http://: \
                     everything would be sent in plain text; make it https://"
                );
            }
            let parsed = url::Url::parse(&url)?;
            if !is_local(parsed.host_str().unwrap_or_default()) {
                warn_once(
                    "ClickHouse is spoken to in plain text: everybody on the way can read the password \
                     and children's events; an https:// URL encrypts and verifies",
                );
            }
        }
        let client = clickhouse_tls::client(ca)?
            .with_url(url)
            .with_database(&self.clickhouse_database);
        Ok(match login {
            Some((user, password)) => client.with_user(user).with_password(password),
            None => client,
        })
    }
}

/// ClickHouse, for whoever can do without: the same flags.
#[derive(Args, Clone)]
pub(crate) struct OptionalClickHouse {
    /// ClickHouse's HTTP interface, `http://USER:PASSWORD@HOST:PORT`. Without it there are no exports, and nothing is told
    /// of when events are in the history.
    #[arg(long, env = "CLICKHOUSE_URL", hide_env_values = true)]
    clickhouse_url: Option<String>,
    /// PEM file of the authorities that ClickHouse's certificate is trusted by, for an https URL; the
    /// system's without it.
    #[arg(long, env = "RIVULET_CLICKHOUSE_CA", value_name = "FILE")]
    clickhouse_ca: Option<PathBuf>,
    /// The database of the history.
    #[arg(long, env = "RIVULET_CLICKHOUSE_DATABASE", default_value = "rivulet")]
    clickhouse_database: String,
}

impl OptionalClickHouse {
    /// A client on the history's database, if it was said where that is.
    pub(crate) fn client(&self) -> anyhow::Result<Option<clickhouse::Client>> {
        let Some(url) = self.clickhouse_url.clone().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let clickhouse = ClickHouse {
            clickhouse_url: url,
            clickhouse_ca: self.clickhouse_ca.clone(),
            clickhouse_database: self.clickhouse_database.clone(),
        };
        clickhouse.client().map(Some)
    }
}

impl From<ClickHouse> for OptionalClickHouse {
    fn from(clickhouse: ClickHouse) -> Self {
        Self {
            clickhouse_url: Some(clickhouse.clickhouse_url),
            clickhouse_ca: clickhouse.clickhouse_ca,
            clickhouse_database: clickhouse.clickhouse_database,
        }
    }
}

/// The three services.
#[derive(Args, Clone)]
pub(crate) struct Services {
    #[command(flatten)]
    pub(crate) postgres: Postgres,
    #[command(flatten)]
    pub(crate) kafka: Kafka,
    #[command(flatten)]
    pub(crate) clickhouse: ClickHouse,
}

impl Services {
    /// For whoever compares what they hold.
    pub(crate) fn stores(&self) -> anyhow::Result<Stores> {
        Ok(Stores {
            cluster: self.kafka.cluster()?,
            pool: self.postgres.pool(Login::Operator, "verify", 2)?,
            clickhouse: self.clickhouse.client()?,
        })
    }

    /// For whoever erases.
    pub(crate) fn erasure_stores(
        &self,
        name: &str,
        connections: u32,
    ) -> anyhow::Result<rivulet_erasure::Stores> {
        Ok(rivulet_erasure::Stores {
            cluster: self.kafka.cluster()?,
            pool: self.postgres.pool(Login::Operator, name, connections)?,
            clickhouse: self.clickhouse.client()?,
        })
    }
}

/// The client takes user and password apart from the address.
fn split_login(url: &str) -> anyhow::Result<(String, Option<(String, String)>)> {
    let parsed = url::Url::parse(url).context("CLICKHOUSE_URL is no URL")?;
    if !matches!(parsed.scheme(), "http" | "https") {
        bail!(
            "CLICKHOUSE_URL must begin with http:// or https://: rivulet speaks ClickHouse's HTTP interface"
        );
    }
    let mut bare = parsed.clone();
    let cannot = |()| anyhow::anyhow!("CLICKHOUSE_URL has no host");
    bare.set_username("").map_err(cannot)?;
    bare.set_password(None).map_err(cannot)?;
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let login = (!parsed.username().is_empty()).then(|| {
        (
            decode(parsed.username()),
            decode(parsed.password().unwrap_or_default()),
        )
    });
    Ok((bare.as_str().trim_end_matches('/').to_owned(), login))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leaves_the_clickhouse_address() {
        let (url, login) = split_login("http://ana:p%40ss@ch:8123").unwrap();
        assert_eq!(url, "http://ch:8123");
        assert_eq!(login, Some(("ana".to_owned(), "p@ss".to_owned())));
        assert_eq!(
            split_login("http://ch:8123/").unwrap(),
            ("http://ch:8123".to_owned(), None)
        );
        assert!(split_login("tcp://ch:9000").is_err());
    }

    #[test]
    fn another_machine_is_verified_or_its_operator_said_otherwise() {
        let check = |url: &str| check_sslmode(&url.parse().unwrap());
        for url in [
            "postgres://db.example/r",
            "postgres://10.0.0.1/r?sslmode=prefer",
        ] {
            let refused = check(url).unwrap_err().to_string();
            assert!(refused.contains("sslmode=verify-full"), "{refused}");
        }
        for url in [
            "postgres://127.0.0.1/r",
            "postgres://[::1]/r",
            "postgres://localhost/r",
            "postgres:///r?host=/run/postgresql",
            "postgres://db.example/r?sslmode=disable",
            "postgres://db.example/r?sslmode=verify-full",
        ] {
            check(url).unwrap();
        }
    }

    #[test]
    fn kafka_properties_are_pairs() {
        assert_eq!(
            property("a.b=c=d"),
            Ok(("a.b".to_owned(), "c=d".to_owned()))
        );
        assert!(property("a.b").is_err());
    }
}
