//! The time zones' rules: where they are, and keeping up with them.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use rivulet_zones::{Release, Rules, in_use};

use crate::metrics::TZDB_INFO;

/// How often it is looked whether the rules have changed. A change is in force after two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the rules are, besides the system's zoneinfo and the copy in this program.
#[derive(Args)]
pub(crate) struct ZoneFlags {
    /// A directory of compiled time zones, laid out as /usr/share/zoneinfo. The newest rules of this one, the
    /// system's and those in this program are used, and read again within seconds when they change.
    #[arg(long, env = "RIVULET_TZDB_DIR", value_name = "DIR", global = true)]
    tzdb_dir: Option<PathBuf>,
}

impl ZoneFlags {
    /// Puts the newest rules in force.
    pub(crate) fn load(&self) -> Result<Rules, rivulet_zones::Error> {
        Rules::load(self.tzdb_dir.as_deref())
    }
}

/// Reads the rules again whenever they change, and tells metrics which they are.
pub(crate) async fn keep_current(mut rules: Rules) -> Infallible {
    let mut published = in_use();
    let mut failing = false;
    loop {
        publish(&mut published);
        tokio::time::sleep(LOOK_EVERY).await;
        let look = tokio::task::spawn_blocking(move || {
            let outcome = rules.refresh();
            (rules, outcome)
        });
        let outcome;
        (rules, outcome) = match look.await {
            Ok(looked) => looked,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        match &outcome {
            Ok(false) => {}
            Ok(true) => tracing::info!("the time zones' rules were read again: {}", in_use()),
            Err(error) if !failing => {
                tracing::warn!(%error, "the time zones' rules stay as they were");
            }
            Err(_) => {}
        }
        failing = outcome.is_err();
    }
}

fn publish(published: &mut Arc<Release>) {
    let tell = |release: &Release, value: f64| {
        TZDB_INFO
            .with([release.version(), release.source.as_str()].map(str::to_owned))
            .set(value);
    };
    let now = in_use();
    tell(published, 0.0);
    tell(&now, 1.0);
    *published = now;
}
