//! What a live stream sends of a child, as JSON and as the OpenAPI document describes it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rivulet_events::ChildId;
use rivulet_zones::Zone;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Array, Object, OneOf, Ref, RefOr, Schema, Type},
};
use uuid::Uuid;

use crate::{rows::Day, streak::Streak};

/// An event of a live stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct LiveEvent {
    event: EventName,
    /// For `Last-Event-ID`.
    id: String,
    /// The JSON of an `Update`.
    data: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum EventName {
    Update,
}

/// What is new of a child: the `data` of an event of a live stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct Update<'a> {
    child_id: Uuid,
    /// The family's time zone, by its IANA name.
    timezone: &'static str,
    /// Today's date in that time zone.
    today: NaiveDate,
    /// Whether this is all there is of the child's days from `from` on, whatever was told before. Otherwise it is
    /// what has changed since this stream's last update of the child.
    whole: bool,
    /// Given where `whole` is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<NaiveDate>,
    /// Those that changed: as they are now, or, where they are `partial`, what of them changed.
    #[schema(schema_with = days)]
    pub(crate) days: Vec<Box<RawValue>>,
    /// Days without events, whatever was told of them before.
    pub(crate) empty: Vec<NaiveDate>,
    /// As it is now; null where the family is shown none. Not given where nothing of it has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Streak>)]
    pub(crate) streak: Option<&'a RawValue>,
}

impl Update<'_> {
    /// An update without content yet. With `from` it is whole.
    pub(crate) fn new(
        child: ChildId,
        timezone: Zone,
        today: NaiveDate,
        from: Option<NaiveDate>,
    ) -> Self {
        Self {
            child_id: child.uuid(),
            timezone: timezone.name(),
            today,
            whole: from.is_some(),
            from,
            days: Vec::new(),
            empty: Vec::new(),
            streak: None,
        }
    }
}

fn days() -> Array {
    let either = OneOf::builder()
        .item(Ref::from_schema_name(Day::name()))
        .item(Ref::from_schema_name(DayDifference::name()));
    Array::builder().items(either).build()
}

/// As the OpenAPI document says it.
const PARTIAL: &str = "What has changed of a child's day: `events` in any case, and the other columns that are not as they \
    were. In place of a list that is longer than its changes, what came to it and what went from it.";

/// What has changed of a day: the columns that are another value now, and `events` in any case.
pub(crate) struct DayDifference;

impl ToSchema for DayDifference {}

impl PartialSchema for DayDifference {
    fn schema() -> RefOr<Schema> {
        let mut day = Day::schema();
        if let RefOr::T(Schema::Object(day)) = &mut day {
            let is_list = |column: &RefOr<Schema>| matches!(column, RefOr::T(Schema::Array(_)));
            let lists: Vec<_> = day
                .properties
                .iter()
                .filter(|(_, column)| is_list(column))
                .collect();
            let changes: Vec<_> = lists
                .into_iter()
                .flat_map(|(name, _)| ["added", "removed"].map(|change| format!("{name}_{change}")))
                .collect();
            for name in changes {
                day.properties.insert(name, Vec::<String>::schema());
            }
            // No enum of `true` alone: a generator of Java makes of it what does not compile.
            let partial = Object::builder()
                .schema_type(Type::Boolean)
                .description(Some("Always true: other columns are as they were."));
            day.properties
                .insert("partial".to_owned(), partial.build().into());
            day.required = ["local_date", "events", "partial"]
                .map(str::to_owned)
                .into();
            day.description = Some(PARTIAL.to_owned());
        }
        day
    }
}

/// What has changed of a row, as JSON.
pub(crate) fn difference(before: &RawValue, now: &RawValue) -> serde_json::Result<Box<RawValue>> {
    type Columns<'a> = BTreeMap<&'a str, &'a RawValue>;
    let before: Columns<'_> = serde_json::from_str(before.get())?;
    let mut now: Columns<'_> = serde_json::from_str(now.get())?;
    let mut told = Vec::new();
    for name in ["local_date", "events"] {
        let value = now.remove(name).map_or("null", RawValue::get);
        told.push(format!(r#""{name}":{value}"#));
    }
    told.push(r#""partial":true"#.to_owned());
    for (name, value) in now {
        let (value, was) = (value.get(), before.get(name).map(|was| was.get()));
        if was == Some(value) {
            continue;
        }
        let column = format!(r#""{name}":{value}"#);
        let changes = match was {
            Some(was) if value.starts_with('[') => changes(name, was, value)?,
            _ => None,
        };
        told.push(
            changes
                .filter(|changes| changes.len() < column.len())
                .unwrap_or(column),
        );
    }
    RawValue::from_string(format!("{{{}}}", told.join(",")))
}

/// What was added to a list of distinct texts, and what was removed from it.
fn changes(name: &str, before: &str, now: &str) -> serde_json::Result<Option<String>> {
    let before: BTreeSet<String> = serde_json::from_str(before)?;
    let now: BTreeSet<String> = serde_json::from_str(now)?;
    let mut told = Vec::new();
    for (change, texts) in [
        ("added", now.difference(&before).collect::<Vec<_>>()),
        ("removed", before.difference(&now).collect()),
    ] {
        if !texts.is_empty() {
            told.push(format!(
                r#""{name}_{change}":{}"#,
                serde_json::to_string(&texts)?
            ));
        }
    }
    Ok((!told.is_empty()).then(|| told.join(",")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(before: &Value, now: &Value) -> Value {
        let row = |row: &Value| serde_json::value::to_raw_value(row).unwrap();
        let told = difference(&row(before), &row(now)).unwrap();
        serde_json::from_str(told.get()).unwrap()
    }

    #[test]
    fn a_difference_has_what_changed_and_is_never_longer_than_the_columns() {
        let texts = |from: u32, to: u32| (from..to).map(|n| format!("{n:03} \"é\"")).collect();
        let before: Vec<String> = texts(0, 100);
        let now: Vec<String> = texts(1, 102);
        let day = json!({"local_date": "2026-05-04", "events": 4, "xp": 0, "max_depth": null, "topics": before});
        let mut next = day.clone();
        let same = json!({"local_date": "2026-05-04", "events": 4, "partial": true});
        assert_eq!(told(&day, &next), same);
        next["max_depth"] = json!(3);
        next["topics"] = json!(now);
        let (added, removed) = (&now[99..], &before[..1]);
        assert_eq!(
            told(&day, &next),
            json!({"local_date": "2026-05-04", "events": 4, "partial": true, "max_depth": 3,
                   "topics_added": added, "topics_removed": removed})
        );
        next["topics"] = json!(texts(100, 102) as Vec<String>);
        assert_eq!(told(&day, &next)["topics"], next["topics"]);
        next["topics"] = json!([]);
        assert_eq!(told(&day, &next)["topics"], json!([]));
    }

    #[test]
    fn the_schema_of_a_difference_names_what_one_may_have() {
        let schema = serde_json::to_value(DayDifference::schema()).unwrap();
        assert_eq!(
            schema["required"],
            json!(["local_date", "events", "partial"])
        );
        for (name, kind) in [
            ("xp", "integer"),
            ("topics", "array"),
            ("badges_removed", "array"),
        ] {
            assert_eq!(schema["properties"][name]["type"], kind, "{name}");
        }
        assert_eq!(schema["properties"]["partial"]["type"], "boolean");
    }
}
