//! The ready-made views on data small enough to work them out by hand.

use crate::bed::Bed;

/// Inserts rows given as JSON without braces, each an event of its own.
async fn insert(bed: &Bed, rows: &[&str]) {
    let mut sql = "INSERT INTO events FORMAT JSONEachRow\n".to_owned();
    for (number, row) in (1..).zip(rows) {
        sql += &format!(
            r#"{{"event_id": "00000000-0000-0000-0000-{number:012x}", "kafka_offset": {number}, "received_at": "2026-11-01 00:00:00", {row}}}"#
        );
        sql.push('\n');
    }
    bed.test.clickhouse.query_raw(&sql).execute().await.unwrap();
}

/// Rows as ClickHouse prints them.
async fn rows(bed: &Bed, sql: &str) -> Vec<String> {
    let sql = format!("SELECT toString(tuple(*)) FROM ({sql})");
    bed.test.clickhouse.query(&sql).fetch_all().await.unwrap()
}

const A: &str = r#""child_id": "00000000-0000-0000-0000-00000000000a", "age_group": "wonder_cubs""#;
const B: &str =
    r#""child_id": "00000000-0000-0000-0000-00000000000b", "age_group": "mind_masters""#;
const C: &str =
    r#""child_id": "00000000-0000-0000-0000-00000000000c", "age_group": "curious_explorers""#;
const D: &str =
    r#""child_id": "00000000-0000-0000-0000-00000000000d", "age_group": "curious_explorers""#;

fn interaction(child: &str, date: &str, action: &str, rest: &str) -> String {
    format!(
        r#"{child}, "event_type": "interaction", "local_date": "{date}", "interaction_action": "{action}"{rest}"#
    )
}

fn message(child: &str, date: &str, role: &str, rest: &str) -> String {
    format!(r#"{child}, "event_type": "message", "local_date": "{date}", "role": "{role}"{rest}"#)
}

fn speech(child: &str, date: &str, child_words: u32, rest: &str) -> String {
    format!(
        r#"{child}, "event_type": "speech", "local_date": "{date}", "child_words": {child_words}{rest}"#
    )
}

fn session(child: &str, date: &str, action: &str, active_ms: u32) -> String {
    format!(
        r#"{child}, "event_type": "session", "local_date": "{date}", "session_action": "{action}", "active_ms": {active_ms}"#
    )
}

async fn insert_all(bed: &Bed, rows: &[String]) {
    insert(bed, &rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daily_active_children() {
    let bed = Bed::new().await;
    let day = |child, date| interaction(child, date, "answer", "");
    let events = [
        interaction(A, "2026-03-02", "view", ""), // looking is not being active
        message(A, "2026-03-02", "user", ""),
        session(B, "2026-03-02", "start", 0),
        session(B, "2026-03-02", "heartbeat", 90_000),
        speech(C, "2026-03-02", 0, ""), // a silent child
        day(B, "2026-03-03"),
        speech(C, "2026-03-03", 3, ""),
        message(A, "2026-03-03", "assistant", ""),
    ];
    insert_all(&bed, &events).await;
    insert_all(&bed, &events[..6]).await; // copies
    assert_eq!(
        rows(&bed, "SELECT * FROM daily_active_children").await,
        [
            // date, children, active, by age group, sessions, minutes, events
            "('2026-03-02',3,1,1,0,0,1,1.5,5)",
            "('2026-03-03',3,2,0,1,1,0,0,3)",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_cohorts() {
    let bed = Bed::new().await;
    let active = |child, date| interaction(child, date, "answer", "");
    insert_all(
        &bed,
        &[
            active(A, "2026-03-02"), // a Monday
            active(A, "2026-03-08"), // the Sunday of the same week
            active(A, "2026-03-16"),
            active(B, "2026-03-04"),
            active(B, "2026-03-09"),
            active(C, "2026-03-10"),
            interaction(D, "2026-03-10", "view", ""), // never active
        ],
    )
    .await;
    assert_eq!(
        rows(&bed, "SELECT * FROM retention_cohorts").await,
        [
            // cohort, week, size, active, share
            "('2026-03-02',0,2,2,1)",
            "('2026-03-02',1,2,1,0.5)", // B
            "('2026-03-02',2,2,1,0.5)", // A
            "('2026-03-09',0,1,1,1)",
            "('2026-03-09',1,1,0,0)", // C did not come back
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_performance() {
    let bed = Bed::new().await;
    let on = |child, action, rest| {
        let content = r#", "subject": "math", "topic": "fractions", "activity_id": "00000000-0000-0000-0000-0000000000ac""#;
        interaction(child, "2026-03-02", action, &format!("{content}{rest}"))
    };
    insert_all(
        &bed,
        &[
            on(A, "start", ""),
            on(
                A,
                "answer",
                r#", "is_correct": true, "response_time_ms": 2000"#,
            ),
            on(
                A,
                "answer",
                r#", "is_correct": false, "response_time_ms": 4000"#,
            ),
            on(A, "hint", ""),
            on(A, "complete", r#", "duration_ms": 120000"#),
            on(A, "rate", r#", "rating": 4, "difficulty": 2"#),
            on(B, "start", r#", "difficulty": 4"#),
            on(B, "skip", ""),
            interaction(C, "2026-03-02", "view", ""),
        ],
    )
    .await;
    assert_eq!(
        rows(&bed, "SELECT * FROM content_performance ORDER BY subject").await,
        [
            "('general',NULL,NULL,1,1,0,0,NULL,0,0,NULL,0,0,NULL,0,NULL,NULL,0)",
            // children, interactions, starts, completions, rate, answers, correct, accuracy,
            // hints, skips, seconds, minutes, difficulty, rating, ratings
            "('math','fractions','00000000-0000-0000-0000-0000000000ac',2,8,2,1,0.5,2,1,0.5,1,1,3,2,3,4,1)",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn learning_effectiveness() {
    let bed = Bed::new().await;
    let answer = |child, minute, is_correct| {
        interaction(
            child,
            "2026-03-02",
            "answer",
            &format!(
                r#", "topic": "fractions", "event_time": "2026-03-02 10:{minute:02}:00", "is_correct": {is_correct}"#
            ),
        )
    };
    insert_all(
        &bed,
        &[
            // A, out of order: wrong | right right
            answer(A, 3, true),
            answer(A, 1, false),
            answer(A, 2, true),
            // B: right wrong | right right
            answer(B, 1, true),
            answer(B, 2, false),
            answer(B, 3, true),
            answer(B, 4, true),
            // D: right | wrong
            answer(D, 1, true),
            answer(D, 2, false),
            // C gave one answer
            answer(C, 1, false),
        ],
    )
    .await;
    assert_eq!(
        rows(
            &bed,
            "SELECT * REPLACE round(gain, 6) AS gain FROM learning_effectiveness"
        )
        .await,
        // children, answers, earlier (0+1+1)/(1+2+1), later (2+2+0)/(2+2+1), gain, improved
        ["('general','fractions',3,9,0.5,0.8,0.3,2)"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_development() {
    let bed = Bed::new().await;
    insert_all(
        &bed,
        &[
            speech(
                A,
                "2026-03-02",
                10,
                r#", "window_ms": 60000, "adult_words": 30, "child_vocalizations": 1, "conversational_turns": 4, "utterances": 5, "unique_words": 8, "new_words": 2"#,
            ),
            speech(
                A,
                "2026-03-08",
                20,
                r#", "window_ms": 120000, "adult_words": 0, "child_vocalizations": 2, "conversational_turns": 2, "utterances": 5, "unique_words": 12, "new_words": 1"#,
            ),
            speech(
                A,
                "2026-03-09",
                0,
                r#", "window_ms": 30000, "adult_words": 0, "child_vocalizations": 0, "conversational_turns": 0, "utterances": 0, "unique_words": 0, "new_words": 0"#,
            ),
        ],
    )
    .await;
    assert_eq!(
        rows(
            &bed,
            "SELECT * EXCEPT child_id FROM speech_development ORDER BY week_start"
        )
        .await,
        [
            // windows, minutes, child, adult, vocalisations, turns, utterances, new, max unique,
            // words a minute, turns a minute, share, words an utterance
            "('2026-03-02','wonder_cubs',2,3,30,30,3,6,10,3,12,10,2,0.5,3)",
            "('2026-03-09','wonder_cubs',1,0.5,0,0,0,0,0,0,0,0,0,NULL,NULL)",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_depth() {
    let bed = Bed::new().await;
    let turn = |role, at, rest: &str| {
        message(
            A,
            "2026-03-02",
            role,
            &format!(
                r#", "conversation_id": "00000000-0000-0000-0000-0000000000cc", "event_time": "2026-03-02 10:{at}", {rest}"#
            ),
        )
    };
    insert_all(
        &bed,
        &[
            turn("user", "00:00", r#""words": 5, "topic": "dinosaurs", "depth_level": 1, "is_question": true, "is_free_form": true, "aha_moment": false, "was_filtered": false"#),
            turn("assistant", "00:30", r#""words": 20, "topic": "space", "depth_level": 2, "tokens_used": 100, "is_question": true, "is_free_form": false, "aha_moment": false, "was_filtered": false"#),
            turn("user", "01:30", r#""words": 3, "depth_level": 6, "is_question": false, "is_free_form": false, "aha_moment": true, "was_filtered": true"#),
        ],
    )
    .await;
    assert_eq!(
        rows(
            &bed,
            "SELECT * EXCEPT (child_id, conversation_id) FROM conversation_depth"
        )
        .await,
        // age group, start, minutes, topics, messages, of the child, of the assistant, questions,
        // free form, words of the child, depth, aha, filtered, tokens
        [
            "('wonder_cubs','2026-03-02 10:00:00.000',1.5,['dinosaurs','space'],3,2,1,1,1,8,6,1,1,100)"
        ]
    );
}
