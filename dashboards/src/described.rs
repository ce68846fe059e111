//! What the OpenAPI document says of every endpoint alike.

use std::{collections::BTreeMap, time::Duration};

use axum::response::IntoResponse as _;
use rivulet_web::{Throttled, openapi::refusals};
use utoipa::{
    IntoParams, IntoResponses,
    openapi::{Header, Object, RefOr, Response, Type},
};
use uuid::Uuid;

use crate::{inspect::NEEDS_ADMIN, problem::Problem};

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

/// For clients that asked before.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct Conditional {
    /// The `ETag` of an answer that the client has.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: String,
}

/// For clients that listened before.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct LastEventId {
    /// The `id` of the last event that the client got, from any node.
    #[param(rename = "Last-Event-ID", required = false)]
    last_event_id: String,
}

/// What the client has is still the answer.
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

/// Why somebody is not shown what arrives.
pub(crate) struct InspectRefusals;

impl IntoResponses for InspectRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let problems = [
            Problem::InvalidParameter(
                "outcome must be accepted, rejected, retry or refused".into(),
            ),
            Problem::Unauthorized(None),
            NEEDS_ADMIN,
            Problem::NotFound("there is nothing at this path"),
            Problem::RateLimited(Throttled {
                limit: 10_000,
                remaining: 0,
                wait: Duration::from_secs(1),
                reset: Duration::from_secs(4),
            }),
            Problem::Unavailable("too many listen here already"),
        ];
        refusals(problems.into_iter().map(Problem::into_response))
    }
}
