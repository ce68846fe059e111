//! What is answered, as JSON and as the OpenAPI document describes it.

use chrono::NaiveDate;
use rivulet_events::data::AgeGroup;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use utoipa::{
    ToSchema,
    openapi::{Array, Object, Ref, Type},
};
use uuid::Uuid;

use crate::{
    api::{Period, TOPICS},
    range::LONGEST,
    rows::{Day, Metric, Topic, Week},
};

/// A child's days.
#[derive(Serialize, ToSchema)]
pub(crate) struct Daily {
    pub(crate) child_id: Uuid,
    /// The family's: the name of an IANA time zone.
    pub(crate) timezone: &'static str,
    /// The day that it is there.
    pub(crate) today: NaiveDate,
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
    #[schema(schema_with = days)]
    pub(crate) days: Vec<Day>,
}

fn days() -> Array {
    Array::builder()
        .items(Ref::from_schema_name(Day::name()))
        .max_items(usize::try_from(LONGEST).ok())
        .description(Some("Oldest first; a day without events is left out."))
        .build()
}

/// A child's learning by period and subject.
#[derive(Serialize, ToSchema)]
pub(crate) struct Learning {
    pub(crate) child_id: Uuid,
    /// The family's: the name of an IANA time zone.
    pub(crate) timezone: &'static str,
    /// The day that it is there.
    pub(crate) today: NaiveDate,
    #[schema(value_type = Period)]
    pub(crate) period: &'static str,
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
    /// Of every period that any of the days is in. None where its denominator is 0.
    #[schema(value_type = Vec<Metric>)]
    pub(crate) metrics: Box<RawValue>,
}

/// What a child has met.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChildTopics {
    pub(crate) child_id: Uuid,
    #[schema(schema_with = topics_of_a_child)]
    pub(crate) topics: Vec<Value>,
    /// Whether there are others.
    pub(crate) more: bool,
}

fn topics_of_a_child() -> Array {
    Array::builder()
        .items(Ref::from_schema_name(Topic::name()))
        .max_items(Some(TOPICS))
        .description(Some("The latest first."))
        .build()
}

/// A family's children side by side.
#[derive(Serialize, ToSchema)]
pub(crate) struct Family {
    pub(crate) parent_id: Uuid,
    /// The name of an IANA time zone.
    pub(crate) timezone: &'static str,
    /// The day that it is there.
    pub(crate) today: NaiveDate,
    /// This week's Monday.
    pub(crate) week_start: NaiveDate,
    /// Whether the family is shown streaks.
    pub(crate) streaks: bool,
    pub(crate) children: Vec<ChildOfFamily>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ChildOfFamily {
    pub(crate) child_id: Uuid,
    #[schema(schema_with = age_groups)]
    pub(crate) age_group: String,
    /// As a parent sees it; null where the family is shown none.
    #[schema(value_type = Option<u64>, required = true)]
    pub(crate) streak_today: Option<i64>,
    /// Null before the first active day.
    #[schema(required = true)]
    pub(crate) last_active_date: Option<NaiveDate>,
    /// Null without events.
    #[schema(value_type = Option<Week>, required = true)]
    pub(crate) this_week: Option<Value>,
    /// Null without events.
    #[schema(value_type = Option<Week>, required = true)]
    pub(crate) last_week: Option<Value>,
}

fn age_groups() -> Object {
    let groups = AgeGroup::ALL.iter().map(|group| group.as_str());
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(groups))
        .build()
}
