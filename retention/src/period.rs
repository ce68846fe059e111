//! A length of time in whole days.

use std::{fmt, str::FromStr};

/// The longest that anything may be kept, days.
const LONGEST: u32 = 10 * 365;

/// How long something is kept: 1 to 3 650 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u32);

impl Period {
    /// In days.
    #[must_use]
    pub const fn days(self) -> u32 {
        self.0
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let said = text.trim().to_ascii_lowercase();
        if [
            "for ever",
            "forever",
            "never",
            "unlimited",
            "indefinitely",
            "infinite",
            "always",
        ]
        .contains(&&*said)
        {
            return Err(format!(
                "\"{text}\" is refused: nothing about a child may be kept without end (16 CFR 312.10). Give the time after \
                 which it is deleted, as \"3 years\""
            ));
        }
        let form = || {
            format!(
                "\"{text}\" is no length of time: write a whole number of days, months or years, as \"45 days\", \
                 \"25 months\" or \"3 years\""
            )
        };
        let (number, unit) = said.split_once(char::is_whitespace).ok_or_else(form)?;
        let unit = match unit.trim() {
            "day" | "days" => 1,
            "month" | "months" => 30,
            "year" | "years" => 365,
            _ => return Err(form()),
        };
        if let Some(digits) = number.strip_prefix('-')
            && digits.parse::<u64>().is_ok()
        {
            return Err(format!(
                "\"{text}\" is negative: write how long it is kept, as \"45 days\""
            ));
        }
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(form());
        }
        // Digits that are no u64 are too many.
        let days = number
            .parse::<u64>()
            .unwrap_or(u64::MAX)
            .saturating_mul(unit);
        match u32::try_from(days) {
            Ok(0) => Err(format!(
                "\"{text}\" would delete it as it comes: the shortest is \"1 day\""
            )),
            Ok(days @ 1..=LONGEST) => Ok(Self(days)),
            _ => Err(format!(
                "\"{text}\" is longer than 10 years, which is as good as for ever: the longest is \"10 years\""
            )),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            days if days % 365 == 0 => (days / 365, "year"),
            days => (days, "day"),
        };
        write!(f, "{number} {unit}{}", if number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_read() {
        for (text, days, said) in [
            ("1 day", 1, "1 day"),
            (" 45  days ", 45, "45 days"),
            ("25 months", 750, "750 days"),
            ("3 years", 1_095, "3 years"),
            ("1 Year", 365, "1 year"),
            ("10 years", 3_650, "10 years"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(
                (period.days(), &*period.to_string()),
                (days, said),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused_with_what_to_do() {
        for (text, says) in [
            ("for ever", "312.10"),
            ("Forever", "312.10"),
            ("unlimited", "312.10"),
            ("0 days", "the shortest is"),
            ("-3 years", "negative"),
            ("11 years", "the longest is"),
            ("100000000000000000000000 days", "the longest is"),
            ("9223372036854775807 years", "the longest is"),
            ("", "whole number"),
            ("3", "whole number"),
            ("years", "whole number"),
            ("3 weeks", "whole number"),
            ("1.5 years", "whole number"),
            ("+3 years", "whole number"),
            ("three years", "whole number"),
        ] {
            let error = text.parse::<Period>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
