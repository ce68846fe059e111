//! Whole-request failures, as RFC 9457 problem documents.

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rivulet_events::batch::BatchError;
use rivulet_registry::{declarations::Invalid, families};
use rivulet_web::{Throttled, seconds};
use serde_json::Map;

/// Why a request as a whole was refused. Only this type knows the status, the stable code and the text.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The body cannot be read; the words quote none of it.
    InvalidBody(Cow<'static, str>),
    MissingEvents,
    InvalidSentAt,
    /// No key or token, or why the one that was sent is not good.
    Unauthorized(Option<Cow<'static, str>>),
    /// What the key or token does not allow.
    Forbidden(Cow<'static, str>),
    /// The body did not arrive in this time.
    Timeout(Duration),
    /// More bytes than this, as sent or inflated.
    BodyTooLarge(usize),
    TooManyEvents(usize),
    /// What would be read instead.
    UnsupportedMediaType(&'static str),
    UnsupportedEncoding,
    RateLimited(Throttled),
    /// Worth trying again after this time.
    Unavailable(&'static str, Duration),
    NotFound(&'static str),
    MethodNotAllowed,
    /// The registry's state forbids it.
    Conflict(String),
    InvalidField(Invalid),
    Internal,
}

pub(crate) const ACCEPTED_ENCODINGS: &str = "gzip, zstd, br, deflate, identity";

impl Problem {
    pub(crate) const fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidBody(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            Self::MissingEvents => (StatusCode::BAD_REQUEST, "missing_events"),
            Self::InvalidSentAt => (StatusCode::BAD_REQUEST, "invalid_sent_at"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Timeout(_) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::TooManyEvents(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_events"),
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::UnsupportedEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding")
            }
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Unavailable(..) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::InvalidField(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidBody(why) => Cow::Borrowed(why),
            Self::MissingEvents => BatchError::MissingEvents.to_string().into(),
            Self::InvalidSentAt => BatchError::InvalidSentAt.to_string().into(),
            Self::Unauthorized(None) => "send an API key: `Authorization: Bearer <api key>`".into(),
            Self::Unauthorized(Some(why)) | Self::Forbidden(why) => Cow::Borrowed(why),
            Self::Timeout(limit) => format!("the body did not arrive within {limit:?}").into(),
            Self::BodyTooLarge(limit) => {
                format!("the body is longer than {limit} bytes; send fewer events at once").into()
            }
            Self::TooManyEvents(limit) => BatchError::TooManyEvents(*limit).to_string().into(),
            Self::UnsupportedMediaType(expected) => {
                format!("send the body as Content-Type {expected}").into()
            }
            Self::UnsupportedEncoding => {
                format!("send the body with one Content-Encoding of {ACCEPTED_ENCODINGS}").into()
            }
            Self::RateLimited(_) => {
                "too many events from this API key or token, or too much work with \
                                     them; nothing of this request was taken, send it again later"
                    .into()
            }
            Self::Unavailable(why, _) => Cow::Borrowed(why),
            Self::NotFound(what) => Cow::Borrowed(what),
            Self::MethodNotAllowed => "this method is not served here".into(),
            Self::Conflict(why) => Cow::Borrowed(why),
            Self::InvalidField(invalid) => Cow::Borrowed(invalid.message),
            Self::Internal => "something went wrong here; try again later".into(),
        }
    }

    fn headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::Unauthorized(why) => {
                let challenge = match why {
                    Some(_) => r#"Bearer realm="rivulet", error="invalid_token""#,
                    None => r#"Bearer realm="rivulet""#,
                };
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(challenge),
                );
            }
            Self::Forbidden(_) => {
                let challenge = r#"Bearer realm="rivulet", error="insufficient_scope""#;
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(challenge),
                );
            }
            Self::UnsupportedEncoding => {
                let accepted = HeaderValue::from_static(ACCEPTED_ENCODINGS);
                headers.insert(header::ACCEPT_ENCODING, accepted);
            }
            Self::RateLimited(throttled) => {
                throttled.headers(headers);
            }
            Self::Unavailable(_, wait) => {
                headers.insert(header::RETRY_AFTER, seconds(*wait));
            }
            _ => {}
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let mut more = Map::new();
        if let Self::InvalidField(invalid) = &self {
            more.insert("pointer".to_owned(), invalid.pointer.as_ref().into());
        }
        let mut response = rivulet_web::document(status, code, &self.detail(), more);
        self.headers(response.headers_mut());
        response
    }
}

impl From<BatchError> for Problem {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::InvalidBody(_) => Self::InvalidBody(error.to_string().into()),
            BatchError::MissingEvents => Self::MissingEvents,
            BatchError::InvalidSentAt => Self::InvalidSentAt,
            BatchError::TooManyEvents(limit) => Self::TooManyEvents(limit),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::InvalidField(invalid)
    }
}

impl From<families::Error> for Problem {
    fn from(error: families::Error) -> Self {
        match error {
            families::Error::Database(error) => {
                tracing::warn!(%error, "the registry could not be changed");
                Self::Unavailable("the registry cannot be reached", Duration::from_secs(5))
            }
            families::Error::NotFound => Self::NotFound("nobody of this id is registered"),
            families::Error::Deleted
            | families::Error::UnknownParent
            | families::Error::DeletedParent => Self::Conflict(error.to_string()),
        }
    }
}
