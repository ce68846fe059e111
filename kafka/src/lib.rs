//! Kafka as every role uses it: client settings, topics and their incarnation.
