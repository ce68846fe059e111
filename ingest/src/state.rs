//! What every request shares.

use std::sync::Arc;

use rivulet_auditlog::Groups;
use rivulet_registry::Registry;
use rivulet_tokens::Verifier;
use rivulet_web::Limiter;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::metrics::OVER_SHARE;
use crate::{
    Config, metrics::Metrics, problem::Problem, producer::Producer, sender::SenderId,
    shares::Shares, spill::Spill, tail::Tails, turns::Turns,
};

pub(crate) const NOTHING_KEPT: Problem = Problem::NotFound(
    "this server keeps nothing (--memory), so there is no registry to read or to change: its families are those of its file",
);

/// What every request shares.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    /// `None` where nothing is kept.
    pub(crate) stores: Option<Stores>,
    pub(crate) tokens: Option<Verifier>,
    pub(crate) limiter: Limiter<SenderId>,
    pub(crate) family_limiter: Limiter<SenderId>,
    /// Bytes of heads, bodies, decoders and answers.
    pub(crate) bytes: Arc<Shares>,
    /// Requests in progress.
    pub(crate) requests: Arc<Shares>,
    /// Records that wait for Kafka.
    pub(crate) records: Arc<Shares>,
    pub(crate) turns: Arc<Turns>,
    /// Requests for the configuration that may ask PostgreSQL at the same time.
    pub(crate) config_turns: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) audit: Arc<Groups>,
    /// Whoever watches what arrives.
    pub(crate) tails: Arc<Tails>,
    /// Ends their streams.
    pub(crate) stopping: CancellationToken,
}

/// Where accepted events are made durable, and families and keys are kept.
pub(crate) struct Stores {
    pub(crate) producer: Arc<Producer>,
    pub(crate) spill: Option<Arc<Spill>>,
    pub(crate) pool: PgPool,
}

impl App {
    /// For what needs a database.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn pool(&self) -> Result<&PgPool, Problem> {
        let stores = self.stores.as_ref().ok_or(NOTHING_KEPT)?;
        Ok(&stores.pool)
    }

    /// The refusal of a request whose sender cannot be found out now.
    pub(crate) fn cut_off(&self) -> Problem {
        Problem::Unavailable("API keys cannot be checked now", self.config.retry_after)
    }

    /// The refusal of a request that would take more than its sender's share. `of` names what there is not enough of.
    pub(crate) fn over_share(&self, of: &'static str) -> Problem {
        self.count_over_share(of);
        Problem::Unavailable(
            "so much of this API key or token is being worked on that there would be no room for others; \
             send the same request again",
            self.config.retry_after,
        )
    }

    pub(crate) fn count_over_share(&self, of: &'static str) {
        OVER_SHARE.with([of]).increment(1);
    }
}
