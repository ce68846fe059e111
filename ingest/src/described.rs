//! What the OpenAPI document says of bodies, answers and refusals.

use std::{collections::BTreeMap, time::Duration};

use axum::response::IntoResponse as _;
use chrono::{DateTime, Utc};
use rivulet_events::{Code, data::AgeGroup};
use rivulet_registry::{declarations::Invalid, families};
use rivulet_web::{Throttled, openapi::refusals};
use utoipa::{
    IntoParams, IntoResponses, ToSchema,
    openapi::{Array, Object, Ref, RefOr, Response},
};
use uuid::Uuid;

use crate::{
    Config,
    admin::BAD_AFTER,
    consent_schema::{RegisteredConsents, consents},
    event_schema,
    events::BAD_DRY_RUN,
    problem::Problem,
    tail::BAD_KEY,
};

/// The device's clock.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct SentAt {
    /// As `sent_at` in the body, and wins: a time by RFC 3339.
    // Where a header is a `date-time`, openapi-python-client leaves out the operation.
    #[param(rename = "X-Sent-At", required = false, format = "rfc3339")]
    sent_at: String,
}

/// An event on a line.
pub(crate) const NDJSON: &str = concat!(
    r#"{"id":"0197a1b2-1111-7222-8333-444444444444","type":"message","#,
    r#""child_id":"0f9e8d7c-2222-4222-8333-444444444444","occurred_at":"2026-05-04T09:30:00.250Z","#,
    r#""data":{"conversation_id":"0f9e8d7c-3333-4222-8333-444444444444","sequence":1,"role":"user"}}"#,
    "\n"
);

/// What was done on a device, or several, of one family or several.
#[derive(ToSchema)]
#[schema(example = json!({
    "sent_at": "2026-05-04T09:30:01Z",
    "events": [{
        "id": "0197a1b2-1111-7222-8333-444444444444", "type": "interaction",
        "child_id": "0f9e8d7c-2222-4222-8333-444444444444", "occurred_at": "2026-05-04T09:30:00.250Z",
        "device": {"platform": "ios", "app_version": "4.12.1"},
        "data": {"action": "answer", "subject": "math", "is_correct": true, "response_time_ms": 2300},
    }],
}))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Batch {
    /// The device's clock at this attempt. Where it is off by more than a minute, the times of the
    /// events are shifted by as much. The header `X-Sent-At` says the same and wins.
    sent_at: Option<DateTime<Utc>>,
    #[schema(schema_with = events_of_a_batch)]
    events: (),
}

fn events_of_a_batch() -> Array {
    let max = Config::default().max_events;
    Array::builder()
        .items(Ref::from_schema_name("Event"))
        .max_items(Some(max))
        .description(Some(format!(
            "At most {max}, 64 KiB each and 32 levels deep, unless the operator set other limits. \
             Unknown fields are dropped with a warning, strings are trimmed. \
             What looks like personal data in free text is masked with a warning, unless the operator refuses or allows it. \
             Refused are NUL in a string, an integer with a fraction or exponent (1.0), and sound in any form."
        )))
        .build()
}

/// What became of each event.
#[derive(ToSchema)]
#[schema(example = json!({
    "request_id": "0197a1b2-1111-7222-8333-555555555555",
    "received_at": "2026-05-04T09:30:01.125Z", "accepted": 2, "rejected": 1, "retry": 0,
    "results": [
        {"index": 0, "id": "0197a1b2-1111-7222-8333-444444444444", "outcome": "accepted"},
        {"index": 1, "id": "0197a1b2-1112-7222-8333-444444444444", "outcome": "accepted",
         "warnings": ["unknown_field:data.colour"]},
        {"index": 2, "id": "0197a1b2-1113-7222-8333-444444444444", "outcome": "rejected",
         "code": "invalid_field", "pointer": "/data/rating", "message": "must be an integer from 1 to 5"},
    ],
}))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Receipt {
    /// As in the header `X-Request-Id`.
    request_id: String,
    /// The server's clock.
    received_at: DateTime<Utc>,
    /// Events that are durable.
    accepted: u64,
    /// Events that will never be taken.
    rejected: u64,
    /// Events that were not stored: send them again.
    retry: u64,
    /// With `?dry_run=true`: nothing was stored, and `accepted` is what would have been.
    #[schema(required = false)]
    dry_run: bool,
    /// In the order of the request.
    results: Vec<EventOutcome>,
}

/// What became of an event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct EventOutcome {
    /// Its place in the request, from 0.
    index: u64,
    /// Its `id` as it was sent; null where that is no string of at most 64 bytes.
    #[schema(required = true)]
    id: Option<String>,
    outcome: Outcome,
    /// With `accepted`, where Kafka is down and the event is safe on this server's disk until it is back.
    #[schema(required = false)]
    durability: Durability,
    /// With `rejected`: why.
    #[schema(schema_with = codes, required = false)]
    code: (),
    /// With `rejected`, where one field is to blame: which (a JSON pointer, RFC 6901).
    #[schema(required = false)]
    pointer: String,
    /// With `rejected`: what is wrong, for people. The words may change.
    #[schema(required = false)]
    message: String,
    /// What was dropped from it (`unknown_field:data.colour`), and what looked like personal data and was masked
    /// (`masked_email:data.topic`).
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// `accepted`: it is durable, forget it. `rejected`: it will never succeed, do not send it again.
/// `retry`: it was not stored, send it again after `Retry-After`.
#[derive(ToSchema)]
// The name in the document is older than the one here; SDKs that are generated from it have a type of that name.
#[schema(as = Fate, rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Outcome {
    Accepted,
    Rejected,
    Retry,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Durability {
    Spilled,
}

fn codes() -> Object {
    let codes = Code::ALL.iter().map(|code| code.as_str());
    let mut code = event_schema::one_word(codes);
    code.description = Some("With `rejected`: why.".to_owned());
    code
}

/// A family.
#[derive(ToSchema)]
#[schema(example = json!({
    "timezone": "Europe/Rome",
    "consents": {
        "coppa": {"granted": true, "version": "2026-01", "method": "form"},
        "audio": {"granted": true, "version": "2026-01", "method": "form"},
        "analytics": false,
    },
}))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Parent {
    /// The name of an IANA time zone: it says which day it is for the family.
    timezone: String,
    #[schema(schema_with = consents, required = false)]
    consents: (),
    /// Whether the family is shown streaks. Left out: as before, at first they are.
    streaks: Option<bool>,
}

/// A child.
#[derive(ToSchema)]
#[schema(example = json!({
    "parent_id": "0f9e8d7c-1111-4222-8333-444444444444", "age_group": "wonder_cubs",
}))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Child {
    /// A registered family. The child may move to another one.
    parent_id: Uuid,
    #[schema(schema_with = age_groups)]
    age_group: (),
}

fn age_groups() -> Object {
    event_schema::one_word(AgeGroup::ALL.iter().map(|group| group.as_str()))
}

/// A family as it is registered.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct RegisteredParent {
    parent_id: Uuid,
    /// The name of an IANA time zone.
    timezone: String,
    consents: RegisteredConsents,
    /// Whether the family is shown streaks.
    streaks: bool,
    /// Those that are not deleted, in the order of their registration.
    children: Vec<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted: bool,
    /// Null unless it was.
    #[schema(required = true)]
    deleted_at: Option<DateTime<Utc>>,
}

/// A child as it is registered.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct RegisteredChild {
    child_id: Uuid,
    parent_id: Uuid,
    #[schema(schema_with = age_groups)]
    age_group: (),
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted: bool,
    /// Null unless it was.
    #[schema(required = true)]
    deleted_at: Option<DateTime<Utc>>,
}

/// An erasure that was requested.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ErasureRequested {
    /// Follow it at `/v1/admin/erasures/{id}`.
    erasure_id: Uuid,
    state: ErasureState,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ErasureState {
    Pending,
    Running,
    Done,
}

/// An erasure.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Erasure {
    erasure_id: Uuid,
    state: ErasureState,
    /// What it waits for, in words.
    #[schema(required = true)]
    waits_for: Option<String>,
    requested_at: DateTime<Utc>,
    #[schema(required = true)]
    done_at: Option<DateTime<Utc>>,
    /// How many children and parents it erases.
    subjects: u64,
    stores: Vec<ErasedStore>,
    /// What was removed where, and the queries that found nothing afterwards; null until it is done.
    #[schema(required = true, value_type = Option<Object>)]
    certificate: Option<()>,
}

/// An erasure in one store.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ErasedStore {
    store: Store,
    /// Rows or records that were removed.
    removed: u64,
    /// When it was found to have nothing left.
    #[schema(required = true)]
    clean_at: Option<DateTime<Utc>>,
    /// When Kafka's retention ends what it still has.
    #[schema(required = true)]
    gone_by: Option<DateTime<Utc>>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Store {
    Postgres,
    Clickhouse,
    Quarantine,
    Spill,
    Kafka,
}

/// The refusals that any request may get.
fn everywhere() -> Vec<Problem> {
    vec![
        Problem::Unauthorized(None),
        Problem::Forbidden("this needs an API key of another scope".into()),
        Problem::RateLimited(Throttled {
            limit: Config::default().burst,
            remaining: 0,
            wait: Duration::from_secs(1),
            reset: Duration::from_secs(4),
        }),
        Problem::Unavailable(
            "API keys cannot be checked now",
            Config::default().retry_after,
        ),
        Problem::Internal,
    ]
}

/// The refusals that a request with a body may get.
fn with_body() -> Vec<Problem> {
    let config = Config::default();
    let mut problems = everywhere();
    problems.extend([
        Problem::InvalidBody("the body is not UTF-8".into()),
        Problem::Timeout(config.body_timeout),
        Problem::BodyTooLarge(config.max_wire_bytes),
        Problem::UnsupportedMediaType("application/json"),
        Problem::UnsupportedEncoding,
    ]);
    problems
}

fn described(problems: Vec<Problem>) -> BTreeMap<String, RefOr<Response>> {
    refusals(problems.into_iter().map(Problem::into_response))
}

/// Refusals of `POST /v1/events`.
pub(crate) struct OfEvents;

impl IntoResponses for OfEvents {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let config = Config::default();
        let mut problems = with_body();
        problems.extend([
            Problem::MissingEvents,
            Problem::InvalidSentAt,
            Problem::TooManyEvents(config.max_events),
            Problem::InvalidField(BAD_DRY_RUN),
        ]);
        described(problems)
    }
}

/// Refusals of `GET`.
pub(crate) struct OfGet;

impl IntoResponses for OfGet {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = everywhere();
        problems.push(families::Error::NotFound.into());
        described(problems)
    }
}

/// Refusals of a `GET` of what is there for everybody who may ask.
pub(crate) struct OfConfig;

impl IntoResponses for OfConfig {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        described(everywhere())
    }
}

/// Refusals of a `GET` of pages.
pub(crate) struct OfPages;

impl IntoResponses for OfPages {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = everywhere();
        problems.push(families::Error::NotFound.into());
        problems.push(Problem::InvalidField(BAD_AFTER));
        described(problems)
    }
}

/// Refusals of whoever would watch what arrives.
pub(crate) struct OfTail;

impl IntoResponses for OfTail {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = everywhere();
        problems.extend([
            Problem::NotFound("there is nothing at this path"),
            Problem::InvalidField(BAD_KEY),
        ]);
        described(problems)
    }
}

/// Refusals of `DELETE`.
pub(crate) struct OfDelete;

impl IntoResponses for OfDelete {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = everywhere();
        problems.push(families::Error::NotFound.into());
        problems.push(Problem::InvalidField(Invalid {
            pointer: "/erase".into(),
            message: "must be true or false",
        }));
        described(problems)
    }
}

/// Refusals of `PUT`.
pub(crate) struct OfPut;

impl IntoResponses for OfPut {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = with_body();
        problems.extend([
            Problem::NotFound("the id in the path must be a UUID"),
            families::Error::Deleted.into(),
            Problem::InvalidField(Invalid {
                pointer: "/timezone".into(),
                message: "must be the name of an IANA time zone, such as Europe/Rome",
            }),
        ]);
        described(problems)
    }
}
