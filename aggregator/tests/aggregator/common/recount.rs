//! A naive recount of events into the rows that the tables must hold, and the rows that they do.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rivulet_aggregator::{
    rollup::Rollup,
    streak::{RULE_VERSION, streak},
};
use rivulet_events::{
    Data, EventType, Interaction, InteractionAction, Message, Record, Role, SessionAction,
};
use serde_json::{Value, json};
use sqlx::PgPool;

/// Rows by table and key, without `updated_at`, times as Unix milliseconds.
pub(crate) type Tables = BTreeMap<String, Value>;

/// The distinct events, where copies occur the first.
pub(crate) fn distinct<'r>(
    events: impl IntoIterator<Item = &'r Record<'static>>,
) -> Vec<Record<'static>> {
    let mut seen = BTreeSet::new();
    events
        .into_iter()
        .filter(|event| seen.insert(event.identity()))
        .cloned()
        .collect()
}

fn interactions<'a>(events: &[&'a Record<'static>]) -> Vec<&'a Interaction<'static>> {
    let of = |event: &&'a Record<'static>| match &event.data {
        Data::Interaction(data) => Some(data),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn messages<'a>(events: &[&'a Record<'static>]) -> Vec<(&'a Message<'static>, i64)> {
    let of = |event: &&'a Record<'static>| match &event.data {
        Data::Message(data) => Some((data, event.event_time)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn total(values: impl Iterator<Item = Option<u32>>) -> i64 {
    values.flatten().map(i64::from).sum()
}

/// The first 256 of them, and whether there are others.
fn first(texts: impl Iterator<Item = Option<String>>) -> (Vec<String>, bool) {
    let all: BTreeSet<_> = texts.flatten().collect();
    let more = all.len() > 256;
    (all.into_iter().take(256).collect(), more)
}

fn owned(text: &Option<std::borrow::Cow<'_, str>>) -> Option<String> {
    text.as_deref().map(str::to_owned)
}

fn daily(events: &[&Record<'static>]) -> Value {
    use InteractionAction as A;
    let inter = interactions(events);
    let mess: Vec<_> = messages(events)
        .into_iter()
        .map(|(message, _)| message)
        .collect();
    let spee: Vec<_> = events
        .iter()
        .filter_map(|e| {
            if let Data::Speech(s) = &e.data {
                Some(s)
            } else {
                None
            }
        })
        .collect();
    let sess: Vec<_> = events
        .iter()
        .filter_map(|e| {
            if let Data::Session(s) = &e.data {
                Some(s)
            } else {
                None
            }
        })
        .collect();
    let action = |action| inter.iter().filter(|i| i.action == action).count();
    let role = |role| mess.iter().filter(|m| m.role == role).count();
    let answered = || {
        inter
            .iter()
            .filter(|i| i.action == A::Answer)
            .map(|i| i.response_time_ms)
    };
    let (topics, more_topics) = first(
        inter
            .iter()
            .map(|i| owned(&i.topic))
            .chain(mess.iter().map(|m| owned(&m.topic))),
    );
    let (badges, more_badges) = first(inter.iter().map(|i| owned(&i.badge)));
    let (spoken, other): (Vec<&Record<'static>>, Vec<_>) = events
        .iter()
        .partition(|event| event.event_type == EventType::Speech);
    let mut row = json!({
        "events": events.len(),
        "sessions": sess.iter().filter(|s| s.action == SessionAction::Start).count(),
        "active_ms": total(sess.iter().map(|s| Some(s.active_ms))),
        "interactions": inter.len(),
        "starts": action(A::Start),
        "answers": action(A::Answer),
        "correct_answers": inter.iter().filter(|i| i.is_correct == Some(true)).count(),
        "hints": action(A::Hint),
        "skips": action(A::Skip),
        "completions": action(A::Complete),
        "response_time_ms": total(answered()),
        "response_time_count": answered().flatten().count(),
        "xp": total(inter.iter().map(|i| i.xp.map(u32::from))),
        "stars": total(inter.iter().map(|i| i.stars.map(u32::from))),
        "messages_sent": role(Role::User),
        "messages_received": role(Role::Assistant),
        "questions_asked": mess.iter().filter(|m| m.role == Role::User && m.is_question).count(),
        "conversations_started": mess.iter().filter(|m| m.sequence == 1).count(),
        "aha_moments": mess.iter().filter(|m| m.aha_moment).count(),
        "messages_filtered": mess.iter().filter(|m| m.was_filtered).count(),
        "tokens_used": total(mess.iter().map(|m| m.tokens_used)),
        "max_depth": mess.iter().filter_map(|m| m.depth_level).max(),
        "speech_windows": spee.len(),
        "speech_ms": total(spee.iter().map(|s| Some(s.window_ms))),
        "child_words": total(spee.iter().map(|s| Some(s.child_words))),
        "adult_words": total(spee.iter().map(|s| Some(s.adult_words))),
        "conversational_turns": total(spee.iter().map(|s| Some(s.conversational_turns))),
        "child_vocalizations": total(spee.iter().map(|s| Some(s.child_vocalizations))),
        "utterances": total(spee.iter().map(|s| Some(s.utterances))),
        "new_words": total(spee.iter().map(|s| Some(s.new_words))),
        "max_unique_words": spee.iter().map(|s| s.unique_words).max(),
        "topics": topics, "topics_more": more_topics,
        "badges": badges, "badges_more": more_badges,
        "qualifying_events": events.iter().filter(|e| qualifies(e)).count(),
        "first_event_at": events.iter().map(|e| e.event_time).min(),
        "last_event_at": events.iter().map(|e| e.event_time).max(),
        "withheld_events": withheld(events),
    });
    row["speech_qualifying_events"] = json!(spoken.iter().filter(|e| qualifies(e)).count());
    row["speech_withheld_events"] = json!(withheld(&spoken));
    row["other_first_event_at"] = json!(other.iter().map(|e| e.event_time).min());
    row["other_last_event_at"] = json!(other.iter().map(|e| e.event_time).max());
    row
}

fn qualifies(event: &Record<'_>) -> bool {
    match &event.data {
        Data::Interaction(data) => data.action != InteractionAction::View,
        Data::Message(data) => data.role == Role::User,
        Data::Speech(data) => data.child_words > 0,
        Data::Session(_) => false,
    }
}

fn withheld(events: &[&Record<'static>]) -> usize {
    events.iter().filter(|event| !event.analytics).count()
}

fn learning(events: &[&Record<'static>]) -> Value {
    use InteractionAction as A;
    let inter = interactions(events);
    let action = |action| inter.iter().filter(|i| i.action == action).count();
    let answered = || {
        inter
            .iter()
            .filter(|i| i.action == A::Answer)
            .map(|i| i.response_time_ms)
    };
    // Decimal places as written here; the crate must come to the same.
    let milli = |confidence: f64| match confidence {
        0.0005 => 1,
        0.2345 => 235,
        0.9995 => 1_000,
        other => (other * 1_000.0) as i64,
    };
    json!({
        "interactions": inter.len(),
        "starts": action(A::Start),
        "completions": action(A::Complete),
        "answers": action(A::Answer),
        "correct_answers": inter.iter().filter(|i| i.is_correct == Some(true)).count(),
        "hints": action(A::Hint),
        "skips": action(A::Skip),
        "response_time_ms": total(answered()),
        "response_time_count": answered().flatten().count(),
        "duration_ms": total(inter.iter().map(|i| i.duration_ms)),
        "difficulty_sum": total(inter.iter().map(|i| i.difficulty.map(u32::from))),
        "difficulty_count": inter.iter().filter(|i| i.difficulty.is_some()).count(),
        "rating_sum": total(inter.iter().map(|i| i.rating.map(u32::from))),
        "rating_count": inter.iter().filter(|i| i.rating.is_some()).count(),
        "confidence_milli_sum": inter.iter().filter_map(|i| i.confidence).map(milli).sum::<i64>(),
        "confidence_count": inter.iter().filter(|i| i.confidence.is_some()).count(),
        "withheld_events": withheld(events),
    })
}

fn topic_row(events: &[&Record<'static>]) -> Value {
    let inter = interactions(events);
    let mess = messages(events);
    json!({
        "interactions": inter.len(),
        "answers": inter.iter().filter(|i| i.action == InteractionAction::Answer).count(),
        "correct_answers": inter.iter().filter(|i| i.is_correct == Some(true)).count(),
        "duration_ms": total(inter.iter().map(|i| i.duration_ms)),
        "messages": mess.len(),
        "questions_asked": mess.iter().filter(|(m, _)| m.role == Role::User && m.is_question).count(),
        "conversations": mess.iter().filter(|(m, _)| m.sequence == 1).count(),
        "max_depth": mess.iter().filter_map(|(m, _)| m.depth_level).max(),
        "first_depth_5_at":
            mess.iter().filter(|(m, _)| m.depth_level >= Some(5)).map(|(_, at)| *at).min(),
        "first_seen_at": events.iter().map(|e| e.event_time).min(),
        "last_seen_at": events.iter().map(|e| e.event_time).max(),
        "withheld_events": withheld(events),
    })
}

fn grouped<'a, K: Ord>(
    events: &'a [Record<'static>],
    key: impl Fn(&Record<'static>) -> Option<K>,
) -> BTreeMap<K, Vec<&'a Record<'static>>> {
    let mut groups: BTreeMap<K, Vec<&Record<'static>>> = BTreeMap::new();
    for event in events {
        if let Some(key) = key(event) {
            groups.entry(key).or_default().push(event);
        }
    }
    groups
}

/// The rows of the four tables for these events, each counted once, column by column as
/// docs/contract.md, "PostgreSQL", words them.
pub(crate) fn recount(events: &[Record<'static>]) -> Tables {
    let mut tables = rollup_rows(events);
    let active = grouped(events, |e| qualifies(e).then(|| e.child_id.uuid()));
    for (child, events) in active {
        let days: BTreeSet<NaiveDate> = events.iter().map(|e| e.local_date).collect();
        let row = streak(days.iter().copied()).unwrap();
        tables.insert(
            format!("streaks {child}"),
            json!({
                "current_streak": row.current, "longest_streak": row.longest,
                "streak_started_on": row.started_on, "last_active_date": row.last_active,
                "freezes_available": row.freezes, "rule_version": RULE_VERSION, "active_days": days,
            }),
        );
    }
    tables
}

/// [`recount`] without the streaks, which are no part of a rollup.
pub(crate) fn rollup_rows(events: &[Record<'static>]) -> Tables {
    let mut tables = Tables::new();
    for ((child, date), of) in grouped(events, |e| Some((e.child_id.uuid(), e.local_date))) {
        tables.insert(format!("daily {child} {date}"), daily(&of));
    }
    let subject = |e: &Record<'static>| match &e.data {
        Data::Interaction(data) => {
            let subject = owned(&data.subject).unwrap_or_else(|| "general".to_owned());
            Some((e.child_id.uuid(), e.local_date, subject))
        }
        _ => None,
    };
    for ((child, date, subject), of) in grouped(events, subject) {
        tables.insert(format!("learning {child} {date} {subject}"), learning(&of));
    }
    let topic = |e: &Record<'static>| {
        let topic = match &e.data {
            Data::Interaction(data) => owned(&data.topic),
            Data::Message(data) => owned(&data.topic),
            _ => None,
        };
        Some((e.child_id.uuid(), topic?))
    };
    for ((child, topic), of) in grouped(events, topic) {
        tables.insert(format!("topic {child} {topic}"), topic_row(&of));
    }
    tables
}

fn row(columns: &[&str], sums: &[i64], others: Value) -> Value {
    let Value::Object(mut row) = others else {
        unreachable!()
    };
    row.extend(
        columns
            .iter()
            .zip(sums)
            .map(|(name, sum)| ((*name).to_owned(), json!(sum))),
    );
    Value::Object(row)
}

/// The rows that a rollup holds.
pub(crate) fn rows_of(rollup: &Rollup) -> Tables {
    use rivulet_aggregator::rollup::{DailySums, LearningSums, TopicSums};
    let mut tables = Tables::new();
    for (child, of) in rollup.sorted() {
        let child = child.uuid();
        for (date, day) in &of.days {
            let others = json!({
                "max_depth": day.max_depth, "max_unique_words": day.max_unique_words,
                "topics": day.topics.first().collect::<Vec<_>>(), "topics_more": day.topics.has_more(),
                "badges": day.badges.first().collect::<Vec<_>>(), "badges_more": day.badges.has_more(),
                "first_event_at": day.event_times.first, "last_event_at": day.event_times.last,
                "other_first_event_at": day.other_times.map(|times| times.first),
                "other_last_event_at": day.other_times.map(|times| times.last),
            });
            let values = row(DailySums::COLUMNS, &day.sums.values(), others);
            tables.insert(format!("daily {child} {date}"), values);
            for (subject, sums) in &day.learning {
                let values = row(LearningSums::COLUMNS, &sums.values(), json!({}));
                tables.insert(format!("learning {child} {date} {subject}"), values);
            }
        }
        for (name, topic) in &of.topics {
            let others = json!({
                "max_depth": topic.max_depth, "first_depth_5_at": topic.first_depth_5_at,
                "first_seen_at": topic.event_times.first, "last_seen_at": topic.event_times.last,
            });
            let values = row(TopicSums::COLUMNS, &topic.sums.values(), others);
            tables.insert(format!("topic {child} {name}"), values);
        }
    }
    tables
}

/// The rows that the database holds.
pub(crate) async fn stored(pool: &PgPool) -> Tables {
    const MILLIS: &str = "(extract(epoch FROM {}) * 1000)::bigint";
    let millis = |column: &str| MILLIS.replace("{}", column);
    let read = |table: &str, key: &str, drop: &str, others: String| {
        format!(
            "SELECT {key}, (to_jsonb(t) - ARRAY['updated_at', 'child_id', {drop}] || jsonb_build_object({others}))::text
             FROM {table} t"
        )
    };
    let times = |columns: &[&str]| {
        let pairs = columns
            .iter()
            .map(|column| format!("'{column}', {}", millis(column)));
        pairs.collect::<Vec<_>>().join(", ")
    };
    let active =
        "'active_days', (SELECT jsonb_agg(day::date ORDER BY day) FROM unnest(active_days) r,
                  generate_series(lower(r), upper(r) - 1, interval '1 day') day)";
    let queries = [
        read(
            "daily_child_metrics",
            "'daily ' || child_id || ' ' || local_date",
            "'local_date'",
            times(&[
                "first_event_at",
                "last_event_at",
                "other_first_event_at",
                "other_last_event_at",
            ]),
        ),
        read(
            "learning_analytics",
            "'learning ' || child_id || ' ' || local_date || ' ' || subject",
            "'local_date', 'subject'",
            String::new(),
        ),
        read(
            "topic_progress",
            "'topic ' || child_id || ' ' || topic",
            "'topic', 'mastery_score'",
            times(&["first_depth_5_at", "first_seen_at", "last_seen_at"]),
        ),
        read("streaks", "'streaks ' || child_id", "''", active.to_owned()),
    ];
    let mut tables = Tables::new();
    for query in queries {
        let rows: Vec<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .fetch_all(pool)
            .await
            .unwrap();
        tables.extend(
            rows.into_iter()
                .map(|(key, row)| (key, serde_json::from_str(&row).unwrap())),
        );
    }
    tables
}
