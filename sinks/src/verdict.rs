//! What an error of ClickHouse means for the rows that met it.

use clickhouse::error::Error;

use crate::health::Trouble;

/// What to do about a failed insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send the same bytes again.
    Retry(Trouble),
    /// Some row among these is to blame: ClickHouse's error code.
    Poison(u32),
}

/// Judges an error; what is not known is retried, because retrying loses nothing.
pub(crate) fn judge(error: &Error) -> Verdict {
    use Trouble::{Lasting, Passing};
    let trouble = match error {
        Error::TimedOut => Passing("timeout"),
        Error::InvalidParams(_) | Error::Unsupported(_) | Error::Compression(_) => {
            Lasting("client")
        }
        Error::BadResponse(_) => match code(error) {
            Some(159 | 160) => Passing("timeout"),
            Some(241 | 173) => Passing("memory"),
            Some(252) => Passing("too_many_parts"),
            Some(202) => Passing("too_many_queries"),
            Some(242 | 243) => Passing("storage"),
            Some(60 | 81) => Lasting("missing_table"),
            Some(192..=194 | 497 | 516) => Lasting("login"),
            Some(16 | 20 | 47 | 50 | 62 | 73 | 115 | 164) => Lasting("schema"),
            Some(code) if is_data(code) => return Verdict::Poison(code),
            _ => Passing("server"),
        },
        _ => Passing("network"),
    };
    Verdict::Retry(trouble)
}

/// Codes that speak of the values sent: parsing, ranges, sizes, constraints.
fn is_data(code: u32) -> bool {
    matches!(
        code,
        6 | 25
            ..=27 | 32 | 33 | 38 | 41 | 53 | 69 | 70 | 72 | 117 | 128 | 131 | 321 | 349 | 407 | 469
    )
}

/// The number in ClickHouse's `Code: 252. DB::Exception: …`.
pub(crate) fn code(error: &Error) -> Option<u32> {
    let Error::BadResponse(text) = error else {
        return None;
    };
    let digits = text.split_once("Code: ")?.1;
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> Verdict {
        judge(&Error::BadResponse(text.to_owned()))
    }

    #[test]
    fn errors_are_told_apart() {
        use Trouble::{Lasting, Passing};
        use Verdict::{Poison, Retry};
        let cases = [
            (
                "Code: 252. DB::Exception: Too many parts (300)",
                Retry(Passing("too_many_parts")),
            ),
            (
                "Code: 241. DB::Exception: Memory limit",
                Retry(Passing("memory")),
            ),
            (
                "Code: 159. DB::Exception: Timeout exceeded",
                Retry(Passing("timeout")),
            ),
            (
                "Code: 60. DB::Exception: Table does not exist",
                Retry(Lasting("missing_table")),
            ),
            (
                "Code: 516. DB::Exception: Authentication failed",
                Retry(Lasting("login")),
            ),
            ("Code: 469. DB::Exception: Constraint", Poison(469)),
            ("Code: 33. DB::Exception: Cannot read all data", Poison(33)),
            (
                "Code: 99999. DB::Exception: new in a later version",
                Retry(Passing("server")),
            ),
            ("Code: 252", Retry(Passing("too_many_parts"))),
            ("502 Bad Gateway", Retry(Passing("server"))),
        ];
        for (text, verdict) in cases {
            assert_eq!(response(text), verdict, "{text}");
        }
        assert_eq!(judge(&Error::TimedOut), Retry(Passing("timeout")));
        assert_eq!(
            judge(&Error::Network("reset".into())),
            Retry(Passing("network"))
        );
    }
}
