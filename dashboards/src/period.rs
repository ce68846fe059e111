//! Days, weeks and months.

use chrono::{Datelike as _, Days, Months, NaiveDate};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::date_range::DateRange;

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Period {
    #[default]
    Daily,
    Weekly,
    Monthly,
}

impl Period {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// The first day of the period that `day` is in.
    fn start(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Daily => day,
            Self::Weekly => monday(day),
            Self::Monthly => day.with_day(1).unwrap_or(day),
        }
    }

    /// The first day of the period after the one that begins on `start`.
    fn after(self, start: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Daily => start.succ_opt(),
            Self::Weekly => start.checked_add_days(Days::new(7)),
            Self::Monthly => start.checked_add_months(Months::new(1)),
        }
    }

    /// Every period that one of the days is in, by its first and its last day.
    pub(crate) fn of(self, dates: DateRange) -> Vec<(NaiveDate, NaiveDate)> {
        let next = |start: &NaiveDate| self.after(*start);
        std::iter::successors(Some(self.start(dates.from)), next)
            .take_while(|start| *start <= dates.to)
            .map(|start| {
                let last = self.after(start).and_then(|next| next.pred_opt());
                (start, last.unwrap_or(start))
            })
            .collect()
    }
}

/// Of the week that `day` is in.
pub(crate) fn monday(day: NaiveDate) -> NaiveDate {
    let since = Days::new(day.weekday().num_days_from_monday().into());
    day.checked_sub_days(since).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_whole_and_all_that_the_days_are_in() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let dates = DateRange {
            from: day("2026-02-27"),
            to: day("2026-03-02"),
        };
        let of = |period: Period| -> Vec<String> {
            let days = period.of(dates).into_iter();
            days.map(|(first, last)| format!("{first} {last}"))
                .collect()
        };
        assert_eq!(of(Period::Daily).len(), 4);
        assert_eq!(of(Period::Daily)[1], "2026-02-28 2026-02-28");
        assert_eq!(
            of(Period::Weekly),
            ["2026-02-23 2026-03-01", "2026-03-02 2026-03-08"]
        );
        assert_eq!(
            of(Period::Monthly),
            ["2026-02-01 2026-02-28", "2026-03-01 2026-03-31"]
        );
    }
}
