//! Whether transactions go through, over all lanes: for readiness, and for the log, which is told of
//! a change and not of each attempt.

use parking_lot::Mutex;
use rivulet_telemetry::Readiness;

/// The readiness check that this crate passes and fails, beside the consumer's.
pub const READINESS_CHECK: &str = "rollups";

/// Shared by all lanes.
#[derive(Debug)]
pub(crate) struct Health {
    readiness: Readiness,
    troubles: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    /// Lanes whose transactions fail.
    lanes: usize,
    /// Somebody was called.
    alarmed: bool,
}

impl Health {
    /// All is well.
    pub(crate) fn new(readiness: Readiness) -> Self {
        readiness.pass(READINESS_CHECK);
        Self {
            readiness,
            troubles: Mutex::default(),
        }
    }

    /// A lane's transactions fail, and did before if it `fails`; they are tried again.
    pub(crate) fn passing(&self, fails: &mut bool, reason: &'static str) {
        self.fail(fails, reason);
        tracing::warn!(reason, "a batch could not be committed, trying again");
    }

    /// The same, but nothing that waiting would mend. `said`: PostgreSQL's code and what else may
    /// be told.
    pub(crate) fn lasting(&self, fails: &mut bool, reason: &'static str, said: &str) {
        self.fail(fails, reason);
        if !std::mem::replace(&mut self.troubles.lock().alarmed, true) {
            tracing::error!(
                reason,
                said,
                "PostgreSQL refuses the rollups until somebody repairs it; nothing is lost, retrying slowly"
            );
        }
    }

    fn fail(&self, fails: &mut bool, reason: &'static str) {
        if !std::mem::replace(fails, true) {
            self.troubles.lock().lanes += 1;
        }
        self.readiness
            .fail(READINESS_CHECK, format!("transactions fail: {reason}"));
    }

    /// What failed in the lane was committed, or is another instance's by now.
    pub(crate) fn well(&self, fails: &mut bool) {
        if !std::mem::replace(fails, false) {
            return;
        }
        let mut troubles = self.troubles.lock();
        troubles.lanes -= 1;
        if troubles.lanes == 0 {
            troubles.alarmed = false;
            self.readiness.pass(READINESS_CHECK);
        }
    }
}
