//! The aggregator's settings.

use std::time::Duration;

use rivulet_events::ids::OLDEST_ID_DAY;

/// An event may be this old when it is accepted: its id-day may lie so many days before `received_at`.
const ACCEPT_WINDOW_DAYS: u64 = OLDEST_ID_DAY;

/// The aggregator's settings; `Default` is for production.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kafka consumer group. Instances of one group share the partitions.
    pub group: String,
    /// Most records in one transaction.
    pub max_batch_records: usize,
    /// Most bytes of records in one transaction.
    pub max_batch_bytes: usize,
    /// How long a batch waits for more records: throughput for latency.
    pub linger: Duration,
    /// A transaction that takes longer is given up and tried again.
    pub transaction_timeout: Duration,
    /// How old a record may become in the spill of an ingest node before it comes to Kafka, in days.
    pub spill_max_age_days: u64,
    /// Stops where a larger share of a topic's recent records would go into quarantine; 1 for never.
    pub quarantine_share: f64,
    /// How long the identities of events are remembered, in days behind what was consumed.
    pub seen_retention_days: u64,
    /// How often partitions are made ahead and dropped.
    pub housekeeping_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group: "rivulet-aggregator".to_owned(),
            max_batch_records: 10_000,
            max_batch_bytes: 4 << 20,
            linger: Duration::from_millis(100),
            transaction_timeout: Duration::from_secs(30),
            spill_max_age_days: 3,
            quarantine_share: 0.1,
            seen_retention_days: 45,
            housekeeping_interval: Duration::from_secs(600),
        }
    }
}

/// A setting that would lead to wrong numbers or no progress.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Identities would be forgotten while their events may still come.
    #[error(
        "event identities are remembered for {retention} days, but an event may be \
         {ACCEPT_WINDOW_DAYS} days old when it is accepted, then wait {spill} days in a spill and \
         {kafka} days in Kafka: its repetition would be counted a second time. Remember them for at \
         least {least} days, or let the topics keep less, or lower the spill's largest age here and on \
         every ingest node"
    )]
    RetentionTooShort {
        /// As configured, days.
        retention: u64,
        /// The spill's largest age, days.
        spill: u64,
        /// What the topics keep, days, rounded up.
        kafka: u64,
        /// The shortest retention that would do, days.
        least: u64,
    },
    /// No memory of identities is long enough.
    #[error(
        "a topic keeps its records for ever: whenever an event's identity has been forgotten, after \
         {0} days, Kafka could still repeat it and it would be counted a second time. Give every \
         topic a retention"
    )]
    KafkaKeepsForever(u64),
    /// Nothing would ever be processed.
    #[error("`{0}` is 0: no record would ever be processed")]
    Zero(&'static str),
}

impl Config {
    /// Checks what the settings mean together.
    ///
    /// # Errors
    /// [`ConfigError`], which says what would go wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, zero) in [
            ("max_batch_records", self.max_batch_records == 0),
            ("max_batch_bytes", self.max_batch_bytes == 0),
            ("transaction_timeout", self.transaction_timeout.is_zero()),
            (
                "housekeeping_interval",
                self.housekeeping_interval.is_zero(),
            ),
        ] {
            if zero {
                return Err(ConfigError::Zero(name));
            }
        }
        Ok(())
    }

    /// Checks that identities are remembered for longer than an event may be on its way; `kafka` is
    /// the longest retention of the topics, `None` for ever.
    ///
    /// # Errors
    /// [`ConfigError`], which says how long would do.
    pub fn check_retention(&self, kafka: Option<Duration>) -> Result<(), ConfigError> {
        let retention = self.seen_retention_days;
        let Some(kafka) = kafka else {
            return Err(ConfigError::KafkaKeepsForever(retention));
        };
        let kafka = kafka.as_secs().div_ceil(86_400);
        let spill = self.spill_max_age_days;
        let least = ACCEPT_WINDOW_DAYS + spill + kafka;
        if retention < least {
            return Err(ConfigError::RetentionTooShort {
                retention,
                spill,
                kafka,
                least,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_outlive_what_kafka_may_repeat() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let config = Config::default();
        assert!(config.check_retention(days(7)).is_ok());
        assert!(config.check_retention(days(8)).is_ok());
        let said = config.check_retention(days(9)).unwrap_err().to_string();
        assert!(
            said.contains("counted a second time") && said.contains("at least 46 days"),
            "{said}"
        );
        assert!(config.check_retention(None).is_err());
        let without_spill = Config {
            spill_max_age_days: 0,
            ..config
        };
        assert!(without_spill.check_retention(days(11)).is_ok());
        assert!(without_spill.check_retention(days(12)).is_err());
    }

    #[test]
    fn nothing_may_be_zero() {
        assert!(Config::default().validate().is_ok());
        let said = Config {
            max_batch_records: 0,
            ..Config::default()
        }
        .validate()
        .unwrap_err();
        assert!(said.to_string().contains("max_batch_records"), "{said}");
    }
}
