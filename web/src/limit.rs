//! Rate limits by sender: so many tokens a request, all of them or none.

use std::{
    hash::Hash,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter, clock::Clock as _, clock::MonotonicClock, middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

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

/// What each sender, known as a `K`, has sent of late.
#[derive(Debug)]
pub struct Limiter<K: Clone + Eq + Hash> {
    senders: RateLimiter<K, DefaultKeyedStateStore<K>, MonotonicClock, NoOpMiddleware<Instant>>,
    rate: NonZeroU32,
    burst: NonZeroU32,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// `rate` tokens a second, `burst` at once after a pause.
    #[must_use]
    pub fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            senders: RateLimiter::new(quota, DefaultKeyedStateStore::default(), MonotonicClock),
            rate,
            burst,
        }
    }

    /// Takes so many tokens, or none.
    ///
    /// # Errors
    /// They are not there; says when they will be.
    pub fn take(&self, sender: &K, tokens: usize) -> Result<(), Throttled> {
        let Some(wanted) = u32::try_from(tokens).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let wait = match self.senders.check_key_n(sender, wanted) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => until.wait_time_from(MonotonicClock.now()),
            // Not with a valid configuration: the burst covers the largest request.
            Err(_) => Duration::MAX,
        };
        // What is missing now trickles in at `rate`; the rest of the request is there already.
        let missing = tokens_in(wait, self.rate);
        let remaining = wanted.get().saturating_sub(missing);
        let used = self.burst.get().saturating_sub(remaining);
        Err(Throttled {
            limit: self.burst.get(),
            remaining,
            wait,
            reset: Duration::from_secs_f64(f64::from(used) / f64::from(self.rate.get())),
        })
    }

    /// Forgets senders that have not sent for so long that their bucket is full.
    pub fn tidy(&self) {
        self.senders.retain_recent();
        self.senders.shrink_to_fit();
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
        assert_eq!(refused.remaining, 0);
    }
}
