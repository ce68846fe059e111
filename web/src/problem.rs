//! Refusals as RFC 9457 problem documents.

use std::any::Any;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Map, Value, json};

/// The stable code of a refusal, in its response's extensions: for metrics and the access log.
#[derive(Clone, Copy, Debug)]
pub struct Problem(pub &'static str);

/// A problem document. `more` are members beside the usual ones.
#[must_use]
pub fn document(
    status: StatusCode,
    code: &'static str,
    detail: &str,
    more: Map<String, Value>,
) -> Response {
    let mut response = Response::new(Body::from(text(status, code, detail, more)));
    *response.status_mut() = status;
    response.extensions_mut().insert(Problem(code));
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Its text.
pub(crate) fn text(
    status: StatusCode,
    code: &'static str,
    detail: &str,
    more: Map<String, Value>,
) -> String {
    let mut document = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    if let Value::Object(members) = &mut document {
        members.extend(more);
    }
    document.to_string()
}

/// For `CatchPanicLayer`. What the panic said may quote an event, so it is not repeated.
#[must_use]
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    internal()
}

/// The answer where something went wrong that should not go wrong. It says nothing about the internals.
#[must_use]
pub fn internal() -> Response {
    document(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "something went wrong here; try again later",
        Map::new(),
    )
}
