//! Every field of every event type, column by column.

use std::borrow::Cow;

use chrono::NaiveDate;
use rivulet_events::{
    AttributeValue, ConsentVersion, Data, Device, EventType, Interaction, InteractionAction,
    Message, Record, Role, Session, SessionAction, Speech,
    data::{DeviceType, Platform, SessionKind},
};
use uuid::Uuid;

use crate::bed::{Bed, NOW, badge, record};

/// Each column of the row, in the table's order, as ClickHouse prints it.
async fn columns(bed: &Bed, kind: EventType) -> Vec<(String, String)> {
    let names: Vec<String> = bed
        .test
        .clickhouse
        .query("SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'history' ORDER BY position")
        .fetch_all()
        .await
        .unwrap();
    let printed: Vec<String> = names
        .iter()
        .map(|name| format!("ifNull(toString({name}), 'NULL')"))
        .collect();
    let values: Vec<String> = bed
        .test
        .clickhouse
        .query(&format!(
            "SELECT [{}] FROM history WHERE event_type = ?",
            printed.join(", ")
        ))
        .bind(kind.as_str())
        .fetch_one()
        .await
        .unwrap();
    names.into_iter().zip(values).collect()
}

/// The columns that are not NULL, but for those of [`COMMON`].
async fn data(bed: &Bed, kind: EventType) -> Vec<(String, String)> {
    let mut columns = columns(bed, kind).await;
    columns.retain(|(name, value)| value != "NULL" && !COMMON.contains(&name.as_str()));
    columns
}

const COMMON: &[&str] = &[
    "event_id",
    "event_type",
    "id_day",
    "child_id",
    "parent_id",
    "age_group",
    "occurred_at",
    "event_time",
    "received_at",
    "local_date",
    "attributes",
    "kafka_topic",
    "kafka_partition",
    "kafka_offset",
    "topic_incarnation",
];

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn text(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

fn full_interaction() -> Record<'static> {
    let mut record = record(Data::Interaction(Interaction {
        action: InteractionAction::Answer,
        activity_id: Some(id(5)),
        subject: text("mathé"),
        topic: text("fractions"),
        is_correct: Some(false),
        response_time_ms: Some(3_600_000),
        duration_ms: Some(14_400_000),
        confidence: Some(0.1),
        difficulty: Some(5),
        rating: Some(1),
        xp: Some(10_000),
        stars: Some(0),
        badge: text("first 🎖"),
    }));
    record.id = Uuid::parse_str("019caddc-4900-7000-8000-0000000000ff").unwrap(); // 2026-03-02
    record.session_id = Some(id(7));
    record.occurred_at = NOW - 123;
    record.event_time = NOW + 1;
    record.local_date = NaiveDate::from_ymd_opt(2026, 3, 3).unwrap();
    record.consent_version = ConsentVersion::new("2026-01");
    record.device = Some(Device {
        id: text("tablet-1"),
        platform: Some(Platform::Android),
        app_version: text("1.2.3"),
    });
    record.attributes = vec![
        ("text".into(), AttributeValue::Text("yes".into())),
        ("int".into(), AttributeValue::Int(-5)),
        ("float".into(), AttributeValue::Float(0.1)),
        ("whole".into(), AttributeValue::Float(5.0)),
        ("huge".into(), AttributeValue::Float(1e300)),
        ("yes".into(), AttributeValue::Bool(true)),
        ("no".into(), AttributeValue::Bool(false)),
    ];
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_type_arrives() {
    let bed = Bed::new().await;
    let message = record(Data::Message(Message {
        conversation_id: id(9),
        sequence: i64::MAX as u64,
        role: Role::User,
        topic: text("dinosaurs"),
        chars: Some(8_192),
        words: Some(100),
        is_question: true,
        is_free_form: true,
        aha_moment: true,
        was_filtered: true,
        selected_choice: Some(255),
        depth_level: Some(100),
        tokens_used: Some(10_000_000),
        processing_time_ms: Some(1),
        filter_reason: text("unkind"),
    }));
    let speech = record(Data::Speech(Speech {
        audio_session_id: id(11),
        window_ms: 60_000,
        child_words: 1,
        adult_words: 2,
        child_vocalizations: 3,
        conversational_turns: 4,
        utterances: 5,
        unique_words: 6,
        new_words: 100_000,
        snr_db: Some(-12.5),
        language: text("pt-BR"),
        model_version: text("v2"),
    }));
    let mut session = record(Data::Session(Session {
        action: SessionAction::Heartbeat,
        active_ms: 600_000,
        kind: Some(SessionKind::Quiz),
        device_type: Some(DeviceType::Tablet),
    }));
    session.session_id = Some(id(13));
    let interaction = full_interaction();
    bed.send(&[interaction.clone(), message, speech, session])
        .await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_rows(4).await;

    let mut all = columns(&bed, EventType::Interaction).await;
    let version = all.pop().unwrap();
    assert_eq!(version, pairs(&[("consent_version", "2026-01")])[0]);
    let incarnation = all.pop().unwrap();
    assert_eq!(incarnation.0, "topic_incarnation");
    assert!(
        incarnation.1.contains('/'),
        "cluster and topic id: {}",
        incarnation.1
    );
    all.retain(|(_, value)| value != "NULL");
    let (child, parent) = (interaction.child_id.uuid(), interaction.parent_id.uuid());
    assert_eq!(
        all,
        pairs(&[
            ("local_date", "2026-03-03"),
            ("event_id", "019caddc-4900-7000-8000-0000000000ff"),
            ("event_type", "interaction"),
            ("id_day", "2026-03-02"),
            ("child_id", &child.to_string()),
            ("parent_id", &parent.to_string()),
            ("age_group", "curious_explorers"),
            ("session_id", &id(7).to_string()),
            ("occurred_at", "2026-03-02 09:59:59.877"),
            ("event_time", "2026-03-02 10:00:00.001"),
            ("received_at", "2026-03-02 10:00:00.000"),
            ("device_id", "tablet-1"),
            ("device_platform", "android"),
            ("device_app_version", "1.2.3"),
            ("interaction_action", "answer"),
            ("activity_id", &id(5).to_string()),
            ("subject", "mathé"),
            ("topic", "fractions"),
            ("is_correct", "false"),
            ("response_time_ms", "3600000"),
            ("duration_ms", "14400000"),
            ("confidence", "0.1"),
            ("difficulty", "5"),
            ("rating", "1"),
            ("xp", "10000"),
            ("stars", "0"),
            ("badge", "first 🎖"),
            (
                "attributes",
                "{'text':'yes','int':'-5','float':'0.1','whole':'5.0','huge':'1e300','yes':'true','no':'false'}"
            ),
            (
                "kafka_topic",
                &bed.test.cluster.topic(EventType::Interaction)
            ),
            ("kafka_partition", "0"),
            ("kafka_offset", "0"),
        ])
    );
    assert_eq!(
        data(&bed, EventType::Message).await,
        pairs(&[
            ("topic", "dinosaurs"),
            ("conversation_id", &id(9).to_string()),
            ("sequence", "9223372036854775807"),
            ("role", "user"),
            ("chars", "8192"),
            ("words", "100"),
            ("is_question", "true"),
            ("is_free_form", "true"),
            ("aha_moment", "true"),
            ("was_filtered", "true"),
            ("selected_choice", "255"),
            ("depth_level", "100"),
            ("tokens_used", "10000000"),
            ("processing_time_ms", "1"),
            ("filter_reason", "unkind"),
        ])
    );
    assert_eq!(
        data(&bed, EventType::Speech).await,
        pairs(&[
            ("audio_session_id", &id(11).to_string()),
            ("window_ms", "60000"),
            ("child_words", "1"),
            ("adult_words", "2"),
            ("child_vocalizations", "3"),
            ("conversational_turns", "4"),
            ("utterances", "5"),
            ("unique_words", "6"),
            ("new_words", "100000"),
            ("snr_db", "-12.5"),
            ("language", "pt-BR"),
            ("model_version", "v2"),
        ])
    );
    assert_eq!(
        data(&bed, EventType::Session).await,
        pairs(&[
            ("session_id", &id(13).to_string()),
            ("session_action", "heartbeat"),
            ("active_ms", "600000"),
            ("kind", "quiz"),
            ("device_type", "tablet"),
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_said_is_null_and_defaults_are_the_contracts() {
    let bed = Bed::new().await;
    let message = Message {
        conversation_id: id(9),
        sequence: 1,
        role: Role::System,
        topic: None,
        chars: None,
        words: None,
        is_question: false,
        is_free_form: false,
        aha_moment: false,
        was_filtered: false,
        selected_choice: None,
        depth_level: None,
        tokens_used: None,
        processing_time_ms: None,
        filter_reason: None,
    };
    let speech = Speech {
        audio_session_id: id(11),
        window_ms: 1,
        child_words: 0,
        adult_words: 0,
        child_vocalizations: 0,
        conversational_turns: 0,
        utterances: 0,
        unique_words: 0,
        new_words: 0,
        snr_db: None,
        language: None,
        model_version: None,
    };
    let session = Session {
        action: SessionAction::Start,
        active_ms: 0,
        kind: None,
        device_type: None,
    };
    let mut session = record(Data::Session(session));
    session.session_id = Some(id(13));
    let mut interaction = badge("x");
    interaction.device = Some(Device {
        id: None,
        platform: Some(Platform::Web),
        app_version: None,
    });
    bed.send(&[
        interaction,
        record(Data::Message(message)),
        record(Data::Speech(speech)),
        session,
    ])
    .await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_rows(4).await;

    assert_eq!(
        data(&bed, EventType::Interaction).await,
        pairs(&[
            ("device_platform", "web"),
            ("interaction_action", "view"),
            ("badge", "x")
        ])
    );
    assert_eq!(
        data(&bed, EventType::Message).await,
        pairs(&[
            ("conversation_id", &id(9).to_string()),
            ("sequence", "1"),
            ("role", "system"),
            ("is_question", "false"),
            ("is_free_form", "false"),
            ("aha_moment", "false"),
            ("was_filtered", "false"),
        ])
    );
    assert_eq!(
        data(&bed, EventType::Speech).await,
        pairs(&[
            ("audio_session_id", &id(11).to_string()),
            ("window_ms", "1"),
            ("child_words", "0"),
            ("adult_words", "0"),
            ("child_vocalizations", "0"),
            ("conversational_turns", "0"),
            ("utterances", "0"),
            ("unique_words", "0"),
            ("new_words", "0"),
        ])
    );
    assert_eq!(
        data(&bed, EventType::Session).await,
        pairs(&[
            ("session_id", &id(13).to_string()),
            ("session_action", "start"),
            ("active_ms", "0")
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_from_another_age_is_kept_as_near_as_the_column_can() {
    let bed = Bed::new().await;
    let mut records = Vec::new();
    for occurred_at in [-3_000_000_000_000, 0, 20_000_000_000_000] {
        let mut record = badge("x");
        record.id = Uuid::parse_str("019caddc-4900-7000-8000-0000000000ff").unwrap();
        record.id = Uuid::from_u128(record.id.as_u128() + records.len() as u128);
        record.occurred_at = occurred_at;
        records.push(record);
    }
    bed.send(&records).await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_rows(3).await;
    let clocks: Vec<String> = bed
        .test
        .clickhouse
        .query("SELECT toString(occurred_at) FROM history ORDER BY kafka_offset")
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(
        clocks,
        [
            "1900-01-01 00:00:00.000",
            "1970-01-01 00:00:00.000",
            "2299-12-31 23:59:59.999"
        ]
    );
}
