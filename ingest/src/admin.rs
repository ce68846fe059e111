//! `/v1/admin`: the product backend says which families there are.

use std::{borrow::Cow, sync::Arc, task::Poll};

use axum::{
    body::Body,
    extract::{Path, Query, Request, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use rivulet_erasure::{NotErased, Subject};
use rivulet_events::{ChildId, ParentId};
use rivulet_registry::{
    consents,
    declarations::{self, Invalid},
    families,
    keys::{self, Scope},
    object,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    account::SHORT,
    auth::Sender,
    consent_schema::ConsentHistory,
    described::{
        Child, Erasure, ErasureRequested, OfDelete, OfGet, OfPages, OfPut, Parent, RegisteredChild,
        RegisteredParent,
    },
    open_request::{OpenRequest, ReceivedRequest},
    problem::Problem,
    state::App,
};

/// The id in the path, or why it cannot be read. An id that cannot be read is refused only after it is known who asks.
type Id = Result<Path<String>, PathRejection>;

/// Register a family, or change it
///
/// A family that was deleted does not come back (409).
#[utoipa::path(
    put,
    path = "/v1/admin/parents/{id}",
    tag = "registry",
    params(("id" = Uuid, Path, description = "The parent's id, as the product knows it.")),
    request_body = Parent,
    responses((status = 204, description = "Done"), OfPut),
    security(("key" = ["admin"])),
)]
pub(crate) async fn put_parent(State(app): State<Arc<App>>, id: Id, request: Request) -> Response {
    let put = async {
        let (_request, id, object) = declared(&app, id, request).await?;
        let timezone = declarations::timezone(&object)?;
        let consents = declarations::consents(&object)?;
        let streaks = declarations::streaks(&object)?;
        families::put_parent(app.pool()?, ParentId::new(id), timezone, consents, streaks).await?;
        Ok(())
    };
    answer(put.await)
}

/// Register a child, or change it
///
/// 409: the child was deleted, or its parent is unknown or was deleted.
#[utoipa::path(
    put,
    path = "/v1/admin/children/{id}",
    tag = "registry",
    params(("id" = Uuid, Path, description = "The child's id, as the product knows it.")),
    request_body = Child,
    responses((status = 204, description = "Done"), OfPut),
    security(("key" = ["admin"])),
)]
pub(crate) async fn put_child(State(app): State<Arc<App>>, id: Id, request: Request) -> Response {
    let put = async {
        let (_request, id, object) = declared(&app, id, request).await?;
        let parent = declarations::parent_id(&object)?;
        let age_group = declarations::age_group(&object)?;
        families::put_child(app.pool()?, ChildId::new(id), parent, age_group).await?;
        Ok(())
    };
    answer(put.await)
}

/// Mark a family deleted, or erase it
///
/// And all of its children. With `erase=true` everything that is held of them goes, in every store and for ever.
#[utoipa::path(
    delete,
    path = "/v1/admin/parents/{id}",
    tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The parent's id, as the product knows it."),
        ("erase" = Option<bool>, Query, description = "Erase, rather than mark."),
    ),
    responses(
        (status = 204, description = "Marked, now or before"),
        (status = 202, description = "The erasure was requested, now or before", body = ErasureRequested),
        OfDelete,
    ),
    security(("key" = ["admin"])),
)]
pub(crate) async fn delete_parent(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let delete = async {
        let request = app.open_request(&parts, Some(Scope::Admin)).await?;
        let id = read_id(id)?;
        if erases(&parts)? {
            return erase(&app, &request, Subject::Parent(id)).await;
        }
        families::delete_parent(app.pool()?, ParentId::new(id)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    delete.await.unwrap_or_else(Problem::into_response)
}

/// Mark a child deleted, or erase it
///
/// Its events are refused from then on. With `erase=true` everything that is held of it goes, in every store and for
/// ever.
#[utoipa::path(
    delete,
    path = "/v1/admin/children/{id}",
    tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The child's id, as the product knows it."),
        ("erase" = Option<bool>, Query, description = "Erase, rather than mark."),
    ),
    responses(
        (status = 204, description = "Marked, now or before"),
        (status = 202, description = "The erasure was requested, now or before", body = ErasureRequested),
        OfDelete,
    ),
    security(("key" = ["admin"])),
)]
pub(crate) async fn delete_child(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let delete = async {
        let request = app.open_request(&parts, Some(Scope::Admin)).await?;
        let id = read_id(id)?;
        if erases(&parts)? {
            return erase(&app, &request, Subject::Child(id)).await;
        }
        families::delete_child(app.pool()?, ChildId::new(id)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    delete.await.unwrap_or_else(Problem::into_response)
}

/// What is registered of a family
///
/// Also of one that was deleted.
#[utoipa::path(
    get,
    path = "/v1/admin/parents/{id}",
    tag = "registry",
    params(("id" = Uuid, Path, description = "The parent's id, as the product knows it.")),
    responses((status = 200, description = "As it is now", body = RegisteredParent), OfGet),
    security(("key" = ["admin"])),
)]
pub(crate) async fn get_parent(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let get = async {
        let _request = app.open_request(&parts, Some(Scope::Admin)).await?;
        Ok(families::parent(app.pool()?, ParentId::new(read_id(id)?)).await?)
    };
    json_response(get.await)
}

/// What a family consented to, and when
///
/// Every change, the oldest first: grants, revocations, and consents that were given again under another version or by
/// another method. Also of a family that was deleted.
#[utoipa::path(
    get,
    path = "/v1/admin/parents/{id}/consents",
    tag = "registry",
    params(
        ("id" = Uuid, Path, description = "The parent's id, as the product knows it."),
        ("after" = Option<i64>, Query, minimum = 0, description = "The `next` of the page before."),
    ),
    responses((status = 200, description = "A page of it", body = ConsentHistory), OfPages),
    security(("key" = ["admin"])),
)]
pub(crate) async fn get_consents(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let get = async {
        let _request = app.open_request(&parts, Some(Scope::Admin)).await?;
        let id = ParentId::new(read_id(id)?);
        Ok(consents::history(app.pool()?, id, after(&parts)?).await?)
    };
    json_response(get.await)
}

/// What is registered of a child
///
/// Also of one that was deleted.
#[utoipa::path(
    get,
    path = "/v1/admin/children/{id}",
    tag = "registry",
    params(("id" = Uuid, Path, description = "The child's id, as the product knows it.")),
    responses((status = 200, description = "As it is now", body = RegisteredChild), OfGet),
    security(("key" = ["admin"])),
)]
pub(crate) async fn get_child(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let get = async {
        let _request = app.open_request(&parts, Some(Scope::Admin)).await?;
        Ok(families::child(app.pool()?, ChildId::new(read_id(id)?)).await?)
    };
    json_response(get.await)
}

/// How far an erasure has come
///
/// `done` is: nothing is left but in Kafka, where `gone_by` says until when. Then there is a certificate.
#[utoipa::path(
    get,
    path = "/v1/admin/erasures/{id}",
    tag = "registry",
    params(("id" = Uuid, Path, description = "As the request for the erasure was answered.")),
    responses((status = 200, description = "As it is now", body = Erasure), OfGet),
    security(("key" = ["admin"])),
)]
pub(crate) async fn get_erasure(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let get = async {
        let _request = app.open_request(&parts, Some(Scope::Admin)).await?;
        let status = rivulet_erasure::status(app.pool()?, read_id(id)?);
        let status = status.await.map_err(|_| app.cut_off())?;
        let status = status.ok_or(Problem::NotFound("there is no erasure of this id"))?;
        serde_json::to_string(&status).map_err(|_| Problem::Internal)
    };
    json_response(get.await)
}

/// Whether `?erase=true`.
fn erases(parts: &Parts) -> Result<bool, Problem> {
    #[derive(serde::Deserialize)]
    struct Parameters {
        #[serde(default)]
        erase: bool,
    }
    let parameters = Query::<Parameters>::try_from_uri(&parts.uri).map_err(|_| {
        Problem::InvalidField(Invalid {
            pointer: "/erase".into(),
            message: "must be true or false",
        })
    })?;
    Ok(parameters.erase)
}

/// The parameter `after` is not what a page before said.
pub(crate) const BAD_AFTER: Invalid = Invalid {
    pointer: Cow::Borrowed("/after"),
    message: "must be the `next` of a page of the same family",
};

/// Where a page begins.
fn after(parts: &Parts) -> Result<i64, Problem> {
    #[derive(serde::Deserialize)]
    struct Parameters {
        #[serde(default)]
        after: i64,
    }
    let parameters = Query::<Parameters>::try_from_uri(&parts.uri).ok();
    let after = parameters.map(|parameters| parameters.after);
    let after = after.filter(|after| *after >= 0);
    after.ok_or(Problem::InvalidField(BAD_AFTER))
}

async fn erase(
    app: &App,
    request: &OpenRequest<'_>,
    subject: Subject,
) -> Result<Response, Problem> {
    let pool = app.pool()?;
    let name = match &request.sender {
        Sender::Key(hash, _) => keys::name(pool, hash).await,
        Sender::Family(_) => Ok(None),
    };
    let name = name.map_err(|_| app.cut_off())?;
    let by = format!(
        "the API key {}",
        name.as_deref().unwrap_or("that was revoked since")
    );
    let requested = rivulet_erasure::request(pool, subject, &by).await;
    let requested = requested.map_err(|error| match error {
        NotErased::NotFound => Problem::from(families::Error::NotFound),
        NotErased::Database(_) => app.cut_off(),
    })?;
    let status = rivulet_erasure::status(pool, requested.erasure_id).await;
    let state = status
        .map_err(|_| app.cut_off())?
        .map(|status| status.state);
    let answer = json!({"erasure_id": requested.erasure_id, "state": state});
    let mut response = json_response(Ok(answer.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Opens a request that declares something: returns the id of the path and the object of the body, after the key was
/// found good.
async fn declared(
    app: &App,
    id: Id,
    request: Request<Body>,
) -> Result<(OpenRequest<'_>, Uuid, Map<String, Value>), Problem> {
    let (parts, body) = request.into_parts();
    let received = app
        .receive(&parts, body, Scope::Admin, "application/json")
        .await?;
    let ReceivedRequest {
        mut request, body, ..
    } = received;
    let id = read_id(id)?;
    let is_long = body.bytes.len() > SHORT;
    let read = request
        .account
        .work(is_long, |_| Poll::Ready(object(&body.bytes)));
    let object = read
        .await?
        .map_err(|why| Problem::InvalidBody(format!("the body cannot be read: {why}").into()))?;
    Ok((request, id, object))
}

fn read_id(id: Id) -> Result<Uuid, Problem> {
    let read = id.ok().and_then(|Path(id)| id.parse().ok());
    read.ok_or(Problem::NotFound("the id in the path must be a UUID"))
}

fn answer(done: Result<(), Problem>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The answer as JSON that no cache may keep.
fn json_response(registered: Result<String, Problem>) -> Response {
    let mut response = match registered {
        Ok(json) => json.into_response(),
        Err(problem) => return problem.into_response(),
    };
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
