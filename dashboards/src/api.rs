//! The endpoints.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, Method, header, request::Parts},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::NaiveDate;
use rivulet_registry::keys::Origin;
use rivulet_telemetry::{Operations, Readiness};
use rivulet_web::browsers;
use serde::Deserialize;
use tower_http::{CompressionLevel, catch_panic::CatchPanicLayer, compression::CompressionLayer};
use utoipa::{IntoParams, openapi::OpenApi};

use crate::{
    answers::Daily,
    app::{App, Id, NoParameters, answer, authenticate, open},
    audit::audited,
    cursor::{self, FOREIGN, Position},
    date_range::{self, DateRange},
    described::{Conditional, OfChild, Refusals, Unchanged},
    docs, export, families, inspect, learning, live, page,
    problem::Problem,
    rows,
    streak::{self, Streak},
    topics,
};

pub(crate) fn router(
    app: Arc<App>,
    readiness: Readiness,
    operations: &Operations,
    document: &OpenApi,
    docs: bool,
    origins: &[Origin],
) -> Router {
    let mut router = Router::new();
    if app.inspect.is_some() {
        router = router.route("/v1/inspect", get(inspect::watch));
    }
    let is_inspected = app.inspect.is_some();
    let router = router
        .route("/v1/children/{id}/daily", get(daily))
        .route("/v1/children/{id}/learning", get(learning::learning))
        .route("/v1/children/{id}/streak", get(streak))
        .route("/v1/children/{id}/topics", get(topics::topics))
        .route("/v1/children/{id}/live", get(live::child))
        .route("/v1/families/{id}", get(families::family))
        .route("/v1/families/{id}/live", get(live::family))
        // Whatever tells of a child or a family.
        .route_layer(from_fn_with_state(Arc::clone(&app), audited))
        // Only for answers with numbers. They need a credential, so strangers cannot make the server compress.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        // It is compressed already.
        .route("/v1/children/{id}/export", get(export::export))
        .merge(page::router())
        .merge(operations.of_role(readiness))
        .merge(rivulet_web::openapi::route(document));
    let router = match docs {
        true => router.merge(docs::routes()),
        false => router,
    };
    let router = match is_inspected {
        true => router.merge(page::inspect()),
        false => router,
    };
    let router = router
        .fallback(async |State(app): State<Arc<App>>, parts: Parts| {
            refused(
                &app,
                &parts,
                Problem::NotFound("there is nothing at this path"),
            )
            .await
        })
        .method_not_allowed_fallback(async |State(app): State<Arc<App>>, parts: Parts| {
            refused(&app, &parts, Problem::MethodNotAllowed).await
        })
        .layer(CatchPanicLayer::custom(rivulet_web::panicked))
        .with_state(app);
    if origins.is_empty() {
        return router;
    }
    // This layer is around all others, because a page must be able to read why it was refused.
    let pages = browsers(
        origins.iter().map(Origin::as_str),
        Method::GET,
        &[
            header::ACCEPT,
            header::IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
        ],
        &[header::ETAG],
    );
    router.layer(pages)
}

/// Answers a request for something that is not served. Within the API only a client with a good credential is told so,
/// as it is with everything else about the API.
async fn refused(app: &App, parts: &Parts, problem: Problem) -> Response {
    let problem = match parts.uri.path().starts_with("/v1/") {
        true => authenticate(app, parts).await.err().unwrap_or(problem),
        false => problem,
    };
    problem.into_response()
}

/// The name of a path for metrics and logs. It has no ids.
pub(crate) fn route(path: &str) -> &'static str {
    let rest = match path {
        "/healthz" | "/readyz" | "/metrics" => return "operations",
        "/" => return "page",
        path if path.starts_with("/page/") => return "page",
        "/v1/inspect" => return "inspect",
        "/inspect" => return "page",
        path if path.starts_with("/inspect/") => return "page",
        "/openapi.json" | "/docs" => return "docs",
        path if path.starts_with("/docs/") => return "docs",
        path => match path.strip_prefix("/v1/families/") {
            Some(id) if id.ends_with("/live") => return "live",
            Some(_) => return "family",
            None => path.strip_prefix("/v1/children/"),
        },
    };
    match rest.and_then(|rest| rest.split_once('/')) {
        Some((_, "daily")) => "daily",
        Some((_, "learning")) => "learning",
        Some((_, "streak")) => "streak",
        Some((_, "topics")) => "topics",
        Some((_, "live")) => "live",
        Some((_, "export")) => "export",
        _ => "other",
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DailyParameters {
    /// The first day, of the family's time zone. Without it, thirty days up to the last.
    #[serde(default, deserialize_with = "date_range::day")]
    from: Option<NaiveDate>,
    /// The last day, 366 in all at most. Without it, today.
    #[serde(default, deserialize_with = "date_range::day")]
    to: Option<NaiveDate>,
    /// The `next` of the answer that this one goes on from.
    #[serde(default, deserialize_with = "cursor::after")]
    #[param(value_type = Option<String>)]
    after: Option<Position>,
}

/// A child's days
///
/// The rows of `daily_child_metrics`. 512 KiB of them are in one answer at most, which is a year of a child who
/// does much: `next` leads on.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/daily",
    tag = "reading",
    params(OfChild, DailyParameters, Conditional),
    responses(
        (status = 200, description = "The days that have events", body = Daily,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn daily(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (asked, child, mut reading): (DailyParameters, _, _) = open(&app, &parts, id).await?;
        let dates = DateRange::of(asked.from, asked.to, reading.today)?;
        let after = match asked.after {
            None => None,
            Some(Position::Day(day)) => Some(day),
            Some(_) => return Err(FOREIGN),
        };
        let (days, last) = rows::days_with_events(&mut reading, child, dates.after(after)).await?;
        Ok(Daily {
            child_id: child.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            from: dates.from,
            to: dates.to,
            days,
            next: last.map(|day| Position::Day(day).to_string()),
        })
    })
    .await
}

/// A child's streak
///
/// The row of `streaks`, and what the parent sees today.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/streak",
    tag = "reading",
    params(OfChild, Conditional),
    responses(
        (status = 200, description = "Days in a row", body = Streak,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn streak(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (NoParameters {}, child, mut reading) = open(&app, &parts, id).await?;
        streak::streak(&mut reading, child).await
    })
    .await
}
