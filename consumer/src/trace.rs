//! Spans of batches, for whoever processes them.

use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Headers as _},
};
use rivulet_telemetry::{Link, Links, Span, TRACEPARENT, tracing_is_on};

use crate::{Handle, Part};

/// The request that a record came with, where that is traced. Headers are not looked at while tracing
/// is off.
pub(crate) fn link(message: &BorrowedMessage<'_>) -> Option<Box<Link>> {
    if !tracing_is_on() {
        return None;
    }
    let mut headers = message.headers()?.iter();
    let header = headers.find(|header| header.key == TRACEPARENT)?;
    Link::parse(header.value?).map(Box::new)
}

impl Handle {
    /// A span for processing the records of these parts, linked to the requests that they came with;
    /// `None` where none of those is traced.
    #[must_use]
    pub fn span(&self, parts: &[Part], links: Links) -> Option<Span> {
        if !tracing_is_on() {
            return None;
        }
        let mut topics: Vec<_> = parts.iter().map(|part| &*part.topic).collect();
        topics.dedup();
        let topic = match topics[..] {
            [topic] => Some(topic),
            _ => None,
        };
        let name = topic.map_or("process".to_owned(), |topic| format!("process {topic}"));
        let span = Span::of_batch(name, links)?;
        span.set("messaging.system", "kafka");
        span.set("messaging.operation.name", "process");
        span.set("messaging.operation.type", "process");
        span.set("messaging.consumer.group.name", self.0.config.group.clone());
        if let Some(topic) = topic {
            span.set("messaging.destination.name", topic.to_owned());
        }
        if let [part] = parts {
            let partition = part.partition.to_string();
            span.set("messaging.destination.partition.id", partition);
        }
        let offsets = |part: &Part| {
            let (first, last) = (part.expected, part.next_offset() - 1);
            format!("{}/{}: {first} to {last}", part.topic, part.partition)
        };
        span.set_list("rivulet.offsets", parts.iter().map(offsets));
        Some(span)
    }
}
