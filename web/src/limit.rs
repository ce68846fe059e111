//! Rate limits by sender. A request takes its tokens all or none, and can be charged for more afterwards.

use std::{
    collections::HashMap,
    hash::Hash,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use parking_lot::Mutex;

/// A rate limit as its headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// Tokens that may be used at once after a pause.
    pub limit: u32,
    /// Tokens that may be used now.
    pub remaining: u32,
    /// Until this request would pass.
    pub wait: Duration,
    /// Until the whole limit may be used again.
    pub reset: Duration,
}

impl Throttled {
    /// Writes `Retry-After` and the `RateLimit-` headers, in whole seconds, rounded up.
    pub fn headers(&self, headers: &mut HeaderMap) {
        let name = HeaderName::from_static;
        headers.insert(header::RETRY_AFTER, seconds(self.wait));
        headers.insert(name("ratelimit-limit"), self.limit.into());
        headers.insert(name("ratelimit-remaining"), self.remaining.into());
        headers.insert(name("ratelimit-reset"), seconds(self.reset));
    }
}

/// Whole seconds, rounded up and at least one, as `Retry-After` wants them.
#[must_use]
pub fn seconds(time: Duration) -> HeaderValue {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    HeaderValue::from(whole.max(1))
}

/// How much each sender, known as a `K`, has sent recently. A sender may also owe tokens: [`Self::charge`].
#[derive(Debug)]
pub struct Limiter<K: Clone + Eq + Hash> {
    senders: RateLimiter<Ask<K>, Buckets<K>, MonotonicClock, NoOpMiddleware<Instant>>,
    buckets: Buckets<K>,
    rate: NonZeroU32,
    burst: NonZeroU32,
    /// How long a token takes to come back, nanoseconds.
    interval: u64,
}

/// For each sender the time when its bucket is full again, as governor computes it: nanoseconds since governor began.
#[derive(Debug)]
struct Buckets<K>(Arc<Mutex<HashMap<K, u64, RandomState>>>);

/// What is asked of a sender's bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ask<K> {
    sender: K,
    /// Tokens are taken; otherwise this only looks whether they are there.
    takes: bool,
}

impl<K: Clone + Eq + Hash> StateStore for Buckets<K> {
    type Key = Ask<K>;

    fn measure_and_replace<T, F, E>(&self, ask: &Ask<K>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut buckets = self.0.lock();
        let full_at = buckets.get(&ask.sender).copied().map(Nanos::from);
        let (outcome, full_at) = decide(full_at)?;
        if ask.takes {
            buckets.insert(ask.sender.clone(), full_at.into());
        }
        Ok(outcome)
    }
}

impl<K: Clone + Eq + Hash> ShrinkableKeyedStateStore<Ask<K>> for Buckets<K> {
    fn retain_recent(&self, now: Nanos) {
        self.0.lock().retain(|_, full_at| *full_at > u64::from(now));
    }

    fn shrink_to_fit(&self) {
        self.0.lock().shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// `rate` tokens a second, `burst` at once after a pause.
    #[must_use]
    pub fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(rate).allow_burst(burst);
        let buckets = Arc::default();
        Self {
            senders: RateLimiter::new(quota, Buckets(Arc::clone(&buckets)), MonotonicClock),
            buckets: Buckets(buckets),
            rate,
            burst,
            interval: Nanos::from(quota.replenish_interval()).as_u64(),
        }
    }

    /// Takes so many tokens, or none.
    ///
    /// # Errors
    /// They are not there; says when they will be.
    pub fn take(&self, sender: &K, tokens: usize) -> Result<(), Throttled> {
        self.ask(sender, tokens, true)
    }

    /// Whether there is a token: who has none, or owes some, cannot pay for any request.
    ///
    /// # Errors
    /// There is none; says when there will be.
    pub fn check(&self, sender: &K) -> Result<(), Throttled> {
        self.ask(sender, 1, false)
    }

    /// Takes this many tokens, even if they are not there. Those that are not there must come in before this sender's
    /// next request passes.
    pub fn charge(&self, sender: &K, tokens: usize) {
        let mut left = u32::try_from(tokens).unwrap_or(u32::MAX);
        while let Some(some) = NonZeroU32::new(left.min(self.burst.get())) {
            if self.take(sender, some.get() as usize).is_err() {
                // The sender has fewer tokens than that. So the time when its bucket is full is in the future, and what
                // it owes moves that time on.
                let mut buckets = self.buckets.0.lock();
                let full_at = buckets.entry(sender.clone()).or_default();
                *full_at = full_at.saturating_add(u64::from(left).saturating_mul(self.interval));
                return;
            }
            left -= some.get();
        }
    }

    /// Forgets senders that have not sent for so long that their bucket is full.
    pub fn tidy(&self) {
        self.senders.retain_recent();
        self.senders.shrink_to_fit();
    }

    fn ask(&self, sender: &K, tokens: usize, takes: bool) -> Result<(), Throttled> {
        let Some(wanted) = u32::try_from(tokens).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let sender = sender.clone();
        let wait = match self.senders.check_key_n(&Ask { sender, takes }, wanted) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => until.wait_time_from(MonotonicClock.now()),
            // This cannot happen with a valid configuration: the burst covers the largest request.
            Err(_) => Duration::MAX,
        };
        // The tokens that are missing come in at `rate`. The others are there already, or the sender owes so many that
        // none are.
        let missing = tokens_in(wait, self.rate);
        let used = f64::from(self.burst.get()) + f64::from(missing) - f64::from(wanted.get());
        Err(Throttled {
            limit: self.burst.get(),
            remaining: wanted.get().saturating_sub(missing),
            wait,
            reset: Duration::from_secs_f64(used / f64::from(self.rate.get())),
        })
    }
}

/// Tokens that come in during a time, rounded up.
fn tokens_in(time: Duration, rate: NonZeroU32) -> u32 {
    // A float of a u32 and seconds is exact enough for a header; `as` saturates.
    (time.as_secs_f64() * f64::from(rate.get())).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    #[test]
    fn a_request_passes_whole_or_not_at_all_and_keys_do_not_share() {
        let limiter = Limiter::new(number(1), number(100));
        let (one, other) = ([1; 32], [2; 32]);
        assert_eq!(limiter.take(&one, 60), Ok(()));
        let refused = limiter.take(&one, 60).unwrap_err();
        assert_eq!((refused.limit, refused.remaining), (100, 40));
        assert!(refused.wait <= Duration::from_secs(20), "{refused:?}");
        assert_eq!(refused.reset, Duration::from_secs(60));
        assert_eq!(
            limiter.take(&one, 40),
            Ok(()),
            "nothing of the refused one was taken"
        );
        assert_eq!(limiter.take(&one, 1).unwrap_err().remaining, 0);
        assert_eq!(limiter.take(&one, 0), Ok(()));
        assert_eq!(limiter.take(&other, 100), Ok(()));
    }

    #[test]
    fn more_than_the_burst_never_passes() {
        let limiter = Limiter::new(number(1), number(10));
        let refused = limiter.take(&[0; 32], 11).unwrap_err();
        assert_eq!((refused.remaining, refused.wait), (0, Duration::MAX));
    }

    #[test]
    fn who_owes_pays_before_anything_passes() {
        let limiter = Limiter::new(number(2), number(10));
        let (one, other) = ([1; 32], [2; 32]);
        assert_eq!(limiter.check(&one), Ok(()));
        limiter.charge(&one, 0);
        limiter.charge(&one, 9);
        assert_eq!(limiter.check(&one), Ok(()), "one is left");
        limiter.charge(&one, 101);
        let refused = limiter.check(&one).unwrap_err();
        assert_eq!(limiter.take(&one, 1).unwrap_err().remaining, 0);
        // 100 are owed, and one is wanted: two come in a second.
        let (least, most) = (Duration::from_secs(49), Duration::from_millis(50_500));
        assert!((least..=most).contains(&refused.wait), "{refused:?}");
        assert_eq!(refused.reset, Duration::from_secs(55));
        limiter.tidy();
        assert!(limiter.check(&one).is_err(), "a debt is not forgotten");
        assert_eq!(limiter.take(&other, 10), Ok(()));
    }

    #[test]
    fn what_was_used_comes_back_and_is_forgotten() {
        let limiter = Limiter::new(number(1_000_000_000), number(10));
        limiter.charge(&1, 10);
        // Ten tokens take a few nanoseconds.
        while limiter.check(&1).is_err() {}
        while !limiter.buckets.0.lock().is_empty() {
            limiter.tidy();
        }
    }
}
