//! Each rule of docs/contract.md, "Events", on one event's JSON.

use rivulet_events::{Code, Data, parse};
use serde_json::{Value, json};

const CHILD: &str = "0197a1b2-0000-7000-8000-00000000000c";

fn event(kind: &str, data: Value) -> Value {
    json!({
        "id": "0197a1b2-1111-7222-8333-444444444444", "type": kind, "child_id": CHILD,
        "occurred_at": "2026-05-04T09:30:00Z", "session_id": "11111111-2222-4333-8444-555555555555",
        "data": data,
    })
}

fn interaction() -> Value {
    event(
        "interaction",
        json!({
            "action": "answer", "activity_id": CHILD, "subject": "math", "topic": "sums",
            "is_correct": true, "response_time_ms": 1200, "duration_ms": 5000, "confidence": 0.5,
            "difficulty": 3, "rating": 4, "xp": 10, "stars": 2, "badge": "gold",
        }),
    )
}

fn message() -> Value {
    event(
        "message",
        json!({
            "conversation_id": CHILD, "sequence": 1, "role": "user", "topic": "space",
            "content": "  Why is  the sky blue? ", "is_question": true, "is_free_form": true,
            "aha_moment": false, "was_filtered": false, "selected_choice": 3, "depth_level": 5,
            "tokens_used": 12, "processing_time_ms": 80, "filter_reason": "none",
        }),
    )
}

fn speech() -> Value {
    event(
        "speech",
        json!({
            "audio_session_id": CHILD, "window_ms": 60000, "child_words": 5, "adult_words": 7,
            "child_vocalizations": 1, "conversational_turns": 2, "utterances": 3, "unique_words": 4,
            "new_words": 1, "snr_db": 12.5, "language": "pt-BR", "model_version": "m1",
        }),
    )
}

fn session() -> Value {
    event(
        "session",
        json!({
            "action": "start", "active_ms": 1000, "kind": "learning", "device_type": "tablet",
        }),
    )
}

fn with(mut event: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(key.to_owned(), value);
    event
}

fn without(mut event: Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    event
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(key)
        .unwrap();
    event
}

fn code(event: &Value) -> Option<(Code, Option<String>)> {
    raw_code(&event.to_string())
}

fn raw_code(json: &str) -> Option<(Code, Option<String>)> {
    parse::event(json, parse::Limits::default())
        .outcome
        .err()
        .map(|r| (r.code, r.pointer.map(|p| p.into_owned())))
}

fn at(code: Code, pointer: &str) -> Option<(Code, Option<String>)> {
    Some((code, Some(pointer.to_owned())))
}

#[track_caller]
fn accepts(event: &Value) {
    let text = event.to_string();
    let parsed = parse::event(&text, parse::Limits::default()).outcome;
    assert!(parsed.is_ok(), "{event} -> {parsed:?}");
}

#[test]
fn full_events_of_each_type_are_read() {
    for event in [interaction(), message(), speech(), session()] {
        let text = event.to_string();
        let parsed = parse::event(&text, parse::Limits::default());
        assert_eq!(parsed.warnings, Vec::<String>::new());
        assert_eq!(parsed.id.as_deref(), event["id"].as_str());
        let read = parsed.outcome.unwrap();
        assert_eq!(read.event_type().as_str(), event["type"]);
        assert_eq!(read.occurred_at, 1_777_887_000_000);
    }
}

#[test]
fn content_is_measured_and_dropped() {
    let text = message().to_string();
    let read = parse::event(&text, parse::Limits::default())
        .outcome
        .unwrap();
    let Data::Message(message) = &read.data else {
        panic!("a message")
    };
    assert_eq!((message.chars, message.words), (Some(21), Some(5)));
    assert!(!format!("{read:?}").contains("sky"));

    let absent = without(self::message(), "/data/content").to_string();
    let blank = with(self::message(), "/data/content", json!("  ")).to_string();
    for text in [absent, blank] {
        let Data::Message(message) = parse::event(&text, parse::Limits::default())
            .outcome
            .unwrap()
            .data
        else {
            panic!()
        };
        assert_eq!((message.chars, message.words), (None, None));
    }
    accepts(&with(
        self::message(),
        "/data/content",
        json!("é".repeat(4096)),
    ));
    let long = with(self::message(), "/data/content", json!("é ".repeat(4096)));
    assert_eq!(code(&long), at(Code::InvalidField, "/data/content"));
}

#[test]
fn required_fields_are_missed_in_table_order() {
    for (event, required) in [
        (
            interaction(),
            vec![
                "/id",
                "/type",
                "/child_id",
                "/occurred_at",
                "/data",
                "/data/action",
                "/data/is_correct",
            ],
        ),
        (
            with(interaction(), "/data/action", json!("rate")),
            vec!["/data/rating"],
        ),
        (
            message(),
            vec!["/data/conversation_id", "/data/sequence", "/data/role"],
        ),
        (speech(), vec!["/data/audio_session_id", "/data/window_ms"]),
        (session(), vec!["/session_id", "/data/action"]),
    ] {
        for pointer in required {
            assert_eq!(
                code(&without(event.clone(), pointer)),
                at(Code::MissingField, pointer)
            );
            assert_eq!(
                code(&with(event.clone(), pointer, Value::Null)),
                at(Code::MissingField, pointer),
                "null is absent"
            );
        }
    }
    // Missing beats invalid, wherever it stands; the first of the table is told.
    let both = with(
        without(without(message(), "/data/role"), "/data/sequence"),
        "/id",
        json!("no"),
    );
    assert_eq!(code(&both), at(Code::MissingField, "/data/sequence"));
    assert_eq!(raw_code("{}"), at(Code::MissingField, "/id"));
}

#[test]
fn every_field_has_its_rule() {
    let long = |n: usize| json!("x".repeat(n));
    let cases: Vec<(Value, &str, Vec<Value>, Vec<Value>)> = vec![
        (
            interaction(),
            "/id",
            vec![json!("no"), json!(5), json!("")],
            vec![json!(" 0197A1B2-1111-7222-8333-444444444444 ")],
        ),
        (
            interaction(),
            "/type",
            vec![json!(5)],
            vec![json!(" interaction ")],
        ),
        (
            interaction(),
            "/child_id",
            vec![json!("x"), json!([])],
            vec![],
        ),
        (
            interaction(),
            "/occurred_at",
            vec![
                json!("2026-05-04"),
                json!("2026-05-04T09:30:00"),
                json!(1_777_887_000),
                json!("2026-02-30T00:00:00Z"),
            ],
            vec![
                json!("2026-05-04T11:30:00.123456+02:00"),
                json!(" 2026-05-04T09:30:00Z "),
            ],
        ),
        (
            interaction(),
            "/session_id",
            vec![json!("x"), json!(1)],
            vec![json!(""), Value::Null],
        ),
        (
            session(),
            "/session_id",
            vec![json!("x"), json!("")],
            vec![],
        ),
        (
            interaction(),
            "/device",
            vec![json!("ipad"), json!([])],
            vec![
                json!({}),
                json!({"id": " ", "platform": "", "app_version": null}),
            ],
        ),
        (
            with(interaction(), "/device", json!({})),
            "/device/id",
            vec![long(65), json!(7), json!("a\u{0}b")],
            vec![long(64), json!("é".repeat(64))],
        ),
        (
            with(interaction(), "/device", json!({})),
            "/device/platform",
            vec![json!("windows")],
            vec![json!("ios"), json!("web")],
        ),
        (
            with(interaction(), "/device", json!({})),
            "/device/app_version",
            vec![long(33)],
            vec![long(32)],
        ),
        (
            interaction(),
            "/attributes",
            vec![
                json!([]),
                json!("x"),
                (0..17)
                    .map(|n| (n.to_string(), json!(n)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            ],
            vec![
                json!({}),
                (0..16)
                    .map(|n| (n.to_string(), json!(n)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            ],
        ),
        (
            with(interaction(), "/attributes", json!({})),
            "/attributes/k",
            vec![long(257), json!({}), json!([1]), json!("\u{0}")],
            vec![
                long(256),
                json!(1),
                json!(1.5),
                json!(true),
                Value::Null,
                json!(" "),
                json!(u64::MAX),
            ],
        ),
        (
            interaction(),
            "/data",
            vec![json!([]), json!("x"), json!(1)],
            vec![],
        ),
        (
            interaction(),
            "/data/action",
            vec![json!("run"), json!(""), json!(1)],
            vec![json!(" hint ")],
        ),
        (
            interaction(),
            "/data/activity_id",
            vec![json!("x")],
            vec![json!("")],
        ),
        (
            interaction(),
            "/data/subject",
            vec![long(101), json!(1), json!("a\u{0}")],
            vec![long(100), json!("")],
        ),
        (
            interaction(),
            "/data/topic",
            vec![long(101)],
            vec![long(100)],
        ),
        (
            interaction(),
            "/data/is_correct",
            vec![json!("true"), json!(1)],
            vec![json!(false)],
        ),
        (
            interaction(),
            "/data/response_time_ms",
            vec![
                json!(-1),
                json!(3_600_001),
                json!(1.0),
                json!("1"),
                json!(1e3),
            ],
            vec![json!(0), json!(3_600_000)],
        ),
        (
            interaction(),
            "/data/duration_ms",
            vec![json!(14_400_001)],
            vec![json!(14_400_000)],
        ),
        (
            interaction(),
            "/data/confidence",
            vec![json!(1.01), json!(-0.1), json!("0.5"), json!(2)],
            vec![json!(0), json!(1), json!(0.25)],
        ),
        (
            interaction(),
            "/data/difficulty",
            vec![json!(0), json!(6)],
            vec![json!(1), json!(5)],
        ),
        (
            interaction(),
            "/data/rating",
            vec![json!(0), json!(6)],
            vec![json!(1), json!(5), Value::Null],
        ),
        (
            interaction(),
            "/data/xp",
            vec![json!(10_001)],
            vec![json!(10_000)],
        ),
        (
            interaction(),
            "/data/stars",
            vec![json!(-1)],
            vec![json!(0)],
        ),
        (
            interaction(),
            "/data/badge",
            vec![long(101)],
            vec![long(100)],
        ),
        (message(), "/data/conversation_id", vec![json!("x")], vec![]),
        (
            message(),
            "/data/sequence",
            vec![json!(0), json!(1.5)],
            vec![json!(1), json!(9_000_000_000_i64)],
        ),
        (
            message(),
            "/data/role",
            vec![json!("child")],
            vec![json!("system")],
        ),
        (
            message(),
            "/data/content",
            vec![json!(1), json!("a\u{0}")],
            vec![],
        ),
        (
            message(),
            "/data/is_question",
            vec![json!("yes")],
            vec![Value::Null],
        ),
        (
            message(),
            "/data/selected_choice",
            vec![json!(256)],
            vec![json!(255)],
        ),
        (
            message(),
            "/data/depth_level",
            vec![json!(101)],
            vec![json!(100)],
        ),
        (
            message(),
            "/data/tokens_used",
            vec![json!(10_000_001)],
            vec![json!(10_000_000)],
        ),
        (
            message(),
            "/data/processing_time_ms",
            vec![json!(10_000_001)],
            vec![json!(0)],
        ),
        (
            message(),
            "/data/filter_reason",
            vec![long(101)],
            vec![long(100)],
        ),
        (speech(), "/data/audio_session_id", vec![json!("x")], vec![]),
        (
            speech(),
            "/data/window_ms",
            vec![json!(0), json!(3_600_001)],
            vec![json!(1), json!(3_600_000)],
        ),
        (
            speech(),
            "/data/child_words",
            vec![json!(100_001), json!(-1)],
            vec![json!(100_000), Value::Null],
        ),
        (
            speech(),
            "/data/new_words",
            vec![json!(100_001)],
            vec![json!(0)],
        ),
        (
            speech(),
            "/data/snr_db",
            vec![json!(-100.5), json!(201), json!("x")],
            vec![json!(-100), json!(200), json!(1.25)],
        ),
        (
            speech(),
            "/data/language",
            vec![json!("_US"), long(36), json!("1-a"), json!("en--US")],
            vec![json!("en"), json!("en_US"), json!("zh-Hant-TW")],
        ),
        (
            speech(),
            "/data/model_version",
            vec![long(65)],
            vec![long(64)],
        ),
        (
            session(),
            "/data/action",
            vec![json!("stop")],
            vec![json!("end")],
        ),
        (
            session(),
            "/data/active_ms",
            vec![json!(600_001)],
            vec![json!(600_000), Value::Null],
        ),
        (
            session(),
            "/data/kind",
            vec![json!("work")],
            vec![json!("quiz"), json!("")],
        ),
        (
            session(),
            "/data/device_type",
            vec![json!("phone")],
            vec![json!("mobile")],
        ),
    ];
    for (event, pointer, bad, good) in cases {
        for value in bad {
            let broken = with(event.clone(), pointer, value);
            assert_eq!(code(&broken), at(Code::InvalidField, pointer), "{broken}");
        }
        for value in good {
            accepts(&with(event.clone(), pointer, value));
        }
    }
    let key = with(interaction(), "/attributes", json!({"k".repeat(65): 1}));
    assert_eq!(code(&key).unwrap().0, Code::InvalidField);
    let escaped = with(interaction(), "/attributes", json!({"a/b~c": []}));
    assert_eq!(
        code(&escaped),
        at(Code::InvalidField, "/attributes/a~1b~0c")
    );
}

#[test]
fn is_correct_belongs_to_answers_only() {
    let text = with(interaction(), "/data/action", json!("view")).to_string();
    let Data::Interaction(view) = parse::event(&text, parse::Limits::default())
        .outcome
        .unwrap()
        .data
    else {
        panic!()
    };
    assert_eq!(view.is_correct, None);
}

#[test]
fn unknown_fields_are_dropped_and_told() {
    let mut event = with(interaction(), "/colour", json!({"deep": [1]}));
    event = with(event, "/data/colour", json!("red"));
    event = with(event, "/data/role", json!("user"));
    event = with(event, "/device", json!({"model": "x"}));
    event = with(event, "/nothing", Value::Null);
    let text = event.to_string();
    let parsed = parse::event(&text, parse::Limits::default());
    assert!(parsed.outcome.is_ok());
    let mut warnings = parsed.warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "unknown_field:colour",
            "unknown_field:data.colour",
            "unknown_field:data.role",
            "unknown_field:device.model"
        ]
    );
}

#[test]
fn json_that_is_no_event() {
    for text in [
        "",
        "5",
        "\"x\"",
        "null",
        "[]",
        "{\"a\":}",
        "{\"a\":1}}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "{\"id\":null,\"id\":null}",
        "{\"data\":{\"x\":1,\"x\":1}}",
        "{\"a\":1,\"\\u0061\":2}",
    ] {
        assert_eq!(raw_code(text).unwrap().0, Code::InvalidJson, "{text}");
    }
    let message = parse::event("\"a secret\"", parse::Limits::default())
        .outcome
        .unwrap_err()
        .message;
    assert!(!message.contains("secret"), "{message}");

    let nested = |levels: usize| {
        let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        interaction()
            .to_string()
            .replacen('{', &format!("{{\"deep\":{deep},"), 1)
    };
    assert_eq!(raw_code(&nested(31)), None);
    assert_eq!(raw_code(&nested(32)).unwrap().0, Code::InvalidJson);
    assert_eq!(raw_code(&nested(10_000)).unwrap().0, Code::InvalidJson);

    let twice_of_many = |extra: &str| {
        let keys: String = (0..200).map(|n| format!("\"k{n}\":1,")).collect();
        interaction()
            .to_string()
            .replacen("\"data\":{", &format!("\"data\":{{{keys}{extra}"), 1)
    };
    assert_eq!(raw_code(&twice_of_many("")), None);
    assert_eq!(
        raw_code(&twice_of_many("\"k3\":1,")).unwrap().0,
        Code::InvalidJson
    );
    assert_eq!(
        raw_code(&twice_of_many("\"k150\":1,")).unwrap().0,
        Code::InvalidJson
    );
}

#[test]
fn size_is_that_of_the_json_as_sent() {
    let text = interaction().to_string();
    let bytes = |max_bytes| parse::Limits {
        max_bytes,
        ..parse::Limits::default()
    };
    assert!(parse::event(&text, bytes(text.len())).outcome.is_ok());
    assert_eq!(
        parse::event(&text, bytes(text.len() - 1))
            .outcome
            .unwrap_err()
            .code,
        Code::TooLarge
    );
    // Too large comes before anything else is known of it.
    assert_eq!(
        parse::event("[[[[[", bytes(4)).outcome.unwrap_err().code,
        Code::TooLarge
    );
}

#[test]
fn sound_is_refused_anywhere() {
    let base64 = "aB3".repeat(200);
    for (pointer, value, told) in [
        ("/audio", json!(1), "/audio"),
        ("/data/pcm_data", json!(null), "/data/pcm_data"),
        (
            "/data/extra",
            json!({"a": [{"Voice-Print": 1}]}),
            "/data/extra",
        ),
        ("/x", json!([["data:audio/ogg;base64,AAAA"]]), "/x"),
        (
            "/attributes",
            json!({"recording": true}),
            "/attributes/recording",
        ),
        ("/attributes", json!({"x": base64}), "/attributes/x"),
        ("/device", json!({"wav": 1}), "/device/wav"),
        ("/data/content", json!(base64), "/data/content"),
        ("/id", json!("data:audio/x"), "/id"),
        ("/data", json!("data:audio/x"), "/data"),
        ("/data", json!([{"samples": []}]), "/data"),
    ] {
        let event = with(message(), pointer, value);
        assert_eq!(code(&event), at(Code::RawAudioForbidden, told), "{event}");
    }
    // Before an unknown type, after broken JSON.
    let unknown = with(
        with(message(), "/type", json!("gesture")),
        "/audio",
        json!(1),
    );
    assert_eq!(code(&unknown), at(Code::RawAudioForbidden, "/audio"));
    assert_eq!(
        raw_code("{\"audio\":1,\"audio\":1}").unwrap().0,
        Code::InvalidJson
    );
    accepts(&speech());
}

#[test]
fn an_unknown_type_beats_missing_fields() {
    assert_eq!(
        raw_code(r#"{"type":"gesture"}"#),
        at(Code::UnknownType, "/type")
    );
    assert_eq!(raw_code(r#"{"type":" "}"#), at(Code::UnknownType, "/type"));
}

#[test]
fn the_answer_names_the_event_as_it_was_sent() {
    let parsed = parse::event(r#"{"id":"not a uuid"}"#, parse::Limits::default());
    assert_eq!(parsed.id.as_deref(), Some("not a uuid"));
    assert_eq!(
        parse::event(r#"{"id":7}"#, parse::Limits::default()).id,
        None
    );
}

proptest::proptest! {
    /// Whatever is sent, it is answered: no panic, and a code for what is no event.
    #[test]
    fn any_text_is_answered(text in r#"[\[\]{}:,"\\a-c0-9.eE+\-u \n]{0,60}|.{0,60}"#) {
        let _ = parse::event(&text, parse::Limits::default()).outcome.err();
    }

    /// One spoilt byte of a good event leaves an event or a rejection, never a panic.
    #[test]
    fn a_spoilt_byte_is_answered(at in 0usize..600, byte in 0x20u8..0x7f) {
        for event in [interaction(), message(), speech(), session()] {
            let mut bytes = event.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            let _ = parse::event(&text, parse::Limits::default()).outcome;
        }
    }
}
