//! Where the services are, as a test or a program needs to know it.

use std::{collections::BTreeMap, env};

use anyhow::{Context, Result, bail};

use crate::{clickhouse::client, home::Home, logins::Logins, service::Service};

/// The addresses of the three services.
#[derive(Clone, Debug)]
pub struct Stack {
    /// PostgreSQL, as a URL with user, password and database.
    pub database_url: String,
    /// Kafka, as `host:port`, several separated by commas.
    pub kafka_brokers: String,
    /// ClickHouse's HTTP interface, as a URL.
    pub clickhouse_url: String,
    /// Rivulet's logins to PostgreSQL.
    pub logins: Logins,
}

/// Set by `./dev test --external`: the tests may use services that are not the checkout's own.
pub const ALLOW_EXTERNAL: &str = "RIVULET_TEST_EXTERNAL";

impl Stack {
    /// What tests run on: the checkout's running stack, or the services that the environment
    /// names, if these are the checkout's own or `--external` was given.
    ///
    /// # Errors
    /// When nothing was brought up, or the environment names a foreign service; says what to do.
    pub fn for_tests() -> Result<Self> {
        let named = named_in_environment();
        let home = Home::existing(&Home::default_dir())?
            .context("the services are not up: `./dev up --services`, or run `./dev test`")?;
        let external = external(&home, &named);
        if env::var_os(ALLOW_EXTERNAL).is_none() {
            refuse(&external)?;
        }
        // The same rule as for the servers, but on what this test's environment says now.
        let address = |service: Service| match external.get(&service) {
            Some(address) => Ok(address.clone()),
            None => service.address(&home),
        };
        let logins = match external.contains_key(&Service::Postgres) {
            true => Logins::default(),
            false => Logins(home.state().logins),
        };
        Self::at(address, logins)
    }

    /// Where `home`'s services are.
    pub(crate) fn of(home: &Home) -> Result<Self> {
        let down = "the services are not up: `./dev up --services`";
        let state = home.state();
        // They belong to the whole cluster: in somebody else's, others may have them.
        let logins = match state.external.contains_key(Service::Postgres.name()) {
            true => Logins::default(),
            false => Logins(state.logins),
        };
        Self::at(|service| service.address(home).context(down), logins)
    }

    fn at(address: impl Fn(Service) -> Result<String>, logins: Logins) -> Result<Self> {
        Ok(Self {
            logins,
            database_url: address(Service::Postgres)?,
            kafka_brokers: address(Service::Kafka)?,
            clickhouse_url: address(Service::Clickhouse)?,
        })
    }

    /// A client for the ClickHouse of this stack, on its default database.
    ///
    /// # Errors
    /// When the address is no URL.
    pub fn clickhouse(&self) -> Result<clickhouse::Client> {
        client(&self.clickhouse_url)
    }

    /// The same as environment variables.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("DATABASE_URL", &self.database_url),
            ("CLICKHOUSE_URL", &self.clickhouse_url),
            ("KAFKA_BROKERS", &self.kafka_brokers),
        ]
    }
}

/// The services that the user's environment names.
pub fn named_in_environment() -> BTreeMap<Service, String> {
    Service::ALL
        .into_iter()
        .filter_map(|service| Some((service, env::var(service.variable()).ok()?)))
        .filter(|(_, address)| !address.is_empty())
        .collect()
}

/// Which of the addresses that the user gave belong to others than `home`.
pub(crate) fn external(
    home: &Home,
    named: &BTreeMap<Service, String>,
) -> BTreeMap<Service, String> {
    let mut external = named.clone();
    external.retain(|_, address| !home.is_own(address));
    external
}

/// Tests make and drop databases and topics: never on a service that somebody merely had in the
/// environment.
///
/// # Errors
/// When there is any, with what to do.
pub fn refuse(external: &BTreeMap<Service, String>) -> Result<()> {
    if external.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = external.keys().map(|service| service.variable()).collect();
    bail!(
        "{} names a service that is not this checkout's own, and tests create and drop databases \
         and topics: unset it, or say that you mean it with `./dev test --external`",
        names.join(", ")
    )
}
