//! What a consumer reads is what ingest lets through: each field of a record at its edges and beyond, held
//! against the parser, which has the same edges.

use arbtest::{
    arbitrary::{Result, Unstructured},
    arbtest,
};
use chrono::{DateTime, SecondsFormat};
use rivulet_events::{
    Clocks, Code, DecodeError, EventType, ParentId, Record, Registration, data::AgeGroup, parse,
    record::child_of,
};
use rivulet_zones::Zone;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const ID: &str = "3b241101-e2bb-4255-8caf-4136c566a962";
/// 2026-05-04T09:30:00Z
const RECEIVED_AT: i64 = 1_777_887_000_000;
const DAY_MS: i64 = 86_400_000;

/// One event of each type with every field; `rating` and `is_correct` are there for the asking.
fn event(kind: EventType) -> Value {
    let data = match kind {
        EventType::Interaction => json!({
            "action": "answer", "activity_id": ID, "subject": "math", "topic": "sums", "is_correct": true,
            "response_time_ms": 1, "duration_ms": 1, "confidence": 0.5, "difficulty": 3, "rating": 3, "xp": 1,
            "stars": 1, "badge": "gold",
        }),
        EventType::Message => json!({
            "conversation_id": ID, "sequence": 1, "role": "user", "topic": "sums", "content": "so it is",
            "selected_choice": 1, "depth_level": 1, "tokens_used": 1, "processing_time_ms": 1,
            "filter_reason": "none", "was_filtered": true,
        }),
        EventType::Speech => json!({
            "audio_session_id": ID, "window_ms": 1, "child_words": 1, "adult_words": 1,
            "child_vocalizations": 1, "conversational_turns": 1, "utterances": 1, "unique_words": 1,
            "new_words": 1, "snr_db": 1, "language": "pt-BR", "model_version": "m1",
        }),
        EventType::Session => {
            json!({"action": "start", "active_ms": 1, "kind": "quiz", "device_type": "tablet"})
        }
    };
    json!({
        "id": ID, "type": kind.as_str(), "child_id": ID, "occurred_at": "2026-05-04T09:29:00Z",
        "session_id": ID, "device": {"id": "d", "platform": "ios", "app_version": "1"},
        "attributes": {"k": "v"}, "data": data,
    })
}

fn family(zone: &str) -> Registration {
    Registration {
        parent_id: ParentId::new(Uuid::from_u128(7)),
        age_group: AgeGroup::WonderCubs,
        timezone: Zone::named(zone).unwrap(),
        deleted: false,
        coppa: true,
        audio: true,
        analytics: true,
        coppa_version: None,
        audio_version: None,
        consent_epoch: 0,
    }
}

fn parsed(event: &Value) -> std::result::Result<(), Code> {
    let text = event.to_string();
    let outcome = parse::event(&text, parse::Limits::default()).outcome;
    outcome.map(drop).map_err(|rejection| rejection.code)
}

/// As ingest would write it.
fn record(event: &Value) -> Value {
    let text = event.to_string();
    let event = parse::event(&text, parse::Limits::default())
        .outcome
        .unwrap();
    let clocks = Clocks {
        received_at: RECEIVED_AT,
        sent_at: None,
    };
    let family = family("Europe/Rome");
    let record = event.admit(Some(&family)).unwrap();
    let record = record.into_record(&clocks).unwrap();
    serde_json::to_value(record).unwrap()
}

fn with(mut of: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = of.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(key),
        value => parent.insert(key.to_owned(), value),
    };
    of
}

/// The code and the field of the refusal; `None` where a consumer takes it.
fn refused(kind: EventType, record: &Value) -> Option<(&'static str, &'static str)> {
    let payload = record.to_string();
    let error = Record::decode(kind, payload.as_bytes()).err()?;
    let field = match &error {
        DecodeError::Implausible(implausible) => implausible.field,
        _ => "",
    };
    Some((error.code(), field))
}

/// A field's rule: what is at its edges, what is just beyond them, and what a blank means.
struct Rule {
    kind: EventType,
    pointer: &'static str,
    good: Vec<Value>,
    bad: Vec<Value>,
    required: bool,
}

fn int(kind: EventType, pointer: &'static str, min: i64, max: i64) -> Rule {
    let beyond = [min.checked_sub(1), max.checked_add(1)];
    Rule {
        kind,
        pointer,
        good: vec![json!(min), json!(max), json!(min.midpoint(max))],
        bad: beyond
            .into_iter()
            .flatten()
            .map(|value| json!(value))
            .collect(),
        required: matches!(pointer, "/data/sequence" | "/data/window_ms"),
    }
}

fn number(kind: EventType, pointer: &'static str, min: f64, max: f64) -> Rule {
    Rule {
        kind,
        pointer,
        good: vec![json!(min), json!(max), json!(-0.0), json!(max / 3.0)],
        bad: vec![json!(min.next_down()), json!(max.next_up()), json!(-1e300)],
        required: false,
    }
}

fn text(kind: EventType, pointer: &'static str, max: usize) -> Rule {
    let of = |char: &str, length: usize| json!(char.repeat(length));
    Rule {
        kind,
        pointer,
        good: vec![
            json!("a b"),
            of("x", max),
            of("é", max),
            of("😀", max),
            json!("\\\"\u{1}\n."),
        ],
        bad: vec![
            of("x", max + 1),
            of("😀", max + 1),
            json!("\0"),
            json!("a\0b"),
        ],
        required: false,
    }
}

fn rules() -> Vec<Rule> {
    use EventType::{Interaction, Message, Session, Speech};
    let mut rules = vec![
        text(Interaction, "/data/subject", 100),
        text(Interaction, "/data/topic", 100),
        int(Interaction, "/data/response_time_ms", 0, 3_600_000),
        int(Interaction, "/data/duration_ms", 0, 14_400_000),
        number(Interaction, "/data/confidence", 0.0, 1.0),
        int(Interaction, "/data/difficulty", 1, 5),
        int(Interaction, "/data/rating", 1, 5),
        int(Interaction, "/data/xp", 0, 10_000),
        int(Interaction, "/data/stars", 0, 10_000),
        text(Interaction, "/data/badge", 100),
        int(Message, "/data/sequence", 1, i64::MAX),
        text(Message, "/data/topic", 100),
        int(Message, "/data/selected_choice", 0, 255),
        int(Message, "/data/depth_level", 0, 100),
        int(Message, "/data/tokens_used", 0, 10_000_000),
        int(Message, "/data/processing_time_ms", 0, 10_000_000),
        text(Message, "/data/filter_reason", 100),
        int(Speech, "/data/window_ms", 1, 3_600_000),
        number(Speech, "/data/snr_db", -100.0, 200.0),
        Rule {
            kind: Speech,
            pointer: "/data/language",
            good: ["en", "pt-BR", "abcdefgh-12345678-12345678-12345678"]
                .map(Value::from)
                .into(),
            bad: [
                "e n",
                "1x",
                "en-",
                "abcdefghi",
                "en\0",
                "abcdefgh-12345678-12345678-12345678-1",
            ]
            .map(Value::from)
            .into(),
            required: false,
        },
        text(Speech, "/data/model_version", 64),
        int(Session, "/data/active_ms", 0, 600_000),
    ];
    for count in [
        "/data/child_words",
        "/data/adult_words",
        "/data/child_vocalizations",
        "/data/conversational_turns",
        "/data/utterances",
        "/data/unique_words",
        "/data/new_words",
    ] {
        rules.push(int(Speech, count, 0, 100_000));
    }
    for kind in EventType::ALL.iter().copied() {
        rules.push(text(kind, "/device/id", 64));
        rules.push(text(kind, "/device/app_version", 32));
        let mut value = text(kind, "/attributes/k", 256);
        value
            .good
            .extend([json!(true), json!(i64::MIN), json!(1e308), json!(u64::MAX)]);
        rules.push(value);
    }
    rules
}

/// A record's types hold no more than the rule: such a value cannot even be read.
fn is_unreadable(pointer: &str, value: &Value) -> bool {
    let is_negative = value.as_i64().is_some_and(i64::is_negative);
    is_negative || (pointer == "/data/selected_choice" && *value == 256)
}

#[test]
fn every_field_has_the_edges_that_ingest_has() {
    for Rule {
        kind,
        pointer,
        good,
        bad,
        ..
    } in rules()
    {
        let written = record(&event(kind));
        assert_eq!(refused(kind, &written), None, "{written}");
        for value in good {
            let whole = with(event(kind), pointer, value.clone());
            assert_eq!(parsed(&whole), Ok(()), "{pointer} {value}");
            let whole = with(written.clone(), pointer, value.clone());
            assert_eq!(refused(kind, &whole), None, "{pointer} {value}");
        }
        for value in bad {
            let whole = with(event(kind), pointer, value.clone());
            assert_eq!(parsed(&whole), Err(Code::InvalidField), "{pointer} {value}");
            let whole = with(written.clone(), pointer, value.clone());
            let (code, field) =
                refused(kind, &whole).unwrap_or_else(|| panic!("{pointer} {value}"));
            if is_unreadable(pointer, &value) {
                assert_eq!(code, "malformed_record", "{pointer} {value}");
            } else {
                let named = pointer[1..].replace('/', ".");
                let named = named.strip_suffix(".k").unwrap_or(&named);
                assert_eq!((code, field), ("implausible_record", named), "{value}");
            }
        }
        if written.pointer(pointer).is_some_and(Value::is_string) {
            // Ingest takes a blank for absent, and writes none.
            for blank in ["", " ", "\t\u{3000}\n"] {
                let whole = with(written.clone(), pointer, json!(blank));
                let (code, _) = refused(kind, &whole).unwrap_or_else(|| panic!("{pointer}"));
                assert_eq!(code, "implausible_record", "{pointer}");
            }
        }
    }
}

#[test]
fn what_belongs_together_is_there_together() {
    use EventType::{Interaction, Message, Session};
    let keys = |count: usize| Value::from_iter((0..count).map(|key| (key.to_string(), json!(key))));
    let key = |key: &str| Value::from_iter([(key, 1)]);
    for (kind, pointer, value, field) in [
        (
            Interaction,
            "/data/is_correct",
            Value::Null,
            "data.is_correct",
        ),
        (
            Interaction,
            "/data/action",
            json!("hint"),
            "data.is_correct",
        ),
        (Session, "/session_id", Value::Null, "session_id"),
        (Message, "/data/chars", json!(0), "data.chars"),
        (Message, "/data/chars", json!(8_193), "data.chars"),
        (Message, "/data/words", json!(0), "data.words"),
        (Message, "/data/words", json!(4_097), "data.words"),
        (Message, "/data/sequence", json!(u64::MAX), "data.sequence"),
        (Session, "/attributes", keys(17), "attributes"),
        (Session, "/attributes", key(&"k".repeat(65)), "attributes"),
        (Session, "/attributes", key("a\0"), "attributes"),
    ] {
        let whole = with(record(&event(kind)), pointer, value.clone());
        let found = refused(kind, &whole);
        assert_eq!(
            found,
            Some(("implausible_record", field)),
            "{pointer} {value}"
        );
    }
    for (kind, pointer, value) in [
        (Message, "/data/chars", json!(8_192)),
        (Message, "/data/words", json!(4_096)),
        (Session, "/attributes", keys(16)),
        (Session, "/attributes", key(&"😀".repeat(64))),
        // Trimming leaves nothing of it, and it is still a key.
        (Session, "/attributes", key("")),
    ] {
        let whole = with(record(&event(kind)), pointer, value.clone());
        assert_eq!(refused(kind, &whole), None, "{pointer} {value}");
    }
    let mut rate = with(record(&event(Interaction)), "/data/action", json!("rate"));
    rate = with(rate, "/data/is_correct", Value::Null);
    assert_eq!(refused(Interaction, &rate), None);
    rate = with(rate, "/data/rating", Value::Null);
    let found = refused(Interaction, &rate);
    assert_eq!(found, Some(("implausible_record", "data.rating")));
}

#[test]
fn times_and_days_are_those_of_this_service() {
    let kind = EventType::Interaction;
    let written = record(&event(kind));
    let at = |field: &str, value: i64| {
        let whole = with(written.clone(), &format!("/{field}"), json!(value));
        refused(kind, &whole).map(|(code, field)| {
            assert_eq!(code, "implausible_record");
            field
        })
    };
    for (offset, expected) in [
        (-60 * DAY_MS - 1, Some("event_time")),
        (2 * DAY_MS + 1, Some("event_time")),
    ] {
        assert_eq!(at("event_time", RECEIVED_AT + offset), expected);
    }
    for time in [i64::MIN, i64::MAX, 0] {
        assert_eq!(at("received_at", time), Some("received_at"));
        assert!(at("event_time", time).is_some());
        // A device's clock may say anything.
        assert_eq!(at("occurred_at", time), None);
    }
    let moved = |received_at: &str, local_date: &str| {
        let time = DateTime::parse_from_rfc3339(received_at).unwrap();
        let mut whole = with(written.clone(), "/local_date", json!(local_date));
        for field in ["/received_at", "/event_time"] {
            whole = with(whole, field, json!(time.timestamp_millis()));
        }
        refused(kind, &whole).map(|(_, field)| field)
    };
    assert_eq!(moved("2020-01-01T00:00:00Z", "2020-01-01"), None);
    assert_eq!(
        moved("2019-12-31T23:59:59.999Z", "2019-12-31"),
        Some("received_at")
    );
    assert_eq!(moved("2148-12-31T23:59:59.999Z", "2149-01-02"), None);
    assert_eq!(
        moved("2149-01-01T00:00:00Z", "2149-01-01"),
        Some("received_at")
    );
    assert_eq!(moved("2026-05-04T23:00:00Z", "2026-05-06"), None);
    assert_eq!(
        moved("2026-05-04T23:00:00Z", "2026-05-07"),
        Some("local_date")
    );
    assert_eq!(
        moved("2026-05-04T01:00:00Z", "2026-05-01"),
        Some("local_date")
    );
}

/// Whoever asks what became of a record can read it, and whose it is, whatever it says.
#[test]
fn what_is_implausible_can_still_be_traced() {
    let kind = EventType::Interaction;
    let whole = with(record(&event(kind)), "/data/xp", json!(65_535)).to_string();
    let read = Record::read(kind, whole.as_bytes()).unwrap();
    assert_eq!(read.id.to_string(), ID);
    let error = Record::decode(kind, whole.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no ingest lets this through: data.xp is out of its range"
    );
    assert_eq!(child_of(whole.as_bytes()), Some(read.child_id));
    assert_eq!(child_of(b"{\"child_id\": 1}"), None);
    assert_eq!(child_of(&whole.as_bytes()[1..]), None);
}

/// An event with any of its fields at any edge, with white space around its texts, at any time, in any zone.
fn any_event(u: &mut Unstructured<'_>, rules: &[Rule]) -> Result<(Value, Clocks, Registration)> {
    let kind = *u.choose(EventType::ALL)?;
    let mut event = event(kind);
    for rule in rules.iter().filter(|rule| rule.kind == kind) {
        let value = match u.choose(&rule.good)?.clone() {
            Value::String(text) if u.arbitrary()? => json!(format!("\u{2003}{text}\n")),
            _ if !rule.required && u.ratio(1, 4)? => Value::Null,
            value => value,
        };
        event = with(event, rule.pointer, value);
    }
    if kind == EventType::Interaction {
        let action = *u.choose(&["answer", "rate", "view", "hint"])?;
        event = with(event, "/data/action", json!(action));
        if action == "rate" {
            event = with(event, "/data/rating", json!(u.int_in_range(1..=5)?));
        }
    }
    if kind == EventType::Message {
        let piece = *u.choose(&["a ", "a", "😀", "é\n", " "])?;
        let content = piece.repeat(8_192 / piece.len());
        event = with(event, "/data/content", json!(content));
    }
    let keys = u.int_in_range(0..=15)?;
    let more = (0..keys).map(|key| (format!("{key}{}", "é".repeat(62)), json!(key)));
    let attributes = event["attributes"].as_object_mut().unwrap();
    attributes.extend(more.collect::<Map<_, _>>());

    let off = u.int_in_range(-400 * DAY_MS..=400 * DAY_MS)?;
    let sent_at = u.arbitrary::<bool>()?.then_some(RECEIVED_AT + off);
    let occurred_at = sent_at.unwrap_or(RECEIVED_AT) + u.int_in_range(-30 * DAY_MS..=5 * 60_000)?;
    let time = DateTime::from_timestamp_millis(occurred_at).unwrap();
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let clocks = Clocks {
        received_at: RECEIVED_AT,
        sent_at,
    };
    let zone = *u.choose(&[
        "UTC",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        "Asia/Kathmandu",
    ])?;
    Ok((
        with(event, "/occurred_at", json!(time)),
        clocks,
        family(zone),
    ))
}

#[test]
fn consumers_take_whatever_ingest_takes() {
    let rules = rules();
    arbtest(|u| {
        let (event, clocks, family) = any_event(u, &rules)?;
        let text = event.to_string();
        let parsed = parse::event(&text, parse::Limits::default()).outcome;
        let parsed = parsed.unwrap_or_else(|rejection| panic!("{text}: {rejection:?}"));
        let record = parsed.admit(Some(&family)).unwrap();
        let record = record.into_record(&clocks).unwrap();
        let mut wire = Vec::new();
        record.encode(&mut wire).unwrap();
        let read = Record::decode(record.event_type, &wire);
        let read = read.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read, record);
        Ok(())
    })
    .budget_ms(5_000);
}
