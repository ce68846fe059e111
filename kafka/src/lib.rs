//! Kafka as every role uses it: client settings, topics and their incarnation.

mod admin;
mod context;
mod incarnation;

use std::time::Duration;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError};
use rivulet_events::EventType;

pub use admin::{
    TopicPlan, TopicReport, create_topics, keep_for, kept_by_topic, longest_kept, require_topic,
    retention,
};
pub use context::{Context, log_error, log_line};
pub use incarnation::incarnations;

/// How long one administrative request to Kafka may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes, before compression, of the largest batch of records that a producer makes, and of what a consumer with lanes
/// fetches of a partition at a time. Kafka sends whole batches. If they were larger than what is fetched, each response
/// would have one batch of one partition.
pub const BATCH_BYTES: u32 = 256 << 10;

/// Where Kafka is and what its topics are called.
#[derive(Clone)]
pub struct Cluster {
    /// Bootstrap servers, `host:port`, separated by commas.
    pub brokers: String,
    /// What the names of the topics begin with; `rivulet` in production.
    pub topic_prefix: String,
    /// Handed to librdkafka as they are. They win over this crate's defaults.
    pub properties: Vec<(String, String)>,
}

/// Without the properties' values: there may be a password among them.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Cluster")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("properties", &names)
            .finish()
    }
}

impl Cluster {
    /// What every client of this cluster is made from.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "rivulet")
            // A broker that is gone without closing its connections is noticed within seconds, not minutes.
            .set("socket.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true")
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("reconnect.backoff.max.ms", "5000")
            // New topics and partitions are seen soon; what is gone is forgotten soon.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("metadata.max.age.ms", "30000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// The topic of an event type.
    #[must_use]
    pub fn topic(&self, event_type: EventType) -> String {
        format!("{}.{}", self.topic_prefix, event_type.as_str())
    }

    /// The four topics, in the order of [`EventType::ALL`].
    #[must_use]
    pub fn topics(&self) -> [String; 4] {
        [
            self.topic(EventType::Interaction),
            self.topic(EventType::Message),
            self.topic(EventType::Speech),
            self.topic(EventType::Session),
        ]
    }

    /// The topic that has the hash of everybody who was erased, for ever.
    #[must_use]
    pub fn erasure_log(&self) -> String {
        format!("{}.erasure", self.topic_prefix)
    }

    /// The event type whose topic this is.
    #[must_use]
    pub fn event_type(&self, topic: &str) -> Option<EventType> {
        let word = topic.strip_prefix(&self.topic_prefix)?.strip_prefix('.')?;
        EventType::from_word(word)
    }
}

/// What an administrative request to Kafka can end in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made, or a request failed.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// No broker can be spoken to.
    #[error("no broker can be reached: {0}")]
    Unreachable(String),
    /// Kafka refused something about one topic.
    #[error("topic {topic}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What Kafka said.
        reason: String,
    },
    /// A topic is not there.
    #[error("topic {0} does not exist: `rivulet topics` creates it")]
    MissingTopic(String),
    /// No answer in time.
    #[error("Kafka did not answer in time: {0}")]
    Timeout(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster {
            brokers: "localhost:9".to_owned(),
            topic_prefix: "rivulet".to_owned(),
            properties: vec![
                ("sasl.password".to_owned(), "planted".to_owned()),
                ("socket.timeout.ms".to_owned(), "1234".to_owned()),
            ],
        }
    }

    #[test]
    fn topics_are_named_for_their_event_type() {
        let cluster = cluster();
        assert_eq!(
            cluster.topics(),
            [
                "rivulet.interaction",
                "rivulet.message",
                "rivulet.speech",
                "rivulet.session"
            ]
        );
        for event_type in EventType::ALL {
            let topic = cluster.topic(*event_type);
            assert_eq!(cluster.event_type(&topic), Some(*event_type));
        }
        assert_eq!(cluster.event_type("rivulet.other"), None);
        assert_eq!(cluster.event_type("other.message"), None);
        assert_eq!(cluster.event_type("rivuletmessage"), None);
    }

    #[test]
    fn given_properties_win_and_are_not_shown() {
        let cluster = cluster();
        assert_eq!(
            cluster.client_config().get("socket.timeout.ms"),
            Some("1234")
        );
        let shown = format!("{cluster:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("planted"));
    }
}
