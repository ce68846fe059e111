//! What each role is told, by flags and variables.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use rivulet_events::free_text;
use rivulet_ingest::SpillConfig;
use rivulet_registry::keys::Origin;
use rivulet_retention::{Class, Policy};

use crate::{
    exposure::{is_plain_text_elsewhere, warn_once},
    port::PortFlags,
    retention::agreed,
    services::SpillAge,
};

#[derive(Args)]
pub(crate) struct ApiFlags {
    /// Where the read API, and its `/healthz`, `/readyz` and, without --operations-listen, `/metrics` are served.
    #[arg(long, env = "RIVULET_API_LISTEN", default_value = "127.0.0.1:8081")]
    pub(crate) api_listen: String,
    /// Requests a second, by API key and node; ten times as many at once after a pause.
    #[arg(long, env = "RIVULET_API_RATE", default_value_t = rivulet_dashboards::Config::default().rate)]
    api_rate: u32,
    /// The same by parent who comes with a token.
    #[arg(long, env = "RIVULET_API_TOKEN_RATE", default_value_t = rivulet_dashboards::Config::default().token_rate)]
    api_token_rate: u32,
    /// An origin whose pages may read, such as https://app.example, several separated by commas; without
    /// it none but the pages that are served here.
    #[arg(
        long = "api-origin",
        env = "RIVULET_API_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    api_origins: Vec<Origin>,
    /// Whether the page to try the API is served at `/docs/`. `/openapi.json` is, in any case: clients are
    /// made from it.
    #[arg(
        long,
        env = "RIVULET_API_DOCS",
        value_enum,
        value_name = "on|off",
        hide_possible_values = true,
        default_value_t = Switch::On
    )]
    api_docs: Switch,
    /// The ingest nodes, separated by commas, of which `/inspect/` shows an admin what arrives now; they need
    /// RIVULET_INSPECT=on. There is no such page when not given.
    #[arg(
        long,
        env = "RIVULET_INSPECT_INGEST",
        value_delimiter = ',',
        value_name = "URL"
    )]
    inspect_ingest: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl ApiFlags {
    pub(crate) fn config(&self, port: &PortFlags) -> anyhow::Result<rivulet_dashboards::Config> {
        Ok(rivulet_dashboards::Config {
            port: port.config()?,
            tokens: port.tokens()?,
            registry: port.registry(),
            rate: self.api_rate,
            token_rate: self.api_token_rate,
            origins: self.api_origins.clone(),
            document: None,
            docs: self.api_docs == Switch::On,
            inspect: self.inspected(),
            shutdown_grace: port.shutdown_grace(),
            ..rivulet_dashboards::Config::default()
        })
    }

    fn inspected(&self) -> Vec<String> {
        let nodes = self
            .inspect_ingest
            .iter()
            .filter(|node| !node.trim().is_empty());
        let nodes: Vec<_> = nodes.cloned().collect();
        if nodes.iter().any(|node| is_plain_text_elsewhere(node)) {
            warn_once(
                "an ingest node of RIVULET_INSPECT_INGEST is spoken to in plain text: everybody on the way can read the \
                 admins' keys that are passed on to it; an https:// URL encrypts and verifies",
            );
        }
        nodes
    }
}

#[derive(Args)]
pub(crate) struct IngestFlags {
    /// Where the API, `/healthz`, `/readyz` and, without --operations-listen, `/metrics` are served.
    #[arg(long, env = "RIVULET_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Events a request.
    #[arg(long, env = "RIVULET_MAX_EVENTS", default_value_t = rivulet_ingest::Config::default().max_events)]
    max_events: usize,
    /// Bytes of a body as sent.
    #[arg(long, env = "RIVULET_MAX_WIRE_BYTES", default_value_t = rivulet_ingest::Config::default().max_wire_bytes)]
    max_wire_bytes: usize,
    /// Bytes of a body after decompression.
    #[arg(long, env = "RIVULET_MAX_INFLATED_BYTES", default_value_t = rivulet_ingest::Config::default().max_inflated_bytes)]
    max_inflated_bytes: usize,
    /// Bytes of one event's JSON.
    #[arg(long, env = "RIVULET_MAX_EVENT_BYTES", default_value_t = rivulet_ingest::Config::default().max_event_bytes)]
    max_event_bytes: usize,
    /// Containers within containers in one event, its own object being the first.
    #[arg(long, env = "RIVULET_MAX_EVENT_DEPTH", default_value_t = rivulet_ingest::Config::default().max_event_depth)]
    max_event_depth: u8,
    /// What is done where free text (attributes, topics, badges, subjects, device ids) holds what looks like personal data:
    /// allow, mask or refuse. It is counted in any case.
    #[arg(
        long,
        env = "RIVULET_PERSONAL_DATA",
        value_enum,
        value_name = "POLICY",
        hide_possible_values = true,
        default_value_t = PersonalData::Mask
    )]
    personal_data: PersonalData,
    /// Bytes of all requests at work. A sender may hold as many as are free besides, one alone half of them;
    /// beyond it its requests get 503.
    #[arg(long, env = "RIVULET_MAX_BYTES_IN_FLIGHT", default_value_t = rivulet_ingest::Config::default().max_bytes_in_flight)]
    max_bytes_in_flight: usize,
    /// Seconds a body may take to arrive.
    #[arg(
        long,
        env = "RIVULET_BODY_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = rivulet_ingest::Config::default().body_timeout.as_secs()
    )]
    body_timeout: u64,
    /// Events a second, by API key and node.
    #[arg(long, env = "RIVULET_RATE", default_value_t = rivulet_ingest::Config::default().rate)]
    rate: u32,
    /// Events that an API key may send at once after a pause.
    #[arg(long, env = "RIVULET_BURST", default_value_t = rivulet_ingest::Config::default().burst)]
    burst: u32,
    /// Events a second, by family that sends with client tokens and node.
    #[arg(long, env = "RIVULET_TOKEN_RATE", default_value_t = rivulet_ingest::Config::default().token_rate)]
    token_rate: u32,
    /// Events that such a family may send at once after a pause.
    #[arg(long, env = "RIVULET_TOKEN_BURST", default_value_t = rivulet_ingest::Config::default().token_burst)]
    token_burst: u32,
    /// Whether clients that ask (`GET /v1/config`) are told to send events; `false` asks them to send nothing for now and to
    /// keep what they have. It stops nobody.
    #[arg(long, env = "RIVULET_CLIENTS_ENABLED", value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    clients_enabled: bool,
    /// Seconds for which clients that ask are told to gather events before they send them, 1 to 3600.
    #[arg(
        long,
        env = "RIVULET_FLUSH_INTERVAL",
        value_name = "SECONDS",
        default_value_t = rivulet_ingest::Config::default().flush_interval.as_secs()
    )]
    flush_interval: u64,
    /// An origin whose pages may post events, such as https://app.example, several separated by
    /// commas; everybody's without it.
    #[arg(
        long = "origin",
        env = "RIVULET_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    origins: Vec<Origin>,
    /// Whether somebody with a key of scope `admin` may watch what arrives: `rivulet tail`, and the page `/inspect/`. They see
    /// whose events come and what they are answered, and nothing of what they hold.
    #[arg(
        long,
        env = "RIVULET_INSPECT",
        value_enum,
        value_name = "on|off",
        hide_possible_values = true,
        default_value_t = Switch::Off
    )]
    inspect: Switch,
    /// A directory of this process's own for events that Kafka does not take: they are made durable there
    /// and answered `accepted` as `spilled`. Off when not given.
    #[arg(long, env = "RIVULET_SPILL_DIR")]
    spill_dir: Option<PathBuf>,
    /// Bytes of disk for the spill; beyond it events are answered `retry`.
    #[arg(long, env = "RIVULET_SPILL_MAX_BYTES", default_value_t = 1 << 30)]
    spill_max_bytes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum PersonalData {
    Allow,
    Mask,
    Refuse,
}

impl From<PersonalData> for free_text::Policy {
    fn from(policy: PersonalData) -> Self {
        match policy {
            PersonalData::Allow => Self::Allow,
            PersonalData::Mask => Self::Mask,
            PersonalData::Refuse => Self::Refuse,
        }
    }
}

impl IngestFlags {
    pub(crate) fn config(
        &self,
        port: &PortFlags,
        age: &SpillAge,
        policy: &Policy,
    ) -> anyhow::Result<rivulet_ingest::Config> {
        let max_age = Duration::from_secs(u64::from(age.days(policy)?) * 86_400);
        Ok(rivulet_ingest::Config {
            port: port.config()?,
            max_events: self.max_events,
            max_wire_bytes: self.max_wire_bytes,
            max_inflated_bytes: self.max_inflated_bytes,
            max_event_bytes: self.max_event_bytes,
            max_event_depth: self.max_event_depth,
            personal_data: self.personal_data.into(),
            max_bytes_in_flight: self.max_bytes_in_flight,
            body_timeout: Duration::from_secs(self.body_timeout),
            rate: self.rate,
            burst: self.burst,
            tokens: port.tokens()?,
            token_rate: self.token_rate,
            token_burst: self.token_burst,
            clients_enabled: self.clients_enabled,
            flush_interval: Duration::from_secs(self.flush_interval),
            origins: self.origins.clone(),
            inspect: self.inspect == Switch::On,
            registry: port.registry(),
            spill: self.spill_dir.clone().map(|dir| SpillConfig {
                dir,
                max_bytes: self.spill_max_bytes,
                max_age,
            }),
            shutdown_grace: port.shutdown_grace(),
            ..rivulet_ingest::Config::default()
        })
    }
}

/// What aggregator and sink have in common.
#[derive(Args, Clone)]
pub(crate) struct ConsumerFlags {
    /// Stop, until `rivulet quarantine resume`, where a larger share of a topic's recent records
    /// cannot be processed; 1 never stops.
    #[arg(
        long,
        env = "RIVULET_QUARANTINE_SHARE",
        value_name = "SHARE",
        default_value_t = rivulet_aggregator::Config::default().quarantine_share,
        value_parser = share
    )]
    quarantine_share: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "must be a number, as 0.1")?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err("must be above 0 and at most 1: at 0 one bad record would stop everything".to_owned())
    }
}

#[derive(Args)]
pub(crate) struct AggregateFlags {
    /// Where `/healthz`, `/readyz` and `/metrics` of the aggregator are served.
    #[arg(
        long,
        env = "RIVULET_AGGREGATE_LISTEN",
        default_value = "127.0.0.1:9101"
    )]
    pub(crate) aggregate_listen: String,
    /// Kafka consumer group of the aggregators.
    #[arg(
        long,
        env = "RIVULET_AGGREGATE_GROUP",
        default_value_t = rivulet_aggregator::Config::default().group
    )]
    aggregate_group: String,
    /// Days that the identities of events are remembered. Must be what the retention file says, if given.
    #[arg(long, env = "RIVULET_SEEN_RETENTION_DAYS")]
    seen_retention_days: Option<u64>,
}

impl AggregateFlags {
    pub(crate) fn config(
        &self,
        consumers: &ConsumerFlags,
        age: &SpillAge,
        policy: &Policy,
    ) -> anyhow::Result<rivulet_aggregator::Config> {
        let variable = "RIVULET_SEEN_RETENTION_DAYS";
        let identities = agreed(
            policy,
            Class::Identities,
            variable,
            self.seen_retention_days,
        )?;
        Ok(rivulet_aggregator::Config {
            quarantine_share: consumers.quarantine_share,
            spill_max_age_days: age.days(policy)?.into(),
            group: self.aggregate_group.clone(),
            seen_retention_days: identities.into(),
            ..rivulet_aggregator::Config::default()
        })
    }
}

#[derive(Args)]
pub(crate) struct SinkFlags {
    /// Where `/healthz`, `/readyz` and `/metrics` of the sink are served.
    #[arg(long, env = "RIVULET_SINK_LISTEN", default_value = "127.0.0.1:9102")]
    pub(crate) sink_listen: String,
    /// Kafka consumer group of the sinks.
    #[arg(long, env = "RIVULET_SINK_GROUP", default_value_t = rivulet_sinks::Config::default().group)]
    sink_group: String,
    /// Longest that a row waits for others before it is inserted, milliseconds.
    #[arg(long, env = "RIVULET_SINK_MAX_AGE_MS", default_value_t = rivulet_sinks::Config::default().max_age.as_millis() as u64)]
    sink_max_age_ms: u64,
}

impl SinkFlags {
    pub(crate) fn config(
        &self,
        consumers: &ConsumerFlags,
        policy: &Policy,
    ) -> rivulet_sinks::Config {
        rivulet_sinks::Config {
            identities_days: policy.days(Class::Identities),
            quarantine_share: consumers.quarantine_share,
            group: self.sink_group.clone(),
            max_age: Duration::from_millis(self.sink_max_age_ms),
            ..rivulet_sinks::Config::default()
        }
    }
}
