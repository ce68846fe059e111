//! What is answered, as JSON and as the OpenAPI document describes it.

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{
    ToSchema,
    openapi::{Array, Ref},
};
use uuid::Uuid;

use crate::{
    date_range::MAX_DAYS,
    period::Period,
    rows::{ChildOfFamily, Day, Metric, Topic},
};

/// Topics of a child in one answer.
pub(crate) const TOPICS: usize = 500;

/// Children of a family in one answer.
pub(crate) const CHILDREN: usize = 100;

/// A child's days.
#[derive(Serialize, ToSchema)]
pub(crate) struct Daily {
    pub(crate) child_id: Uuid,
    /// The family's time zone, by its IANA name.
    pub(crate) timezone: &'static str,
    /// Today's date in that time zone.
    pub(crate) today: NaiveDate,
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
    #[schema(schema_with = days)]
    pub(crate) days: Box<RawValue>,
    /// The `after` that asks for the next answer, if there are more. Null in the last one.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

fn days() -> Array {
    Array::builder()
        .items(Ref::from_schema_name(Day::name()))
        .max_items(usize::try_from(MAX_DAYS).ok())
        .description(Some("Oldest first; a day without events is left out."))
        .build()
}

/// A child's learning by period and subject.
#[derive(Serialize, ToSchema)]
pub(crate) struct Learning {
    pub(crate) child_id: Uuid,
    /// The family's time zone, by its IANA name.
    pub(crate) timezone: &'static str,
    /// Today's date in that time zone.
    pub(crate) today: NaiveDate,
    #[schema(value_type = Period)]
    pub(crate) period: &'static str,
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
    /// Of every period that any of the days is in. None where its denominator is 0.
    #[schema(value_type = Vec<Metric>)]
    pub(crate) metrics: Box<RawValue>,
    /// The `after` that asks for the next answer, if there are more. Null in the last one.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

/// What the topics are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The one that was met last comes first.
    Latest,
    /// By name, bytewise.
    Topic,
}

/// What a child has met.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChildTopics {
    pub(crate) child_id: Uuid,
    /// The order of this answer and of those that go on from it.
    pub(crate) order: Order,
    /// How many topics there are in all; null where there are more than 2 000.
    #[schema(required = true)]
    pub(crate) total: Option<u64>,
    #[schema(schema_with = topics_of_a_child)]
    pub(crate) topics: Box<RawValue>,
    /// Whether there are others, as `next` says.
    pub(crate) more: bool,
    /// The `after` that asks for the next answer, if there are more. Null in the last one.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

fn topics_of_a_child() -> Array {
    Array::builder()
        .items(Ref::from_schema_name(Topic::name()))
        .max_items(Some(TOPICS))
        .description(Some("As `order` says."))
        .build()
}

/// A family's children side by side.
#[derive(Serialize, ToSchema)]
pub(crate) struct Family {
    pub(crate) parent_id: Uuid,
    /// The name of an IANA time zone.
    pub(crate) timezone: &'static str,
    /// Today's date in that time zone.
    pub(crate) today: NaiveDate,
    /// This week's Monday.
    pub(crate) week_start: NaiveDate,
    /// Whether the family is shown streaks.
    pub(crate) streaks: bool,
    #[schema(schema_with = children)]
    pub(crate) children: Box<RawValue>,
    /// The `after` that asks for the next answer, if there are more. Null in the last one.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

fn children() -> Array {
    Array::builder()
        .items(Ref::from_schema_name(ChildOfFamily::name()))
        .max_items(Some(CHILDREN))
        .description(Some("In the order in which they were registered."))
        .build()
}
