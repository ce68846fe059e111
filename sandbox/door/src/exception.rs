//! A ClickHouse error, as its HTTP interface tells it.

use std::io;

use axum::http::StatusCode;

/// An error with ClickHouse's code and text: `Code: 60. DB::Exception: ... (UNKNOWN_TABLE)`.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Exception {
    pub(crate) code: u32,
    text: String,
}

impl Exception {
    /// One of the door's own, under the code and name that a server would use.
    pub(crate) fn new(code: u32, name: &str, message: &str) -> Self {
        Self {
            code,
            text: format!("Code: {code}. DB::Exception: {message}. ({name})"),
        }
    }

    /// One of the engine's. It sometimes wraps an error in itself, prefix, version and all.
    pub(crate) fn from_engine(text: &str) -> Self {
        let mut text = text.trim();
        let mut repeats = 0;
        while let Some(inner) = after_prefix(text).filter(|inner| after_prefix(inner).is_some()) {
            (text, repeats) = (inner, repeats + 1);
        }
        let mut text = without_versions(text);
        for _ in 0..repeats {
            text.truncate(text.rfind(". (").unwrap_or(text.len()));
        }
        match code(&text) {
            Some(code) => Self { code, text },
            None => Self::new(1001, "STD_EXCEPTION", &text),
        }
    }

    /// The text of the answer.
    pub(crate) fn text(&self, version: &str) -> String {
        // Clients take `))\n` for the end of an exception.
        format!("{} (version {version} (development door))\n", self.text)
    }

    /// ClickHouse's `exceptionCodeToHTTPStatus`.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            // REQUIRED_PASSWORD; UNKNOWN_USER, WRONG_PASSWORD, AUTHENTICATION_FAILED
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 516 => StatusCode::FORBIDDEN,
            // CANNOT_PARSE_* (text, escape sequence, quoted string, input assertion, date, time,
            // number), TYPE_MISMATCH, SYNTAX_ERROR, INCORRECT_DATA, TOO_DEEP_AST, TOO_BIG_AST, ...
            6 | 25..=27 | 38 | 41 | 53 | 62 | 72 | 117 | 167 | 168 | 223 | 441 | 675 | 676 => {
                StatusCode::BAD_REQUEST
            }
            // UNKNOWN_FUNCTION, _IDENTIFIER, _TYPE, _STORAGE, _TABLE, _AGGREGATE_FUNCTION, _FORMAT,
            // _TYPE_OF_QUERY, _DATABASE, _SETTING, _DATABASE_ENGINE, SESSION_NOT_FOUND
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 336 | 372 => StatusCode::NOT_FOUND,
            // NOT_IMPLEMENTED; TIMEOUT_EXCEEDED; CANNOT_OPEN_FILE, SOCKET_TIMEOUT
            48 => StatusCode::NOT_IMPLEMENTED,
            159 => StatusCode::REQUEST_TIMEOUT,
            76 | 209 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Of a request's body, while it is read.
impl From<io::Error> for Exception {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::new(271, "CANNOT_DECOMPRESS", &error.to_string()),
            _ => Self::new(210, "NETWORK_ERROR", &error.to_string()),
        }
    }
}

fn code(text: &str) -> Option<u32> {
    text.strip_prefix("Code: ")?.split_once('.')?.0.parse().ok()
}

/// What follows `Code: 73. DB::Exception: `.
fn after_prefix(text: &str) -> Option<&str> {
    code(text)?;
    Some(text.split_once("Exception: ")?.1)
}

fn without_versions(mut text: &str) -> String {
    let mut clean = String::new();
    while let Some((before, after)) = text.split_once(" (version ") {
        clean += before;
        text = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    clean + text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_wrapped_in_itself_is_unwrapped() {
        let wrapped = "Code: 73. DB::Exception: Code: 73. DB::Exception: Unknown format nope. \
                       (UNKNOWN_FORMAT) (version 26.7.2.1). (UNKNOWN_FORMAT)";
        let exception = Exception::from_engine(wrapped);
        assert_eq!(exception.code, 73);
        assert_eq!(
            exception.text("1"),
            "Code: 73. DB::Exception: Unknown format nope. (UNKNOWN_FORMAT) (version 1 (development door))\n"
        );
    }

    #[test]
    fn a_text_without_a_code_gets_one() {
        assert_eq!(Exception::from_engine("Streaming insert failed").code, 1001);
    }
}
