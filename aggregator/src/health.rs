//! Whether the transactions of all lanes succeed, for readiness and for the log. The log gets a line for each change,
//! not for each attempt.

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
    /// An error was logged, so that somebody is called.
    alarmed: bool,
}

impl Health {
    /// Begins without a lane that fails.
    pub(crate) fn new(readiness: Readiness) -> Self {
        readiness.pass(READINESS_CHECK);
        Self {
            readiness,
            troubles: Mutex::default(),
        }
    }

    /// A transaction of a lane failed for a reason that passes by itself, and is tried again. `fails` says whether the
    /// lane failed before, and is set.
    pub(crate) fn passing(&self, fails: &mut bool, reason: &'static str) {
        self.fail(fails, reason);
        tracing::warn!(reason, "a batch could not be committed, trying again");
    }

    /// The same for a reason that does not pass by waiting. `said` is PostgreSQL's code, and as much of its text as may
    /// be logged.
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

    /// The batch of the lane was committed, or another instance has it by now.
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
