//! Whether ClickHouse takes inserts, for readiness and for the log. The log gets a line for each change, not for each
//! retry.

use std::sync::Arc;

use parking_lot::Mutex;
use rivulet_telemetry::Readiness;

/// The readiness check the sink keeps.
pub const CHECK: &str = "clickhouse";

/// Why inserts do not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It passes by itself: network, overload, a restart.
    Passing(&'static str),
    /// Somebody has to act: a missing table, a refused login.
    Lasting(&'static str),
}

impl Trouble {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Passing(reason) | Self::Lasting(reason) => reason,
        }
    }
}

/// Shared by all inserts.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    readiness: Readiness,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Health {
    pub(crate) fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            trouble: Arc::default(),
        }
    }

    pub(crate) fn well(&self) {
        self.readiness.pass(CHECK);
        if self.trouble.lock().take().is_some() {
            tracing::info!("ClickHouse takes inserts again");
        }
    }

    /// The text of ClickHouse's error is not logged, because it quotes rows.
    pub(crate) fn ill(&self, trouble: Trouble, code: Option<u32>) {
        if self.trouble.lock().replace(trouble) == Some(trouble) {
            return;
        }
        let reason = trouble.reason();
        match trouble {
            Trouble::Passing(_) => {
                self.readiness
                    .fail(CHECK, format!("inserts fail and are retried: {reason}"));
                tracing::warn!(reason, code, "inserts into ClickHouse fail; retrying");
            }
            Trouble::Lasting(_) => {
                self.readiness
                    .fail(CHECK, format!("inserts are refused: {reason}"));
                tracing::error!(
                    reason,
                    code,
                    "ClickHouse refuses inserts until somebody repairs it; nothing is lost, retrying slowly"
                );
            }
        }
    }
}
