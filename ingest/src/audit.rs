//! Every request below `/v1/admin` is audited. What it changes is recorded by whoever writes the change, in the same
//! transaction; what it reads, and what it is refused, is noted here.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, Uri},
    middleware::Next,
    response::Response,
};
use rivulet_auditlog::{Acting, Action, Outcome, Subject, acting};
use rivulet_inspect::Filter;
use rivulet_web::RequestId;
use uuid::Uuid;

use crate::state::App;

pub(crate) async fn audited(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let doing = Doing::of(request.method(), request.uri());
    let by = match request.extensions().get::<RequestId>() {
        Some(id) => Acting::request(id.bytes(), id.is_ours()),
        None => Arc::default(),
    };
    let response = acting(Arc::clone(&by), next.run(request)).await;
    let who = (by.actor(), by.request_id());
    let status = response.status();
    match outcome(status) {
        Outcome::Done if by.has_recorded() => {}
        Outcome::Done => {
            let Doing {
                action,
                kind,
                subject,
            } = doing;
            if action != Action::Read {
                tracing::error!(action = action.as_str(), "a change did not audit itself");
            }
            app.audit.note(who, action, Outcome::Done, kind, subject);
        }
        outcome => {
            let (action, why) = (doing.action, reason(status));
            app.audit.note(who, action, outcome, why, doing.subject);
        }
    }
    response
}

/// What a request asks for.
struct Doing {
    action: Action,
    /// At what it looks.
    kind: &'static str,
    subject: Option<Subject>,
}

impl Doing {
    fn of(method: &Method, uri: &Uri) -> Self {
        let rest = uri.path().strip_prefix("/v1/admin/").unwrap_or_default();
        let mut words = rest.split('/');
        let (noun, id, more) = (words.next(), words.next(), words.next());
        let noun = noun.unwrap_or_default();
        let is_erased = uri
            .query()
            .is_some_and(|query| query.contains("erase=true"));
        let action = match (method.as_str(), noun) {
            ("GET" | "HEAD", _) => Action::Read,
            ("PUT", "parents") => Action::PutParent,
            ("PUT", "children") => Action::PutChild,
            ("DELETE", "parents" | "children") if is_erased => Action::Erase,
            ("DELETE", "parents") => Action::DeleteParent,
            ("DELETE", "children") => Action::DeleteChild,
            _ => Action::Admin,
        };
        let id: Option<Uuid> = match noun {
            // Whose events are then seen is noted with each of them.
            "tail" => Filter::of_query(uri.query().unwrap_or_default())
                .ok()
                .and_then(|filter| filter.child),
            _ => id.and_then(|id| id.parse().ok()),
        };
        let subject = id.and_then(|id| match noun {
            "parents" => Some(Subject::parent(id)),
            "children" | "tail" => Some(Subject::child(id)),
            _ => None,
        });
        let kind = match (noun, more) {
            ("parents", Some("consents")) => "consents",
            ("parents" | "children", None) => "registry",
            ("erasures", None) => "erasure",
            ("tail", None) => "tail",
            _ => "other",
        };
        Self {
            action,
            kind,
            subject,
        }
    }
}

fn outcome(status: StatusCode) -> Outcome {
    if status.is_server_error() {
        Outcome::Failed
    } else if status.is_client_error() {
        Outcome::Refused
    } else {
        Outcome::Done
    }
}

/// Why a request was not answered as it wished, by a word for each status.
fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        408 => "timeout",
        409 => "conflict",
        429 => "rate_limited",
        500..=599 => "unavailable",
        _ => "invalid",
    }
}
