//! Writes librdkafka's messages to the program's log.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
};

use crate::Cluster;

/// A connection fails at once, if it fails, unless packets are lost in silence.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// For clients that need no other context.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

/// For [`ClientContext::log`]. Never above WARN: librdkafka calls a broker's restart an error, and
/// retries; whoever cannot do its work without Kafka says so in its readiness.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

/// For [`ClientContext::error`].
pub fn log_error(error: &KafkaError, reason: &str) {
    tracing::warn!(target: "librdkafka", %error, "{reason}");
}

impl ConsumerContext for Context {}

/// The first error that librdkafka reports about a connection to the brokers: it is refused, a certificate is not
/// trusted, or a login is wrong. Blocks for up to 3 s.
pub(crate) fn complaint(cluster: &Cluster) -> Option<String> {
    let client: BaseConsumer<Heard> = cluster
        .client_config()
        .create_with_context(Heard::default())
        .ok()?;
    let began = Instant::now();
    while client.context().0.get().is_none() && began.elapsed() < HEARD_WITHIN {
        client.poll(Duration::from_millis(100));
    }
    client.context().0.get().cloned()
}

#[derive(Default)]
struct Heard(OnceLock<String>);

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, reason: &str) {
        self.0.get_or_init(|| reason.to_owned());
    }
}

impl ConsumerContext for Heard {}
