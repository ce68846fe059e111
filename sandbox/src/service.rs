//! The services that Rivulet needs, and where each of them is.

use anyhow::Result;

use crate::{
    clickhouse::{self, Clickhouse},
    daemon::Server,
    home::Home,
    kafka::{self, Kafka},
    postgres::{self, Postgres},
};

/// The services that Rivulet needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// PostgreSQL 15 or newer.
    Postgres,
    /// Apache Kafka, or a broker that speaks its protocol.
    Kafka,
    /// ClickHouse.
    Clickhouse,
}

impl Service {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Kafka, Self::Clickhouse];

    /// The environment variable that names one to use instead.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DATABASE_URL",
            Self::Kafka => "KAFKA_BROKERS",
            Self::Clickhouse => "CLICKHOUSE_URL",
        }
    }

    /// Where it is: what the user named, else our own.
    pub(crate) fn address(self, home: &Home) -> Result<String> {
        match (home.state().external.get(self.name()), self) {
            (Some(address), _) => Ok(address.clone()),
            (None, Self::Postgres) => postgres::url(home, "rivulet"),
            (None, Self::Kafka) => kafka::address(home),
            (None, Self::Clickhouse) => clickhouse::url(home),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => Postgres::NAME,
            Self::Kafka => Kafka::NAME,
            Self::Clickhouse => Clickhouse::NAME,
        }
    }
}
