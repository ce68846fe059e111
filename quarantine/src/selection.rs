//! Which records a command is about.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

/// What a record must match; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Who set it aside.
    pub consumer: Option<String>,
    /// The whole name of its topic.
    pub topic: Option<String>,
    /// Its partition.
    pub partition: Option<i32>,
    /// Its Kafka offset.
    pub offset: Option<i64>,
    /// Why it was set aside.
    pub code: Option<String>,
    /// Set aside at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Set aside before this time.
    pub until: Option<DateTime<Utc>>,
}

impl Selection {
    /// Whether every record matches.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Appends the condition.
    pub(crate) fn push_where(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(" WHERE true");
        if let Some(consumer) = &self.consumer {
            query.push(" AND consumer = ").push_bind(consumer);
        }
        if let Some(topic) = &self.topic {
            query.push(" AND topic = ").push_bind(topic);
        }
        if let Some(partition) = self.partition {
            query.push(" AND partition = ").push_bind(partition);
        }
        if let Some(offset) = self.offset {
            query.push(" AND kafka_offset = ").push_bind(offset);
        }
        if let Some(code) = &self.code {
            query.push(" AND code = ").push_bind(code);
        }
        if let Some(since) = self.since {
            query.push(" AND quarantined_at >= ").push_bind(since);
        }
        if let Some(until) = self.until {
            query.push(" AND quarantined_at < ").push_bind(until);
        }
    }
}
