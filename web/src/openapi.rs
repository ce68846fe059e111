//! What every endpoint has in common, for the OpenAPI document, and where that is served.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router, body,
    http::{HeaderMap, HeaderName},
    response::Response as Answer,
    routing::get,
};
use futures_util::FutureExt as _;
pub use utoipa::openapi::OpenApi;
use utoipa::{
    ToSchema,
    openapi::{
        Content, Header, Object, Ref, RefOr, Required, Response, Type,
        example::Example,
        path::{Operation, Parameter, ParameterIn, PathItem},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::{Asset, Caching};

/// `/openapi.json`. It asks for no key, and tells of no child.
pub fn route<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    // What is strings and numbers can always be written.
    let json = serde_json::to_vec(document).unwrap_or_default();
    let json = Arc::new(Asset::new("application/json", json));
    // A new release is seen at once.
    let answer =
        async move |asked: HeaderMap| Arc::clone(&json).answer(&asked, Caching::Checked).await;
    Router::new().route("/openapi.json", get(answer))
}

/// Why a request was refused (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct Problem {
    /// `about:blank`: what there is to know is in `code`.
    r#type: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened, in a word that does not change between releases.
    code: String,
    /// What happened and what to do, for people. The words may change.
    detail: String,
    /// With `invalid_field`: which field of the body (a JSON pointer, RFC 6901).
    #[schema(required = false)]
    pointer: String,
}

/// Refusals as they are answered: the document's statuses, codes, headers and examples are those of the
/// answers themselves. Every code has an example by its name. That the schema is [`Problem`] with all of
/// them is for generators of clients, which make nothing good of a schema that narrows another.
/// [`Problem`] must be among the document's schemas.
pub fn refusals(answers: impl IntoIterator<Item = Answer>) -> BTreeMap<String, RefOr<Response>> {
    type Codes = Vec<(&'static str, serde_json::Value)>;
    let mut statuses: BTreeMap<String, (Response, Codes)> = BTreeMap::new();
    for answer in answers {
        let status = answer.status();
        let code = answer.extensions().get::<crate::problem::Problem>();
        let code = code.map_or("", |problem| problem.0);
        let reason = status.canonical_reason().unwrap_or_default();
        let (response, codes) = statuses
            .entry(status.as_u16().to_string())
            .or_insert_with(|| (Response::new(reason), Vec::new()));
        for name in answer.headers().keys() {
            if let Some((name, header)) = header(name) {
                response.headers.insert(name.to_owned(), header);
            }
        }
        // A problem is written before its answer is made: there is nothing to wait for.
        let body = body::to_bytes(answer.into_body(), 1 << 16).now_or_never();
        let body = body.and_then(Result::ok).unwrap_or_default();
        codes.push((code, serde_json::from_slice(&body).unwrap_or_default()));
    }
    statuses
        .into_iter()
        .map(|(status, (mut response, codes))| {
            let words: Vec<_> = codes.iter().map(|(code, _)| format!("`{code}`")).collect();
            response.description = format!("{}: {}", response.description, words.join(", "));
            let examples = codes.into_iter().map(|(code, body)| {
                let example = Example::builder().value(Some(body));
                (code.to_owned(), RefOr::T(example.build()))
            });
            let problem = Ref::from_schema_name("Problem");
            let content = Content::builder().schema(Some(problem));
            let content = content.examples_from_iter(examples).build();
            response
                .content
                .insert("application/problem+json".to_owned(), content);
            (status, RefOr::T(response))
        })
        .collect()
}

/// The headers of refusals that are worth a word: as they are commonly written, and what they say.
fn header(name: &HeaderName) -> Option<(&'static str, Header)> {
    let (name, kind, about) = match name.as_str() {
        "retry-after" => (
            "Retry-After",
            Type::Integer,
            "Seconds to wait before the same request is sent again.",
        ),
        "ratelimit-limit" => (
            "RateLimit-Limit",
            Type::Integer,
            "What may be used at once after a pause.",
        ),
        "ratelimit-remaining" => (
            "RateLimit-Remaining",
            Type::Integer,
            "What of it may be used now.",
        ),
        "ratelimit-reset" => (
            "RateLimit-Reset",
            Type::Integer,
            "Seconds until all of it may be used again.",
        ),
        "www-authenticate" => ("WWW-Authenticate", Type::String, "What to send (RFC 6750)."),
        "accept-encoding" => ("Accept-Encoding", Type::String, "What would be read."),
        _ => return None,
    };
    let header = Header::builder().schema(Object::with_type(kind));
    Some((name, header.description(Some(about)).build()))
}

/// Adds what every endpoint has: credentials, and `X-Request-Id`.
pub fn complete(document: &mut OpenApi) {
    let credential = |format: &str, about: &str| {
        let scheme = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format(format);
        SecurityScheme::Http(scheme.description(Some(about)).build())
    };
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "key",
        credential(
            "API key",
            "`rivulet keys create --name NAME --scope ingest|read|admin`. A key has one scope, which \
             each endpoint names: to post events, to read numbers, to change the registry.",
        ),
    );
    components.add_security_scheme(
        "token",
        credential(
            "JWT",
            "A token that the product's backend makes for one family; `sub` is the parent's id. For \
             ingest it is a client token, for reading a parent's token, with an audience for each.",
        ),
    );
    let text = || Object::with_type(Type::String);
    let given = Parameter::builder()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The client's own name for this request, to find it again: 1 to 128 letters, digits and \
             `-_.:`. Another one is given instead of any other.",
        ))
        .schema(Some(text()))
        .build();
    let answered = Header::builder()
        .schema(text())
        .description(Some(
            "The request's name: as the client gave it, or a new UUID.",
        ))
        .build();
    for path in document.paths.paths.values_mut() {
        path.parameters.get_or_insert_default().push(given.clone());
        for operation in operations(path) {
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    response
                        .headers
                        .insert("X-Request-Id".to_owned(), answered.clone());
                }
            }
        }
    }
}

/// What can be done at a path.
pub fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut path.get,
        &mut path.put,
        &mut path.post,
        &mut path.delete,
    ]
    .into_iter()
    .flatten()
}
