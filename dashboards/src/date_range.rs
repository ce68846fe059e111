//! Which days are asked for.

use chrono::{Datelike as _, Days, NaiveDate};
use serde::{Deserialize as _, Deserializer, de::Error as _};

use crate::problem::Problem;

/// Days that one request may ask for: a leap year.
pub(crate) const MAX_DAYS: i64 = 366;

/// How many days are answered when the request names no first day.
const DEFAULT_DAYS: u64 = 30;

/// A day that is asked for: one that can be written as `2026-05-04`, and so is of a year that PostgreSQL has.
pub(crate) fn day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NaiveDate>, D::Error> {
    let day = NaiveDate::deserialize(from)?;
    match day.year() {
        1..=9999 => Ok(Some(day)),
        _ => Err(D::Error::custom("a day is of a year from 0001 to 9999")),
    }
}

/// The days from `from` to `to`. Both belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DateRange {
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
}

impl DateRange {
    /// The days that were asked for. Without `to` the last one is `today`, the child's local date. Without `from`
    /// there are thirty days.
    pub(crate) fn of(
        from: Option<NaiveDate>,
        to: Option<NaiveDate>,
        today: NaiveDate,
    ) -> Result<Self, Problem> {
        let to = to.unwrap_or(today);
        let usual = to
            .checked_sub_days(Days::new(DEFAULT_DAYS - 1))
            .unwrap_or(to);
        let from = from.unwrap_or(usual);
        if from > to {
            return Err(Problem::InvalidParameter("`from` is after `to`".into()));
        }
        if (to - from).num_days() >= MAX_DAYS {
            let why = format!("{MAX_DAYS} days at most: ask for the others in another request");
            return Err(Problem::InvalidParameter(why.into()));
        }
        Ok(Self { from, to })
    }

    /// The days of it that come after `day`. It is empty when its `from` is after its `to`.
    pub(crate) fn after(self, day: Option<NaiveDate>) -> Self {
        let next = day.map(|day| day.succ_opt().unwrap_or(day));
        let from = next.map_or(self.from, |next| next.max(self.from));
        Self { from, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_ends_and_is_bounded() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let dates = |from: Option<&str>, to: Option<&str>| {
            DateRange::of(from.map(day), to.map(day), day("2026-05-31"))
        };
        let usual = dates(None, None).unwrap();
        assert_eq!(
            (usual.from, usual.to),
            (day("2026-05-02"), day("2026-05-31"))
        );
        let early = dates(None, Some("2026-01-30")).unwrap();
        assert_eq!(early.from, day("2026-01-01"));
        assert!(dates(Some("2026-05-31"), None).is_ok());
        assert!(dates(Some("2024-01-01"), Some("2024-12-31")).is_ok());
        assert!(dates(Some("2024-01-01"), Some("2025-01-01")).is_err());
        assert!(dates(Some("2026-06-01"), None).is_err());

        let after = |day: &str| usual.after(Some(day.parse().unwrap()));
        assert_eq!(usual.after(None), usual);
        assert_eq!(after("2026-01-01"), usual);
        assert_eq!(after("2026-05-02").from, day("2026-05-03"));
        assert_eq!(after("2026-05-31").from, day("2026-06-01"));
    }
}
