//! The tables of PostgreSQL (docs/contract.md, "PostgreSQL"), row by row.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta};
use serde_json::{Map, Value, json};

use super::{ChildInfo, id_day, identity, occurred_at};

/// Rows of a table by their primary key, its parts separated by `|`; column names to values.
pub type Rows = BTreeMap<String, Map<String, Value>>;

/// An event with its event time and local date, ready to be counted.
#[derive(Clone, Debug)]
pub struct Counted<'a> {
    /// As sent.
    pub event: &'a Value,
    /// Whose.
    pub child: &'a ChildInfo,
    /// The server's clock at the copy that counts, Unix milliseconds.
    pub received_at: i64,
    /// Unix milliseconds.
    pub event_time: i64,
}

/// Every table, without `updated_at` and what only a store can know.
#[derive(Debug, Default, PartialEq)]
pub struct Tables {
    /// `daily_child_metrics`; times as Unix milliseconds.
    pub daily: Rows,
    /// `learning_analytics`.
    pub learning: Rows,
    /// `topic_progress`; times as Unix milliseconds, `mastery_score` as text.
    pub topics: Rows,
    /// `streaks`; `active_days` as text.
    pub streaks: Rows,
    /// ClickHouse's `history`, by identity, NULLs left out; times as Unix milliseconds.
    pub history: Rows,
}

/// Counts the events, each given once, into every table.
#[must_use]
pub fn tables<'a>(events: impl IntoIterator<Item = Counted<'a>>) -> Tables {
    let mut tables = Tables::default();
    let mut active_days: BTreeMap<String, BTreeSet<NaiveDate>> = BTreeMap::new();
    for counted in events {
        let event = counted.event;
        let child = event["child_id"].as_str().unwrap_or_default().to_owned();
        let day = DateTime::from_timestamp_millis(counted.event_time)
            .unwrap_or_default()
            .with_timezone(&counted.child.zone)
            .date_naive();
        daily(&mut tables.daily, &format!("{child}|{day}"), &counted);
        if event["type"] == "interaction" {
            let subject = event["data"]["subject"].as_str().unwrap_or("general");
            learning(
                &mut tables.learning,
                &format!("{child}|{day}|{subject}"),
                &counted,
            );
        }
        if let Some(topic) = event["data"]["topic"].as_str() {
            topic_progress(&mut tables.topics, &format!("{child}|{topic}"), &counted);
        }
        if qualifies(event) {
            active_days.entry(child.clone()).or_default().insert(day);
        }
        if counted.child.consents.analytics {
            tables
                .history
                .insert(identity(event), history(&counted, day));
        }
    }
    for row in tables.topics.values_mut() {
        let (right, answers) = (number(row, "correct_answers"), number(row, "answers"));
        let (above, below) = (10_000 * (right + 1), answers + 2);
        let rounded = (2 * above + below) / (2 * below);
        let score = format!("{}.{:02}", rounded / 100, rounded % 100);
        let score = if answers > 0 {
            json!(score)
        } else {
            Value::Null
        };
        row.insert("mastery_score".to_owned(), score);
    }
    for row in tables.daily.values_mut() {
        for set in ["topics", "badges"] {
            cut(row, set);
        }
    }
    for (child, days) in active_days {
        tables.streaks.insert(child, streak(&days));
    }
    tables
}

fn qualifies(event: &Value) -> bool {
    let data = &event["data"];
    match event["type"].as_str() {
        Some("interaction") => data["action"] != "view",
        Some("message") => data["role"] == "user",
        Some("speech") => data["child_words"].as_i64().unwrap_or(0) > 0,
        _ => false,
    }
}

fn row<'a>(
    rows: &'a mut Rows,
    key: &str,
    zeros: &[&str],
    nulls: &[&str],
) -> &'a mut Map<String, Value> {
    rows.entry(key.to_owned()).or_insert_with(|| {
        let zeros = zeros.iter().map(|name| ((*name).to_owned(), json!(0)));
        let nulls = nulls.iter().map(|name| ((*name).to_owned(), Value::Null));
        zeros.chain(nulls).collect()
    })
}

fn number(row: &Map<String, Value>, name: &str) -> i64 {
    row.get(name).and_then(Value::as_i64).unwrap_or(0)
}

fn add(row: &mut Map<String, Value>, name: &str, by: i64) {
    row.insert(name.to_owned(), json!(number(row, name) + by));
}

fn add_if(row: &mut Map<String, Value>, name: &str, condition: bool) {
    add(row, name, i64::from(condition));
}

/// Adds the value where there is one, and counts it.
fn add_given(row: &mut Map<String, Value>, sum: &str, count: &str, value: Option<i64>) {
    add(row, sum, value.unwrap_or(0));
    add_if(row, count, value.is_some());
}

fn keep(row: &mut Map<String, Value>, name: &str, value: Option<i64>, better: fn(i64, i64) -> i64) {
    if let Some(value) = value {
        let before = row.get(name).and_then(Value::as_i64);
        row.insert(
            name.to_owned(),
            json!(before.map_or(value, |before| better(before, value))),
        );
    }
}

fn include(row: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    let mut texts: BTreeSet<String> = row
        .get(name)
        .and_then(|texts| serde_json::from_value(texts.clone()).ok())
        .unwrap_or_default();
    texts.extend(text.map(str::to_owned));
    row.insert(name.to_owned(), json!(texts));
}

/// Leaves the first 256, and says whether there were others.
fn cut(row: &mut Map<String, Value>, name: &str) {
    if let Some(Value::Array(texts)) = row.get_mut(name) {
        let more = texts.len() > 256;
        texts.truncate(256);
        row.insert(format!("{name}_more"), json!(more));
    }
}

fn actions(row: &mut Map<String, Value>, data: &Value) {
    let action = data["action"].as_str().unwrap_or_default();
    add(row, "interactions", 1);
    add_if(row, "starts", action == "start");
    add_if(row, "answers", action == "answer");
    add_if(
        row,
        "correct_answers",
        action == "answer" && data["is_correct"] == true,
    );
    add_if(row, "hints", action == "hint");
    add_if(row, "skips", action == "skip");
    add_if(row, "completions", action == "complete");
    let response = data["response_time_ms"]
        .as_i64()
        .filter(|_| action == "answer");
    add_given(row, "response_time_ms", "response_time_count", response);
}

fn daily(rows: &mut Rows, key: &str, counted: &Counted<'_>) {
    let data = &counted.event["data"];
    let int = |name: &str| data[name].as_i64();
    let sum = |name: &str| int(name).unwrap_or(0);
    let row = row(
        rows,
        key,
        &[
            "events",
            "sessions",
            "active_ms",
            "interactions",
            "starts",
            "answers",
            "correct_answers",
            "hints",
            "skips",
            "completions",
            "response_time_ms",
            "response_time_count",
            "xp",
            "stars",
            "messages_sent",
            "messages_received",
            "questions_asked",
            "conversations_started",
            "aha_moments",
            "messages_filtered",
            "tokens_used",
            "speech_windows",
            "speech_ms",
            "child_words",
            "adult_words",
            "conversational_turns",
            "child_vocalizations",
            "utterances",
            "new_words",
            "qualifying_events",
            "withheld_events",
            "speech_qualifying_events",
            "speech_withheld_events",
        ],
        &[
            "max_depth",
            "max_unique_words",
            "other_first_event_at",
            "other_last_event_at",
        ],
    );
    add(row, "events", 1);
    let is_withheld = !counted.child.consents.analytics;
    add_if(row, "withheld_events", is_withheld);
    add_if(row, "qualifying_events", qualifies(counted.event));
    if counted.event["type"] == "speech" {
        add_if(row, "speech_withheld_events", is_withheld);
        add_if(row, "speech_qualifying_events", qualifies(counted.event));
    } else {
        let time = Some(counted.event_time);
        keep(row, "other_first_event_at", time, i64::min);
        keep(row, "other_last_event_at", time, i64::max);
    }
    keep(row, "first_event_at", Some(counted.event_time), i64::min);
    keep(row, "last_event_at", Some(counted.event_time), i64::max);
    include(row, "topics", data["topic"].as_str());
    include(row, "badges", data["badge"].as_str());
    match counted.event["type"].as_str() {
        Some("session") => {
            add_if(row, "sessions", data["action"] == "start");
            add(row, "active_ms", sum("active_ms"));
        }
        Some("interaction") => {
            actions(row, data);
            add(row, "xp", sum("xp"));
            add(row, "stars", sum("stars"));
        }
        Some("message") => {
            let by_child = data["role"] == "user";
            add_if(row, "messages_sent", by_child);
            add_if(row, "messages_received", data["role"] == "assistant");
            add_if(
                row,
                "questions_asked",
                by_child && data["is_question"] == true,
            );
            add_if(row, "conversations_started", data["sequence"] == 1);
            add_if(row, "aha_moments", data["aha_moment"] == true);
            add_if(row, "messages_filtered", data["was_filtered"] == true);
            add(row, "tokens_used", sum("tokens_used"));
            keep(row, "max_depth", int("depth_level"), i64::max);
        }
        _ => {
            add(row, "speech_windows", 1);
            add(row, "speech_ms", sum("window_ms"));
            for name in [
                "child_words",
                "adult_words",
                "conversational_turns",
                "child_vocalizations",
                "utterances",
                "new_words",
            ] {
                add(row, name, sum(name));
            }
            keep(row, "max_unique_words", Some(sum("unique_words")), i64::max);
        }
    }
}

fn learning(rows: &mut Rows, key: &str, counted: &Counted<'_>) {
    let data = &counted.event["data"];
    let row = row(rows, key, &[], &[]);
    actions(row, data);
    add_if(row, "withheld_events", !counted.child.consents.analytics);
    add(
        row,
        "duration_ms",
        data["duration_ms"].as_i64().unwrap_or(0),
    );
    add_given(
        row,
        "difficulty_sum",
        "difficulty_count",
        data["difficulty"].as_i64(),
    );
    add_given(row, "rating_sum", "rating_count", data["rating"].as_i64());
    let milli = data["confidence"]
        .as_f64()
        .map(|confidence| (confidence * 1_000.0).round() as i64);
    add_given(row, "confidence_milli_sum", "confidence_count", milli);
}

fn topic_progress(rows: &mut Rows, key: &str, counted: &Counted<'_>) {
    let data = &counted.event["data"];
    let row = row(
        rows,
        key,
        &[
            "interactions",
            "answers",
            "correct_answers",
            "duration_ms",
            "messages",
            "questions_asked",
            "conversations",
        ],
        &["max_depth", "first_depth_5_at"],
    );
    let time = Some(counted.event_time);
    add_if(row, "withheld_events", !counted.child.consents.analytics);
    keep(row, "first_seen_at", time, i64::min);
    keep(row, "last_seen_at", time, i64::max);
    if counted.event["type"] == "interaction" {
        let answer = data["action"] == "answer";
        add(row, "interactions", 1);
        add_if(row, "answers", answer);
        add_if(row, "correct_answers", answer && data["is_correct"] == true);
        add(
            row,
            "duration_ms",
            data["duration_ms"].as_i64().unwrap_or(0),
        );
    } else {
        let depth = data["depth_level"].as_i64();
        add(row, "messages", 1);
        add_if(
            row,
            "questions_asked",
            data["role"] == "user" && data["is_question"] == true,
        );
        add_if(row, "conversations", data["sequence"] == 1);
        keep(row, "max_depth", depth, i64::max);
        keep(
            row,
            "first_depth_5_at",
            time.filter(|_| depth >= Some(5)),
            i64::min,
        );
    }
}

/// Streak rule 1, day by day.
fn streak(days: &BTreeSet<NaiveDate>) -> Map<String, Value> {
    let (mut current, mut longest, mut freezes) = (0, 0, 0);
    let mut started_on = NaiveDate::default();
    let mut last: Option<NaiveDate> = None;
    let mut ranges: Vec<(NaiveDate, NaiveDate)> = Vec::new();
    for day in days.iter().copied() {
        let missing = last.map(|last| (day - last).num_days() - 1);
        match missing {
            Some(0) => current += 1,
            Some(missing) if missing <= freezes => {
                freezes -= missing;
                current += 1;
            }
            _ => {
                current = 1;
                started_on = day;
            }
        }
        if current % 7 == 0 {
            freezes = (freezes + 1).min(2);
        }
        longest = longest.max(current);
        last = Some(day);
        match ranges.last_mut() {
            Some((_, end)) if *end == day => *end = day + TimeDelta::days(1),
            _ => ranges.push((day, day + TimeDelta::days(1))),
        }
    }
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(from, to)| format!("[{from},{to})"))
        .collect();
    let row = json!({
        "current_streak": current, "longest_streak": longest, "freezes_available": freezes,
        "streak_started_on": started_on, "last_active_date": last, "rule_version": 1,
        "active_days": format!("{{{}}}", ranges.join(",")),
    });
    row.as_object().cloned().unwrap_or_default()
}

fn history(counted: &Counted<'_>, day: NaiveDate) -> Map<String, Value> {
    const MESSAGE_FLAGS: [&str; 4] = ["is_question", "is_free_form", "aha_moment", "was_filtered"];
    const SPEECH_COUNTS: [&str; 7] = [
        "child_words",
        "adult_words",
        "child_vocalizations",
        "conversational_turns",
        "utterances",
        "unique_words",
        "new_words",
    ];
    let event = counted.event;
    let data = &event["data"];
    let mut row = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            row.insert(name.to_owned(), value);
        }
    };
    set("event_id", event["id"].clone());
    set("event_type", event["type"].clone());
    set("id_day", json!(id_day(event)));
    set("child_id", event["child_id"].clone());
    set("parent_id", json!(counted.child.parent_id));
    set("age_group", json!(counted.child.age_group));
    set("session_id", event["session_id"].clone());
    set("occurred_at", json!(occurred_at(event)));
    set("event_time", json!(counted.event_time));
    set("received_at", json!(counted.received_at));
    set("local_date", json!(day));
    for name in ["id", "platform", "app_version"] {
        set(&format!("device_{name}"), event["device"][name].clone());
    }
    let attributes = event["attributes"].as_object().into_iter().flatten();
    let attributes: Map<String, Value> = attributes
        .map(|(key, value)| {
            (
                key.clone(),
                json!(value.as_str().map_or(value.to_string(), str::to_owned)),
            )
        })
        .collect();
    set("attributes", Value::Object(attributes));
    let copied: &[&str] = match event["type"].as_str() {
        Some("interaction") => {
            set("interaction_action", data["action"].clone());
            &[
                "activity_id",
                "subject",
                "topic",
                "is_correct",
                "response_time_ms",
                "duration_ms",
                "confidence",
                "difficulty",
                "rating",
                "xp",
                "stars",
                "badge",
            ]
        }
        Some("message") => {
            for name in MESSAGE_FLAGS {
                set(name, json!(data[name] == true));
            }
            if let Some(content) = data["content"].as_str() {
                set("chars", json!(content.chars().count()));
                set("words", json!(content.split_whitespace().count()));
            }
            &[
                "conversation_id",
                "sequence",
                "role",
                "topic",
                "selected_choice",
                "depth_level",
                "tokens_used",
                "processing_time_ms",
                "filter_reason",
            ]
        }
        Some("speech") => {
            for name in SPEECH_COUNTS {
                set(name, json!(data[name].as_i64().unwrap_or(0)));
            }
            &[
                "audio_session_id",
                "window_ms",
                "snr_db",
                "language",
                "model_version",
            ]
        }
        _ => {
            set("session_action", data["action"].clone());
            set("active_ms", json!(data["active_ms"].as_i64().unwrap_or(0)));
            &["kind", "device_type"]
        }
    };
    for name in copied {
        set(name, data[*name].clone());
    }
    row
}
