//! What is kept, by what it is for.

use rivulet_events::EventType;

/// A class of what is kept: a part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Speech events in ClickHouse.
    Speech,
    /// Interactions in ClickHouse.
    Interactions,
    /// Messages in ClickHouse.
    Messages,
    /// Session events in ClickHouse.
    Sessions,
    /// Sums for each child and day, in both databases, and streaks.
    Daily,
    /// Sums by subject and by topic.
    Learning,
    /// What makes an event count once, and the consumers' books.
    Identities,
    /// Dead letters.
    Quarantine,
    /// Consents, and the registry of families that were deleted.
    Consents,
    /// The audit log.
    Audit,
    /// Certificates of erasures.
    Erasures,
    /// The raw stream.
    Kafka,
    /// Events on the disk of an ingest node.
    Spill,
    /// What the processes print.
    Logs,
    /// Copies of the databases.
    Backups,
}

impl Class {
    /// All of them, in the order of the file.
    pub const ALL: [Self; 15] = [
        Self::Speech,
        Self::Interactions,
        Self::Messages,
        Self::Sessions,
        Self::Daily,
        Self::Learning,
        Self::Identities,
        Self::Quarantine,
        Self::Consents,
        Self::Audit,
        Self::Erasures,
        Self::Kafka,
        Self::Spill,
        Self::Logs,
        Self::Backups,
    ];

    /// Those that PostgreSQL has something of, or whose period it notes.
    pub const IN_POSTGRES: [Self; 11] = [
        Self::Speech,
        Self::Interactions,
        Self::Messages,
        Self::Sessions,
        Self::Daily,
        Self::Learning,
        Self::Identities,
        Self::Quarantine,
        Self::Consents,
        Self::Audit,
        Self::Erasures,
    ];

    /// The class of the events of a type.
    #[must_use]
    pub const fn of(kind: EventType) -> Self {
        match kind {
            EventType::Speech => Self::Speech,
            EventType::Interaction => Self::Interactions,
            EventType::Message => Self::Messages,
            EventType::Session => Self::Sessions,
        }
    }

    /// Its name in the file and in `retention_periods`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Speech => "speech",
            Self::Interactions => "interactions",
            Self::Messages => "messages",
            Self::Sessions => "sessions",
            Self::Daily => "daily",
            Self::Learning => "learning",
            Self::Identities => "identities",
            Self::Quarantine => "quarantine",
            Self::Consents => "consents",
            Self::Audit => "audit",
            Self::Erasures => "erasures",
            Self::Kafka => "kafka",
            Self::Spill => "spill",
            Self::Logs => "logs",
            Self::Backups => "backups",
        }
    }

    /// What a parent reads.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Speech => "Speech events",
            Self::Interactions => "Interactions",
            Self::Messages => "Messages",
            Self::Sessions => "Sessions",
            Self::Daily => "Daily sums and streaks",
            Self::Learning => "Progress by subject and topic",
            Self::Identities => "Identities of events",
            Self::Quarantine => "Records in quarantine",
            Self::Consents => "Consents and the registry",
            Self::Audit => "Audit log",
            Self::Erasures => "Certificates of erasures",
            Self::Kafka => "Raw stream",
            Self::Spill => "Spill",
            Self::Logs => "Logs of the servers",
            Self::Backups => "Backups",
        }
    }

    /// From when its time counts.
    #[must_use]
    pub const fn counts_from(self) -> &'static str {
        match self {
            Self::Speech
            | Self::Interactions
            | Self::Messages
            | Self::Sessions
            | Self::Kafka
            | Self::Spill => "it was received",
            Self::Daily => "the day that it is of",
            Self::Learning => "the day that it is of; for a topic, its last use",
            Self::Identities => "it was received",
            Self::Quarantine => "it was set aside",
            Self::Consents => "the parent was deleted",
            Self::Audit | Self::Logs | Self::Backups => "it was written",
            Self::Erasures => "the erasure was done",
        }
    }

    /// Where it is, and what makes it go.
    #[must_use]
    pub const fn enforced(self) -> &'static str {
        match self {
            Self::Speech | Self::Interactions | Self::Messages | Self::Sessions => {
                "ClickHouse `events`: its TTL, in the next merge of the part"
            }
            Self::Daily => {
                "PostgreSQL `daily_child_metrics` (partitions, and rows of the month at the edge) and the active days \
                 of `streaks`, daily by `aggregate`; ClickHouse `child_day_rollup`: its TTL"
            }
            Self::Learning => {
                "PostgreSQL `learning_analytics` (partitions, and rows of the month at the edge) and `topic_progress`, \
                 daily by `aggregate`"
            }
            Self::Identities => {
                "PostgreSQL `event_seen` (partitions) and `consumer_ledger` by `aggregate`, `withheld_seen` by `sink`; \
                 behind what was consumed, not behind the clock"
            }
            Self::Quarantine => "PostgreSQL `quarantine`, by `sink`",
            Self::Consents => "PostgreSQL `consent_changes`, `children`, `parents`, by `sink`",
            Self::Audit => {
                "PostgreSQL `audit_log` (whole months) and `quarantine_actions`, by `sink`"
            }
            Self::Erasures => {
                "PostgreSQL `erasures`, `erasure_stores`, by `sink`; `tombstones` stay"
            }
            Self::Kafka => "the topics' `retention.ms`, by `rivulet topics`",
            Self::Spill => {
                "ingest does not send what is older: it is held back with an alert, for an operator"
            }
            Self::Logs => "whoever collects standard output: not Rivulet",
            Self::Backups => "whoever makes them: not Rivulet",
        }
    }
}
