//! Streak rule 1, day by day as docs/contract.md, "streaks", words it.
//!
//! The stored row and `streak_as_of` are computed in the database, by the function `streak_of`,
//! under the row's lock; it walks runs of days instead of days. This is the rule it is tested
//! against, and what a recount uses.

use chrono::NaiveDate;

/// The rule this module and `streak_of` implement; stored beside each streak.
pub const RULE_VERSION: i32 = 1;

/// A streak is rewarded with a freeze each time it reaches a multiple of this.
const FREEZE_EVERY: i64 = 7;
/// More freezes than this are not held.
const MAX_FREEZES: i64 = 2;

/// A child's streak as of its last active date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    /// Active days of the running streak; days bridged by a freeze do not count.
    pub current: i64,
    /// The most `current` ever was.
    pub longest: i64,
    /// The first day of the running streak.
    pub started_on: NaiveDate,
    /// The last active day.
    pub last_active: NaiveDate,
    /// 0..=2.
    pub freezes: i64,
}

/// The streak over a set of active days, given in order; `None` without any.
pub fn streak(days: impl IntoIterator<Item = NaiveDate>) -> Option<Streak> {
    days.into_iter().fold(None, |before: Option<Streak>, day| {
        let mut streak = before.unwrap_or(Streak {
            current: 0,
            longest: 0,
            started_on: day,
            last_active: day,
            freezes: 0,
        });
        let missed = if before.is_some() {
            (day - streak.last_active).num_days() - 1
        } else {
            0
        };
        if missed <= streak.freezes {
            streak.freezes -= missed;
            streak.current += 1;
        } else {
            streak.current = 1;
            streak.started_on = day;
        }
        if streak.current % FREEZE_EVERY == 0 {
            streak.freezes = (streak.freezes + 1).min(MAX_FREEZES);
        }
        streak.longest = streak.longest.max(streak.current);
        streak.last_active = day;
        Some(streak)
    })
}

/// What a parent sees on `today`: the streak over the active days up to it, while the days missed
/// up to yesterday can still be bridged by the freezes, else 0.
pub fn as_of(days: impl IntoIterator<Item = NaiveDate>, today: NaiveDate) -> i64 {
    streak(days.into_iter().filter(|day| *day <= today))
        .filter(|streak| (today - streak.last_active).num_days() - 1 <= streak.freezes)
        .map_or(0, |streak| streak.current)
}
