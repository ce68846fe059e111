//! A Kafka consumer whose positions live in PostgreSQL.
