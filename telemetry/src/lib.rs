//! Logs, metrics and the health endpoints every role serves.
