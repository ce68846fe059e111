//! The HTTP endpoint: batches of events in, durable Kafka records out.
