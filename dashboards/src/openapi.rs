//! The OpenAPI document of this role's endpoints.

use std::{collections::BTreeMap, time::Duration};

use axum::response::IntoResponse as _;
use rivulet_web::{
    Throttled,
    openapi::{complete, refusals},
};
use utoipa::{
    IntoParams, IntoResponses, OpenApi as _,
    openapi::{Header, Object, OpenApi, RefOr, Response, Server, Type},
};
use uuid::Uuid;

use crate::{
    answers, api, families, learning, live,
    problem::Problem,
    rows::{ChildOfFamily, Day, Streak, Topic, Week},
    topics,
    update::{DayDifference, LiveEvent, Update},
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Rivulet",
        description = "Telemetry of children's learning apps: events in, exact numbers for parents out.\n\n\
            Whatever is refused is answered with a problem document (RFC 9457) with a stable `code`. A \
            path that is not here is `404` `not_found`, another method `405` `method_not_allowed`.",
    ),
    paths(
        api::daily,
        learning::learning,
        api::streak,
        topics::topics,
        live::child,
        families::family,
        live::family,
    ),
    components(schemas(
        answers::Daily,
        answers::Learning,
        Day,
        Streak,
        answers::ChildTopics,
        Topic,
        answers::Family,
        ChildOfFamily,
        Week,
        LiveEvent,
        Update<'_>,
        DayDifference,
        rivulet_web::openapi::Problem,
    )),
    security(("key" = ["read"]), ("token" = [])),
    tags(
        (name = "reading", description = "Of `rivulet api`: backends and parents read what is known of a child. A key with \
            scope `read` sees every family. A parent's token sees that parent's children and nothing else: \
            whoever is somebody else's, is not registered or was deleted is the same `404`."),
        (name = "operations", description = "Of every role, for those who run it."),
    ),
)]
struct Document;

/// What can be asked of this role.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = Document::openapi();
    document.merge(rivulet_telemetry::openapi());
    let here = Server::builder()
        .url("/")
        .description(Some("Whoever this document was asked of"));
    document.servers = Some(vec![here.build()]);
    complete(&mut document);
    document
}

/// The path's id, of a child.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct OfChild {
    /// The child's id, as in the registry.
    id: Uuid,
}

/// The path's id, of a family.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct OfFamily {
    /// The parent's id, as in the registry.
    id: Uuid,
}

/// For whoever asked before.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct Conditional {
    /// The `ETag` of an answer that the client has.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: String,
}

/// For whoever listened before.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct LastEventId {
    /// The `id` of the last event that the client got, from any node.
    #[param(rename = "Last-Event-ID", required = false)]
    last_event_id: String,
}

/// What the client has is what there is.
pub(crate) struct Unchanged;

impl IntoResponses for Unchanged {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let tag = Header::builder().schema(Object::with_type(Type::String));
        let unchanged = Response::builder()
            .description("Nothing has changed")
            .header("ETag", tag.build());
        BTreeMap::from([("304".to_owned(), unchanged.build().into())])
    }
}

/// Why the reading of numbers is refused.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problems = [
            Problem::InvalidParameter("`from` is after `to`".into()),
            Problem::Unauthorized(None),
            Problem::Forbidden("this needs an API key with scope `read`, or a parent's token"),
            Problem::NotFound("no child of this id can be seen here"),
            Problem::RateLimited(Throttled {
                limit: 200,
                remaining: 0,
                wait: Duration::from_secs(1),
                reset: Duration::from_secs(10),
            }),
            Problem::Unavailable("the numbers cannot be read now"),
        ];
        let answers = problems.into_iter().map(Problem::into_response);
        refusals(answers.chain([rivulet_web::internal()]))
    }
}
