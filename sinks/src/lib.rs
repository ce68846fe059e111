//! Kafka to ClickHouse history, the same blocks whatever happens.
