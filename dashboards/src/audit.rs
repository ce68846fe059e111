//! Who read what of whom, and who was refused it: noted in memory for every request that could tell of a child or a
//! family, and written once a minute.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use rivulet_auditlog::{Acting, Action, Outcome, Subject, acting};
use rivulet_web::RequestId;
use uuid::Uuid;

use crate::app::App;

pub(crate) async fn audited(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (action, kind, subject) = asked(request.uri().path());
    let by = match request.extensions().get::<RequestId>() {
        Some(id) => Acting::request(id.bytes(), id.is_ours()),
        None => Arc::default(),
    };
    let response = acting(Arc::clone(&by), next.run(request)).await;
    let (outcome, word) = match response.status() {
        status if status.is_server_error() => (Outcome::Failed, "unavailable"),
        StatusCode::UNAUTHORIZED => (Outcome::Refused, "unauthorized"),
        StatusCode::FORBIDDEN => (Outcome::Refused, "forbidden"),
        StatusCode::NOT_FOUND => (Outcome::Refused, "not_found"),
        StatusCode::TOO_MANY_REQUESTS => (Outcome::Refused, "rate_limited"),
        status if status.is_client_error() => (Outcome::Refused, "invalid"),
        // Also where nothing has changed since: who asks learns that.
        _ => (Outcome::Done, kind),
    };
    // An export records itself, before it sends anything.
    if outcome != Outcome::Done || !by.has_recorded() {
        let who = (by.actor(), by.request_id());
        app.audit.note(who, action, outcome, word, subject);
    }
    response
}

/// What is asked for, by the path.
fn asked(path: &str) -> (Action, &'static str, Option<Subject>) {
    // Each ingest node writes down whose events are shown.
    if path == "/v1/inspect" {
        return (Action::Read, "inspect", None);
    }
    let mut words = path.trim_start_matches("/v1/").split('/');
    let (noun, id, what) = (words.next(), words.next(), words.next());
    let id: Option<Uuid> = id.and_then(|id| id.parse().ok());
    let subject = match noun {
        Some("children") => id.map(Subject::child),
        _ => id.map(Subject::parent),
    };
    let kind = match what {
        Some("daily") => "daily",
        Some("learning") => "learning",
        Some("streak") => "streak",
        Some("topics") => "topics",
        Some("live") => "live",
        Some("week") => "week",
        Some("export") => return (Action::Export, "export", subject),
        None => "family",
        Some(_) => "other",
    };
    (Action::Read, kind, subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_read_of_whom() {
        let id = Uuid::from_u128(7);
        for (path, action, kind, subject) in [
            (
                "children/{id}/daily",
                Action::Read,
                "daily",
                Subject::child(id),
            ),
            (
                "children/{id}/export",
                Action::Export,
                "export",
                Subject::child(id),
            ),
            ("families/{id}", Action::Read, "family", Subject::parent(id)),
            (
                "families/{id}/live",
                Action::Read,
                "live",
                Subject::parent(id),
            ),
        ] {
            let path = format!("/v1/{path}").replace("{id}", &id.to_string());
            assert_eq!(asked(&path), (action, kind, Some(subject)), "{path}");
        }
        assert_eq!(asked("/v1/children/nobody/daily").2, None);
    }
}
