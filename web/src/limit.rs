//! Rate limits by sender: so many tokens a request, all of them or none, and what it cost beyond them.

use std::{
    collections::HashMap,
    hash::Hash,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use ahash::RandomState;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
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

/// Time in units in which a token takes a whole number of them to come back, whatever the rate:
/// nanoseconds times tokens a second.
type Ticks = u128;

/// How long a token takes to come back.
const TOKEN: Ticks = 1_000_000_000;

/// What each sender, known as a `K`, has sent of late. Of each is remembered when its bucket is full again
/// (the generic cell rate algorithm), so that a sender may also owe tokens: [`Self::charge`].
#[derive(Debug)]
pub struct Limiter<K> {
    full_at: Mutex<HashMap<K, Ticks, RandomState>>,
    began: Instant,
    rate: NonZeroU32,
    burst: NonZeroU32,
}

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// `rate` tokens a second, `burst` at once after a pause.
    #[must_use]
    pub fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            full_at: Mutex::default(),
            began: Instant::now(),
            rate,
            burst,
        }
    }

    /// Takes so many tokens, or none.
    ///
    /// # Errors
    /// They are not there; says when they will be.
    pub fn take(&self, sender: &K, tokens: usize) -> Result<(), Throttled> {
        self.at(sender, tokens, true)
    }

    /// Whether there is a token: who has none, or owes some, cannot pay for any request.
    ///
    /// # Errors
    /// There is none; says when there will be.
    pub fn check(&self, sender: &K) -> Result<(), Throttled> {
        self.at(sender, 1, false)
    }

    /// Takes so many tokens, be they there or not. Those that are not have to come in before this sender's
    /// next request passes.
    pub fn charge(&self, sender: &K, tokens: usize) {
        if tokens > 0 {
            let now = self.now();
            let mut full_at = self.full_at.lock();
            let full_at = full_at.entry(sender.clone()).or_insert(now);
            *full_at = now.max(*full_at) + tokens as Ticks * TOKEN;
        }
    }

    /// Forgets senders that have not sent for so long that their bucket is full.
    pub fn tidy(&self) {
        let now = self.now();
        let mut full_at = self.full_at.lock();
        full_at.retain(|_, full_at| *full_at > now);
        full_at.shrink_to_fit();
    }

    fn at(&self, sender: &K, tokens: usize, take: bool) -> Result<(), Throttled> {
        let now = self.now();
        let (wanted, burst) = (tokens as Ticks * TOKEN, self.ticks_of_burst());
        let mut full_at = self.full_at.lock();
        let used = full_at
            .get(sender)
            .map_or(0, |full_at| full_at.saturating_sub(now));
        if used + wanted > burst && tokens > 0 {
            return Err(self.throttled(used, wanted));
        }
        if take && tokens > 0 {
            full_at.insert(sender.clone(), now + used + wanted);
        }
        Ok(())
    }

    /// What is told of a bucket of which so much is used, to who wants so much more.
    fn throttled(&self, used: Ticks, wanted: Ticks) -> Throttled {
        let burst = self.ticks_of_burst();
        let rate = Ticks::from(self.rate.get());
        let time = |ticks: Ticks| {
            let nanos = u64::try_from(ticks.div_ceil(rate)).unwrap_or(u64::MAX);
            Duration::from_nanos(nanos)
        };
        let whole = used.div_ceil(TOKEN);
        Throttled {
            limit: self.burst.get(),
            remaining: u32::try_from(whole).map_or(0, |used| self.burst.get().saturating_sub(used)),
            // Not with a valid configuration: the burst covers the largest request.
            wait: match wanted > burst {
                true => Duration::MAX,
                false => time(used + wanted - burst),
            },
            reset: time(whole * TOKEN),
        }
    }

    fn ticks_of_burst(&self) -> Ticks {
        Ticks::from(self.burst.get()) * TOKEN
    }

    fn now(&self) -> Ticks {
        self.began.elapsed().as_nanos() * Ticks::from(self.rate.get())
    }
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
        assert_eq!((refused.remaining, refused.wait), (10, Duration::MAX));
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
        let limiter = Limiter::new(number(u32::MAX), number(10));
        limiter.charge(&1, 10);
        // Ten tokens take a few nanoseconds.
        while limiter.check(&1).is_err() {}
        while !limiter.full_at.lock().is_empty() {
            limiter.tidy();
        }
    }
}
