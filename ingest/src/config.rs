//! The settings of this role, and the checks that they keep what the role promises.

use std::time::Duration;

use rivulet_events::free_text::Policy;
use rivulet_registry::{CacheConfig, keys::Origin};
use utoipa::openapi::OpenApi;

use crate::{
    decoder::decoder_bytes,
    shares::Shares,
    spill::{DISK_TIMEOUT, SpillConfig},
};

/// How this role works. [`Config::default`] is for production.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP port, and what a client may hold of it.
    pub port: rivulet_web::Config,
    /// Events a request.
    pub max_events: usize,
    /// Bytes of a body as sent.
    pub max_wire_bytes: usize,
    /// Bytes of a body after decompression.
    pub max_inflated_bytes: usize,
    /// Bytes of one event's JSON.
    pub max_event_bytes: usize,
    /// Containers within containers in one event, its own object being the first.
    pub max_event_depth: u8,
    /// What is done about personal data in free text.
    pub personal_data: Policy,
    /// Bytes of all requests that are at work: heads, bodies as sent, then inflated, what decoders hold, answers.
    /// A sender may hold as many as are free besides, one alone half of them; beyond it its requests get 503.
    pub max_bytes_in_flight: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long an answer waits for Kafka's acknowledgements.
    pub ack_timeout: Duration,
    /// What `Retry-After` says when something could not be stored.
    pub retry_after: Duration,
    /// Events a second and API key.
    pub rate: u32,
    /// Events an API key may send at once after a pause.
    pub burst: u32,
    /// How often requests below `/v1/admin` that change nothing are written to the audit log.
    pub audit_every: Duration,
    /// Which client tokens are taken; none without it.
    pub tokens: Option<rivulet_tokens::Config>,
    /// Events a second and family that sends with client tokens.
    pub token_rate: u32,
    /// Events such a family may send at once after a pause.
    pub token_burst: u32,
    /// Whether clients that ask are told to send events. One that is told not to keeps them.
    pub clients_enabled: bool,
    /// For how long clients that ask are told to gather events before they send them, 1 s to 1 h.
    pub flush_interval: Duration,
    /// The origins whose web pages may post events. Empty means all origins.
    pub origins: Vec<Origin>,
    /// Whether somebody with a key of scope `admin` may watch what arrives (`/v1/admin/tail`).
    pub inspect: bool,
    /// The registry's cache.
    pub registry: CacheConfig,
    /// How long librdkafka waits for more records before it sends.
    pub linger: Duration,
    /// How long librdkafka tries to deliver a record.
    pub message_timeout: Duration,
    /// Records waiting for Kafka. Beyond it events are answered `retry`, and those of a sender beyond its share:
    /// as many as are free besides, half of them for one alone.
    pub queue_messages: usize,
    /// Bytes of records waiting for Kafka; beyond it events are answered `retry`.
    pub queue_bytes: usize,
    /// What becomes of records that Kafka does not take; without it their events are answered `retry`.
    pub spill: Option<SpillConfig>,
    /// The OpenAPI document of every role; without it, of this one.
    pub document: Option<OpenApi>,
    /// How long requests are still taken after the role said that it is not ready.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: rivulet_web::Config::default(),
            max_events: 1_000,
            max_wire_bytes: 1 << 20,
            max_inflated_bytes: 8 << 20,
            max_event_bytes: 64 << 10,
            max_event_depth: 32,
            personal_data: Policy::Mask,
            max_bytes_in_flight: 64 << 20,
            body_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(15),
            retry_after: Duration::from_secs(5),
            rate: 5_000,
            burst: 20_000,
            audit_every: Duration::from_secs(60),
            tokens: None,
            token_rate: 100,
            token_burst: 2_000,
            clients_enabled: true,
            flush_interval: Duration::from_secs(30),
            origins: Vec::new(),
            inspect: false,
            registry: CacheConfig::default(),
            linger: Duration::from_millis(5),
            message_timeout: Duration::from_secs(10),
            queue_messages: 50_000,
            queue_bytes: 48 << 20,
            spill: None,
            document: None,
            shutdown_grace: Duration::from_secs(1),
        }
    }
}

/// A configuration that would break a promise; the text says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

/// librdkafka looks once a second for records whose time is over, and needs a moment to report them.
const EXPIRY_SLACK: Duration = Duration::from_secs(2);

/// Kafka's default `message.max.bytes` is 1 MB; half of it leaves room for what a record adds.
const LARGEST_EVENT: usize = 512 << 10;

impl Config {
    /// Checks what no single setting can show.
    ///
    /// # Errors
    /// The first setting that cannot work, with what would go wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let refuse = |text: String| Err(InvalidConfig(text));
        let positive = [
            ("max_events", self.max_events),
            ("max_wire_bytes", self.max_wire_bytes),
            ("max_inflated_bytes", self.max_inflated_bytes),
            ("max_event_bytes", self.max_event_bytes),
            ("rate", self.rate as usize),
            ("token_rate", self.token_rate as usize),
            ("the registry's cache capacity", self.registry.capacity),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return refuse(format!("{name} is 0: every request would be refused"));
        }
        let flush = self.flush_interval.as_secs();
        if !(1..=3_600).contains(&flush) {
            return refuse(format!(
                "the flush interval is {flush} s: it must be 1 to 3600, or clients would send all the time, or hold events \
                 until they are closed"
            ));
        }
        let mut bursts = vec![("burst", self.burst)];
        if let Some(tokens) = &self.tokens {
            let invalid = |error: rivulet_tokens::InvalidConfig| InvalidConfig(error.to_string());
            tokens.validate().map_err(invalid)?;
            bursts.push(("token_burst", self.token_burst));
        }
        if let Some((name, burst)) = bursts
            .into_iter()
            .find(|(_, burst)| (*burst as usize) < self.max_events)
        {
            return refuse(format!(
                "{name} ({burst}) is below max_events ({}): a request of more than {burst} events \
                 would be refused for ever, however long its sender waits",
                self.max_events
            ));
        }
        if self.max_event_bytes > LARGEST_EVENT {
            return refuse(format!(
                "max_event_bytes ({}) is above {LARGEST_EVENT}: Kafka would refuse the record of \
                 an event that passed every other check, each time it is sent again",
                self.max_event_bytes
            ));
        }
        let port = self.port.validate();
        port.map_err(|error| InvalidConfig(error.to_string()))?;
        if self.body_timeout.is_zero() {
            return refuse("body_timeout is 0: every request would be cut off".into());
        }
        if !(2..=100).contains(&self.max_event_depth) {
            return refuse(format!(
                "max_event_depth ({}) must be from 2 to 100: an event has objects within its own, \
                 and the JSON reader stops at 128 levels",
                self.max_event_depth
            ));
        }
        let largest = self.largest_request();
        if Shares::of_one(self.max_bytes_in_flight) < largest {
            return refuse(format!(
                "max_bytes_in_flight ({}) is below {}, twice what the largest permitted request takes \
                 (max_wire_bytes, max_inflated_bytes, a decoder's window, the connection's buffers): a sender \
                 has half of it at most, and such a request would get 503 for ever",
                self.max_bytes_in_flight,
                2 * largest
            ));
        }
        if Shares::of_one(self.queue_messages) < self.max_events {
            return refuse(format!(
                "queue_messages ({}) is below twice max_events ({}): a sender has half of it at most, and a \
                 full request would always be answered `retry`",
                self.queue_messages, self.max_events
            ));
        }
        if self.queue_bytes < self.max_inflated_bytes * 2 {
            return refuse(format!(
                "queue_bytes ({}) is below twice max_inflated_bytes ({}): the records of one large \
                 request would not fit",
                self.queue_bytes,
                self.max_inflated_bytes * 2
            ));
        }
        if self.ack_timeout < self.message_timeout + EXPIRY_SLACK {
            return refuse(format!(
                "ack_timeout ({:?}) is less than {EXPIRY_SLACK:?} above message_timeout ({:?}): \
                 clients would be told `retry` for records that Kafka still gets afterwards",
                self.ack_timeout, self.message_timeout
            ));
        }
        if self.port.drain_timeout < self.ack_timeout {
            return refuse(format!(
                "drain_timeout ({:?}) is below ack_timeout ({:?}): at shutdown, requests that wait \
                 for Kafka would be cut off unanswered",
                self.port.drain_timeout, self.ack_timeout
            ));
        }
        if let Some(spill) = &self.spill {
            if spill.max_bytes < rivulet_spill::MIN_BYTES {
                return refuse(format!(
                    "the spill's max_bytes ({}) is below {}: it would be full after a request or two",
                    spill.max_bytes,
                    rivulet_spill::MIN_BYTES
                ));
            }
            if spill.max_age.is_zero() {
                return refuse(
                    "the spill's max_age is 0: nothing that is spilled would ever reach Kafka"
                        .into(),
                );
            }
            if self.port.drain_timeout < self.ack_timeout + DISK_TIMEOUT {
                return refuse(format!(
                    "drain_timeout ({:?}) is below ack_timeout ({:?}) and the {DISK_TIMEOUT:?} that the \
                     spill may take: at shutdown, requests that wait would be cut off unanswered",
                    self.port.drain_timeout, self.ack_timeout
                ));
            }
        }
        if self.message_timeout < self.linger * 10 {
            return refuse(format!(
                "message_timeout ({:?}) is below ten times linger ({:?}): records would expire \
                 before they are sent",
                self.message_timeout, self.linger
            ));
        }
        Ok(())
    }

    /// Bytes of the largest permitted request: its head, its body as sent and inflated, what inflates it.
    const fn largest_request(&self) -> usize {
        2 * rivulet_web::CONNECTION_BUFFER
            + self.max_wire_bytes
            + self.max_inflated_bytes
            + decoder_bytes(self.max_inflated_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: fn(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn the_defaults_hold_and_every_broken_promise_is_named() {
        Config::default().validate().unwrap();
        assert!(refusal(|c| c.burst = 999).contains("for ever"));
        let with_tokens = |c: &mut Config| {
            c.tokens = Some(rivulet_tokens::Config {
                secrets: rivulet_tokens::Secret::lines(&"s".repeat(32)),
                audience: "rivulet".to_owned(),
                ..rivulet_tokens::Config::default()
            });
        };
        let few = |c: &mut Config| c.token_burst = 999;
        let mut config = Config::default();
        few(&mut config);
        config
            .validate()
            .expect("nobody sends with tokens, whatever their burst");
        with_tokens(&mut config);
        let refused = config.validate().unwrap_err().to_string();
        assert!(refused.contains("token_burst (999)"), "{refused}");
        assert!(
            refusal(|c| c.tokens = Some(rivulet_tokens::Config::default()))
                .contains("neither a secret nor a JWKS")
        );
        assert!(refusal(|c| c.max_events = 0).contains("max_events is 0"));
        assert!(refusal(|c| c.port.write_timeout = Duration::ZERO).contains("write_timeout is 0"));
        assert!(refusal(|c| c.max_event_bytes = 1 << 20).contains("Kafka would refuse"));
        assert!(refusal(|c| c.max_event_depth = 1).contains("from 2 to 100"));
        let too_few = refusal(|c| c.max_bytes_in_flight = 42 << 20);
        assert!(too_few.contains("503 for ever"), "{too_few}");
        let enough = Config {
            max_bytes_in_flight: 43 << 20,
            ..Config::default()
        };
        enough.validate().unwrap();
        assert!(refusal(|c| c.queue_messages = 1_999).contains("always be answered `retry`"));
        assert!(refusal(|c| c.queue_bytes = 1 << 20).contains("would not fit"));
        assert!(refusal(|c| c.message_timeout = c.ack_timeout).contains("Kafka still gets"));
        assert!(refusal(|c| c.port.drain_timeout = Duration::ZERO).contains("cut off unanswered"));
        let spill = |max_bytes, days: u64| {
            Some(SpillConfig {
                dir: "spill".into(),
                max_bytes,
                max_age: Duration::from_secs(days * 86_400),
            })
        };
        let mut config = Config {
            spill: spill(1 << 30, 3),
            ..Config::default()
        };
        config.validate().unwrap();
        config.spill = spill(1 << 20, 3);
        assert!(config.validate().is_err());
        config.spill = spill(1 << 30, 0);
        assert!(config.validate().is_err());
        config.spill = spill(1 << 30, 3);
        config.port.drain_timeout = config.ack_timeout;
        assert!(config.validate().is_err());
        assert!(refusal(|c| c.message_timeout = c.linger).contains("expire before"));
    }
}
