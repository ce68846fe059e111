//! Times on the command line.

use chrono::{DateTime, Datelike as _, Utc};

/// A time that every store has: PostgreSQL knows none before 4714 BC, and to Kafka a negative one is no time
/// at all.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time: DateTime<Utc> = text
        .parse()
        .map_err(|error| format!("{error}; write it as 2026-03-02T22:00:00Z"))?;
    match time.year() {
        1970..=9999 => Ok(time),
        _ => Err("must be from 1970 to 9999".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_that_every_store_has() {
        for good in [
            "1970-01-01T00:00:00Z",
            "2026-03-02T23:00:00+01:00",
            "9999-12-31T23:59:59.999Z",
        ] {
            time(good).unwrap();
        }
        for bad in [
            "",
            "2026-03-02",
            "1969-12-31T23:59:59Z",
            "-5000-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "+262142-12-31T23:59:59Z",
            "+5874898-01-01T00:00:00Z",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
