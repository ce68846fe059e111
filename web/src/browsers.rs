//! Lets web pages send requests (CORS).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::REQUEST_ID;

/// Headers that libraries in pages add by themselves, for traces and metrics. Without permission for them the browser
/// would not send the request.
const ADDED: [HeaderName; 5] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("sentry-trace"),
    HeaderName::from_static("x-retry-count"),
];

/// Headers that say when a client may ask again, and how much.
const TOLD: [HeaderName; 4] = [
    header::RETRY_AFTER,
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

/// Lets pages of these origins send requests with `method`; pages of all origins, if there are none. They may send the
/// headers `sent` and read `read`, besides those that every endpoint has. A page sends its credential in a header,
/// never as a cookie, so a foreign page can do nothing that it could not do without the browser.
pub fn browsers<'a>(
    origins: impl Iterator<Item = &'a str>,
    method: Method,
    sent: &[HeaderName],
    read: &[HeaderName],
) -> CorsLayer {
    // The origins were parsed before, so each of them can stand in a header.
    let origins: Vec<_> = origins
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    let allowed = match origins.is_empty() {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins),
    };
    let sent = [&[header::AUTHORIZATION, REQUEST_ID], &ADDED[..], sent].concat();
    let read = [&[REQUEST_ID], &TOLD[..], read].concat();
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([method])
        .allow_headers(sent)
        .expose_headers(read)
        // An answer to one origin must not be given to another. Only browsers keep answers to preflights.
        .vary([header::ORIGIN])
        .max_age(Duration::from_secs(3_600))
}
