//! A server that keeps nothing: what it says of it.

use axum::http::HeaderName;
use rivulet_events::Rejection;

use crate::answer::{Line, Outcome};

/// A header of every receipt: what was accepted is in no store.
pub(crate) const STORAGE: HeaderName = HeaderName::from_static("x-rivulet-storage");

/// Events a request that are told of one by one.
const TOLD: usize = 10;

/// Logs what became of a request's events, for whoever looks at why a test fails. Rejections quote nothing of an event.
pub(crate) fn tell(lines: &[Line<'_>]) {
    let rejections = lines.iter().enumerate().filter_map(|(index, line)| {
        let Outcome::Rejected(rejection) = &line.outcome else {
            return None;
        };
        Some((index, rejection))
    });
    let rejected = rejections.clone().count();
    let accepted = lines.len() - rejected;
    tracing::info!(accepted, rejected, "judged, and not kept");
    for (event, rejection) in rejections.take(TOLD) {
        let Rejection {
            code,
            pointer,
            message,
        } = rejection;
        let (code, pointer) = (code.as_str(), pointer.as_deref().unwrap_or_default());
        tracing::warn!(event, code, pointer, "rejected: {message}");
    }
    if rejected > TOLD {
        tracing::warn!("and {} more of this request", rejected - TOLD);
    }
}
