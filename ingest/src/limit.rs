//! The rate limit: a token an event, per API key or family, a request all or nothing.

use std::{
    hash::Hash,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter, clock::Clock as _, clock::MonotonicClock, middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use crate::problem::Throttled;

/// What each sender, known as a `K`, has sent of late.
pub(crate) struct Limiter<K: Clone + Eq + Hash> {
    senders: RateLimiter<K, DefaultKeyedStateStore<K>, MonotonicClock, NoOpMiddleware<Instant>>,
    rate: NonZeroU32,
    burst: NonZeroU32,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// `rate` events a second, `burst` at once after a pause.
    pub(crate) fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            senders: RateLimiter::new(quota, DefaultKeyedStateStore::default(), MonotonicClock),
            rate,
            burst,
        }
    }

    /// Takes a token for each of `events`, or none.
    pub(crate) fn take(&self, sender: &K, events: usize) -> Result<(), Throttled> {
        let Some(events) = u32::try_from(events).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let wait = match self.senders.check_key_n(sender, events) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => until.wait_time_from(MonotonicClock.now()),
            // Not with a valid configuration: the burst covers the largest request.
            Err(_) => Duration::MAX,
        };
        // What is missing now trickles in at `rate`; the rest of the request is there already.
        let missing = tokens(wait, self.rate);
        let remaining = events.get().saturating_sub(missing);
        let used = self.burst.get().saturating_sub(remaining);
        Err(Throttled {
            limit: self.burst.get(),
            remaining,
            wait,
            reset: Duration::from_secs_f64(f64::from(used) / f64::from(self.rate.get())),
        })
    }

    /// Forgets senders that have not sent for so long that their bucket is full.
    pub(crate) fn tidy(&self) {
        self.senders.retain_recent();
        self.senders.shrink_to_fit();
    }
}

/// Tokens that come in during a time, rounded up.
fn tokens(time: Duration, rate: NonZeroU32) -> u32 {
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
