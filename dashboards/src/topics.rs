//! The topics that a child has met, in pages. Each costs the same, however many topics there are.

use std::{borrow::Cow, sync::Arc};

use axum::{extract::State, http::request::Parts, response::Response};
use chrono::{DateTime, Utc};
use rivulet_events::ChildId;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::{
    answers::{ChildTopics, Order, TOPICS},
    app::{App, Id, answer, open},
    cursor::{self, FOREIGN, Position},
    described::{Conditional, OfChild, Refusals, Unchanged},
    problem::Problem,
    reading::Reading,
    rows::{self, Page, Topic},
};

/// Bytes of topics in one answer.
const BYTES: usize = 190_000;

/// Topics of a child that are sorted by when they were last met. That changes with every event, so there is no
/// index on it: all of them are read for each answer.
const SORTED: i64 = 2_000;

/// The order `latest` is no longer available, because the child has too many topics by now.
const UNSORTED: Problem = Problem::InvalidParameter(Cow::Borrowed(
    "`after` is a place among the latest topics, and by now there are too many to tell: begin without it",
));

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicsParameters {
    /// The `next` of the answer that this one goes on from.
    #[serde(default, deserialize_with = "cursor::after")]
    #[param(value_type = Option<String>)]
    after: Option<Position>,
}

/// What a child has met
///
/// The rows of `topic_progress`: the latest topics first, or by name where there are more than 2 000, as
/// `order` says. 500 topics, and 190 kB, are in one answer at most: `next` leads on.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/topics",
    tag = "reading",
    params(OfChild, TopicsParameters, Conditional),
    responses(
        (status = 200, description = "Topics over all time", body = ChildTopics,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn topics(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (asked, child, mut reading): (TopicsParameters, _, _) = open(&app, &parts, id).await?;
        let total = count(&mut reading, child).await?;
        let (order, place) = match (asked.after, total) {
            (None, Some(_)) => (Order::Latest, None),
            (None, None) => (Order::Topic, None),
            (Some(Position::Latest(time, topic)), Some(_)) => (Order::Latest, Some((time, topic))),
            (Some(Position::Latest(..)), None) => return Err(UNSORTED),
            // A client that began with this order goes on with it.
            (Some(Position::Topic(topic)), _) => {
                (Order::Topic, Some((DateTime::UNIX_EPOCH, topic)))
            }
            (Some(_), _) => return Err(FOREIGN),
        };
        let (topics, next) = page(&mut reading, child, order, place).await?;
        Ok(ChildTopics {
            child_id: child.uuid(),
            order,
            total,
            topics,
            more: next.is_some(),
            next: next.as_ref().map(Position::to_string),
        })
    })
    .await
}

/// How many topics there are, unless there are too many to sort.
async fn count(reading: &mut Reading, child: ChildId) -> Result<Option<u64>, Problem> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM topic_progress WHERE child_id = $1 LIMIT $2 + 1) AS topics",
    )
    .bind(child.uuid())
    .bind(SORTED)
    .fetch_one(&mut *reading.tx)
    .await?;
    Ok((count <= SORTED).then_some(count.unsigned_abs()))
}

/// The first topics after a position, and where the next page goes on.
async fn page(
    reading: &mut Reading,
    child: ChildId,
    order: Order,
    after: Option<(DateTime<Utc>, String)>,
) -> Result<(Box<RawValue>, Option<Position>), Problem> {
    let (columns, place) = match order {
        Order::Latest => (
            "last_seen_at DESC, topic",
            "$3 IS NULL OR last_seen_at < $2 OR (last_seen_at = $2 AND topic > $3)",
        ),
        // No topic is blank.
        Order::Topic => ("topic", "topic > coalesce($3, '')"),
    };
    let rows = format!(
        "SELECT last_seen_at, topic, row_to_json(t)::text AS json FROM (
             SELECT {TOPIC} FROM topic_progress WHERE child_id = $1 AND ({place})
             ORDER BY {columns} LIMIT {TOPICS} + 1
         ) AS t",
        TOPIC = Topic::COLUMNS,
    );
    let page = Page {
        rows: &rows,
        keys: "last_seen_at, topic",
        order: columns,
        most: TOPICS,
        bytes: BYTES,
    };
    let (time, topic) = after.unzip();
    let found: Vec<(String, i64, DateTime<Utc>, String)> = sqlx::query_as(page.sql())
        .bind(child.uuid())
        .bind(time)
        .bind(topic)
        .fetch_all(&mut *reading.tx)
        .await?;
    let next = found
        .last()
        .filter(|(_, count, ..)| *count > found.len() as i64);
    let next = next.map(|(_, _, time, topic)| match order {
        Order::Latest => Position::Latest(*time, topic.clone()),
        Order::Topic => Position::Topic(topic.clone()),
    });
    let topics = rows::array(found.iter().map(|(json, ..)| json.as_str()))?;
    Ok((topics, next))
}
