//! Requests that are not answered, as problem documents.

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rivulet_web::{Throttled, seconds};
use serde_json::Map;

use crate::metrics::REFUSED_READS;

/// What PostgreSQL says of a query that ran into `statement_timeout`.
const QUERY_CANCELED: &str = "57014";

/// What `Retry-After` says.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a request was refused. Only this type knows the status, the stable code and the text.
#[derive(Debug)]
pub(crate) enum Problem {
    /// What is wrong with the parameters.
    InvalidParameter(Cow<'static, str>),
    /// No key or token, or why the one that was sent is not good.
    Unauthorized(Option<Cow<'static, str>>),
    /// What the key does not allow.
    Forbidden(&'static str),
    /// There is no such thing, or it is somebody else's: nobody learns that it exists.
    NotFound(&'static str),
    MethodNotAllowed,
    RateLimited(Throttled),
    /// What cannot be reached.
    Unavailable(&'static str),
}

impl Problem {
    const fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::InvalidParameter(why) | Self::Unauthorized(Some(why)) => why,
            Self::Unauthorized(None) => {
                "send an API key or a parent's token: `Authorization: Bearer <key or token>`"
            }
            Self::Forbidden(why) | Self::NotFound(why) | Self::Unavailable(why) => why,
            Self::MethodNotAllowed => "this method is not served here",
            Self::RateLimited(_) => "too many requests with this key or token; try again later",
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let mut response = rivulet_web::document(status, code, self.detail(), Map::new());
        let (name, value) = match self {
            Self::Unauthorized(None) => (
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="rivulet""#),
            ),
            Self::Unauthorized(Some(_)) => (
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="rivulet", error="invalid_token""#),
            ),
            Self::Forbidden(_) => (
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="rivulet", error="insufficient_scope""#),
            ),
            Self::Unavailable(_) => (header::RETRY_AFTER, seconds(RETRY_AFTER)),
            Self::RateLimited(throttled) => {
                throttled.headers(response.headers_mut());
                return response;
            }
            _ => return response,
        };
        let headers = response.headers_mut();
        headers.insert(name, value);
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.as_deref() == Some(QUERY_CANCELED) {
            refused_read("time");
            return Self::Unavailable("the numbers take too long to read now");
        }
        tracing::warn!(%error, "PostgreSQL could not be read");
        Self::Unavailable("the numbers cannot be read now")
    }
}

/// Counts a request that took, or would have taken, more than its share: `share` of the connections, or `time`.
pub(crate) fn refused_read(reason: &'static str) {
    REFUSED_READS.with([reason]).increment(1);
}
