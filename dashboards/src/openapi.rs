//! The OpenAPI document of this role's endpoints.

use rivulet_web::openapi::complete;
use utoipa::{
    OpenApi as _,
    openapi::{OpenApi, Server},
};

use crate::{
    answers, api, export, families, inspect, learning, live,
    rows::{ChildOfFamily, Day, Topic, Week},
    streak::Streak,
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
        export::export,
        families::family,
        live::family,
        inspect::watch,
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
