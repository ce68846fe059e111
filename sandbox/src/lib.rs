//! Private PostgreSQL, Kafka and ClickHouse for ./dev and the tests.
