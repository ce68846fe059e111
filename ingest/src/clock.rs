//! What time it is.

use std::time::SystemTime;

/// This machine's clock, Unix milliseconds.
pub(crate) fn unix_millis_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
