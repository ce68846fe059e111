//! The two clocks of a device, and how the time of an event is told to the server though one of them jumps.
//!
//! The wall clock of a child's tablet is often wrong and sometimes set while the app runs. The server corrects an event
//! by the difference between the time at which its batch was sent and at which it arrived, which is right only if both
//! times are of the same clock. So each event is stored with the [epoch](Epoch) of the clock that it was made by, a
//! batch has events of one epoch, and it is sent with what *that* clock would read now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A wall clock that moves by more than this against the monotonic one was set: a new epoch begins.
const STEP_MS: i64 = 2_000;

/// Where the time comes from. Tests bring their own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z, as the device believes.
    fn wall_ms(&self) -> i64;

    /// Milliseconds of a clock that nobody sets, and that goes on while the device sleeps: else each sleep looks as if the wall
    /// clock had been set. From where it counts does not matter.
    fn monotonic_ms(&self) -> i64;
}

/// The clocks of this device.
#[derive(Debug, Default)]
pub struct SystemClock(());

impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        // Before 1970: then the clock is wrong by so much that its very number does not matter.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| millis(since.as_millis()))
    }

    fn monotonic_ms(&self) -> i64 {
        millis(since_start().as_millis())
    }
}

/// Time since the device started, its sleep too, which `Instant` leaves out on Linux, Android and Apple's systems.
#[cfg(unix)]
fn since_start() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "android", target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    const CLOCK: ClockId = ClockId::Monotonic;
    // What is not negative is a duration.
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}

/// Time since this was first asked. Windows counts its sleep.
#[cfg(not(unix))]
fn since_start() -> Duration {
    use std::{sync::LazyLock, time::Instant};
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

fn millis(millis: u128) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A time during which the wall clock ran evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Its row in the store; 0 while it has none.
    pub(crate) id: i64,
    /// Wall minus monotonic, which means something in one process only.
    pub(crate) base_ms: i64,
    /// By how much the clock was set, all in all, since the store was made: as far as a running client saw it.
    pub(crate) set_ms: i64,
    /// What has to be added to this clock to have the server's, once an answer has told it.
    pub(crate) offset_ms: Option<i64>,
}

impl Epoch {
    /// The epoch that follows when wall and monotonic clock are `base_ms` apart; nothing where it is the same clock still.
    pub(crate) fn next(&self, base_ms: i64) -> Option<Self> {
        let step = base_ms - self.base_ms;
        let set_ms = self.set_ms + step;
        (step.abs() > STEP_MS).then_some(Self {
            id: 0,
            base_ms,
            set_ms,
            offset_ms: None,
        })
    }
}

/// What the clock of a batch reads at the moment of sending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// This.
    At(i64),
    /// To know it, the server has to tell first how far off the clock is now.
    AskFirst,
}

/// What the clock of `made_in`, in which the newest event of a batch was made at `newest_ms`, would read when the wall
/// clock reads `wall_ms` in `now_in`. `same_run` says whether `made_in` was of this process too.
pub(crate) fn reading(
    wall_ms: i64,
    now_in: &Epoch,
    made_in: &Epoch,
    same_run: bool,
    newest_ms: i64,
) -> Reading {
    let since = match (made_in.offset_ms, now_in.offset_ms) {
        (Some(then), Some(now)) if !same_run => then - now,
        (Some(_), None) if !same_run => return Reading::AskFirst,
        // Between two runs nothing better is known than that nobody set it.
        _ => now_in.set_ms - made_in.set_ms,
    };
    // Nothing is sent before it happened: then the clock was set back.
    Reading::At((wall_ms - since).max(newest_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn epoch(set_ms: i64, offset_ms: Option<i64>) -> Epoch {
        Epoch {
            id: 1,
            base_ms: 0,
            set_ms,
            offset_ms,
        }
    }

    #[test]
    fn a_clock_that_was_set_is_read_as_if_it_had_not_been() {
        let (before, now) = (epoch(HOUR, Some(3)), epoch(11 * HOUR, None));
        for same_run in [true, false] {
            let before = Epoch {
                offset_ms: before.offset_ms.filter(|_| same_run),
                ..before
            };
            assert_eq!(
                reading(20 * HOUR, &now, &before, same_run, 0),
                Reading::At(10 * HOUR)
            );
            assert_eq!(
                reading(20 * HOUR, &now, &now, same_run, 0),
                Reading::At(20 * HOUR)
            );
        }
    }

    #[test]
    fn a_clock_of_an_older_run_is_read_by_what_the_server_said_of_both() {
        // Then it was two days behind, now it is right, and no client saw how that came about.
        let before = epoch(0, Some(48 * HOUR));
        assert_eq!(
            reading(100 * HOUR, &epoch(0, None), &before, false, 0),
            Reading::AskFirst
        );
        let now = epoch(0, Some(0));
        assert_eq!(
            reading(100 * HOUR, &now, &before, false, 0),
            Reading::At(52 * HOUR)
        );
    }

    #[test]
    fn nothing_is_sent_before_it_happened() {
        assert_eq!(
            reading(5, &epoch(0, None), &epoch(0, None), false, 70),
            Reading::At(70)
        );
    }

    #[test]
    fn a_clock_that_drifts_is_the_same_clock() {
        let epoch = Epoch {
            base_ms: 1_000_000,
            ..epoch(5, Some(7))
        };
        assert!(epoch.next(1_002_000).is_none() && epoch.next(998_000).is_none());
        let next = epoch.next(997_999).unwrap();
        assert_eq!(
            (next.id, next.base_ms, next.set_ms, next.offset_ms),
            (0, 997_999, -1_996, None)
        );
    }
}
