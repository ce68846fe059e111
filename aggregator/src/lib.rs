//! Kafka to PostgreSQL rollups, exactly once.
