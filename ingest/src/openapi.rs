//! The OpenAPI document of this role's endpoints.

use rivulet_inspect::{Missed, Observation};
use rivulet_web::openapi::complete;
use utoipa::{
    OpenApi as _,
    openapi::{OpenApi, Server, server::ServerVariable},
};

use crate::{
    admin, client_config, consent_schema,
    described::{RegisteredChild, RegisteredParent},
    event_schema, events, tail,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Rivulet ingest"),
    paths(
        events::post,
        client_config::get,
        admin::put_parent,
        admin::get_parent,
        admin::delete_parent,
        admin::get_consents,
        admin::put_child,
        admin::get_child,
        admin::delete_child,
        admin::get_erasure,
        tail::get,
    ),
    components(schemas(RegisteredParent, RegisteredChild, Observation, Missed)),
    tags(
        (name = "events", description = "Of `rivulet ingest`: apps post what happened."),
        (name = "registry", description = "Of `rivulet ingest`: the product's backend says which families and children \
            there are, and what they consented to; every node knows within 5 s. Not for browsers: \
            these paths answer no preflight, because a key that can do this does not belong in a page."),
        (name = "inspecting", description = "Of every role that is told to: who makes an app watches what arrives and where \
            it goes. It shows whose events come and what they are answered, and nothing of what they hold."),
    ),
)]
struct Document;

/// What can be asked of this role, for [`Config::default`](crate::Config::default). Its address is the variable `ingest` of a server
/// of the document: servers of single paths would be hard-wired into some generated clients.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = Document::openapi();
    document.merge(rivulet_telemetry::openapi());
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let of_events = event_schema::schemas();
    for (name, schema) in of_events.into_iter().chain(consent_schema::schemas()) {
        schemas.insert(name, schema.into());
    }
    let address = ServerVariable::builder()
        .default_value("http://127.0.0.1:8080")
        .description(Some("Where `rivulet ingest` listens."));
    let server = Server::builder()
        .url("{ingest}")
        .description(Some("`rivulet ingest`"))
        .parameter("ingest", address)
        .build();
    document.servers = Some(vec![server]);
    complete(&mut document);
    document
}
