//! Personal data in free text: where it is found, what takes its place, and what is left alone.

use proptest::prelude::*;
use rivulet_events::{
    AttributeValue, Clocks, Code, Event, EventType, ParentId, Parsed, Record, Registration,
    contract::Rule,
    data::{AgeGroup, Device},
    free_text::{Policy, Reason},
    parse,
};
use rivulet_zones::Zone;
use serde_json::{Value, json};

const ID: &str = "0197a1b2-1111-7222-8333-444444444444";

/// An event of a type with a text in every place that takes one.
fn everywhere(kind: &str, text: &str) -> Value {
    let mut data = match kind {
        "interaction" => json!({"action": "view"}),
        "message" => json!({"conversation_id": ID, "sequence": 1, "role": "user"}),
        "speech" => json!({"audio_session_id": ID, "window_ms": 1}),
        _ => json!({"action": "start"}),
    };
    let kind_of = EventType::from_word(kind).unwrap();
    let mut device = json!({});
    for (object, declaration) in [
        (&mut data, kind_of.declaration()),
        (&mut device, Device::DECLARATION),
    ] {
        for field in declaration.fields {
            if matches!(field.rule, Rule::Text { .. }) {
                object[field.name] = json!(text);
            }
        }
    }
    json!({
        "id": ID, "type": kind, "child_id": ID, "occurred_at": "2026-05-04T09:30:00Z", "session_id": ID,
        "device": device, "attributes": {"note": text, text: "a key"}, "data": data,
    })
}

fn noted(note: &str) -> Value {
    attributed(json!({"note": note}))
}

fn attributed(attributes: Value) -> Value {
    let mut event = everywhere("session", "plain");
    event["attributes"] = attributes;
    event
}

fn by(policy: Policy) -> parse::Limits {
    parse::Limits {
        personal_data: policy,
        ..parse::Limits::default()
    }
}

fn read(json: &str) -> Parsed<'_> {
    parse::event(json, parse::Limits::default())
}

/// What becomes of a text.
fn masked(text: &str) -> String {
    let json = noted(text).to_string();
    let event = read(&json).outcome.unwrap();
    match &event.attributes[..] {
        [(key, AttributeValue::Text(text))] if key == "note" => text.to_string(),
        other => panic!("{other:?}"),
    }
}

fn record(event: Event<'_>) -> Vec<u8> {
    let clocks = Clocks {
        received_at: event.occurred_at,
        sent_at: Some(event.occurred_at),
    };
    let who = Registration {
        parent_id: ParentId::new(ID.parse().unwrap()),
        age_group: AgeGroup::WonderCubs,
        timezone: Zone::utc(),
        deleted: false,
        coppa: true,
        audio: true,
        analytics: true,
        coppa_version: None,
        audio_version: None,
        consent_epoch: 0,
    };
    let mut bytes = Vec::new();
    let record = event
        .admit(Some(&who))
        .unwrap()
        .into_record(&clocks)
        .unwrap();
    record.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_planted_address_reaches_no_record() {
    for kind in EventType::ALL {
        let json = everywhere(kind.as_str(), "ann@ex.org").to_string();
        let parsed = read(&json);
        let event = parsed.outcome.unwrap();
        assert_eq!(
            parsed.warnings.len(),
            usize::from(parsed.personal_data.of(Reason::Email))
        );
        let bytes = record(event);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!text.contains("ann@ex.org"), "{text}");
        Record::decode(*kind, &bytes).unwrap();
        let places = json.matches("ann@ex.org").count();
        assert_eq!(text.matches("[email]").count(), places, "{text}");
        assert_eq!(parsed.warnings.len(), places, "{:?}", parsed.warnings);
    }
}

#[test]
fn no_declared_text_is_longer_than_what_is_looked_through() {
    let declarations = EventType::ALL.iter().map(|kind| kind.declaration());
    for declaration in declarations.chain([Device::DECLARATION]) {
        for field in declaration.fields {
            if let Rule::Text { max_chars } = field.rule {
                assert!(
                    max_chars <= rivulet_events::bounds::ATTRIBUTE_TEXT,
                    "{}",
                    field.name
                );
                assert!(max_chars >= "[masked]".len(), "{}", field.name);
            }
        }
    }
}

#[test]
fn only_what_was_found_is_masked() {
    for (text, kept) in [
        (
            "write to Anna.B+kids@mail.example.co.uk, please",
            "write to [email], please",
        ),
        ("Anna <anna@example.org>", "Anna <[email]>"),
        ("call +39 (0)6 1234-5678!", "call [phone]!"),
        ("or (555) 123-4567 at home", "or [phone] at home"),
        ("see https://user:pw@example.org/kid?x=1#y.", "see [url]."),
        (
            "see (www.example.org/kid), or t.me/kid",
            "see ([url]), or [url]",
        ),
        ("card 4111 1111 1111 1111 ends", "card [digits] ends"),
        ("id356938035643809", "id[digits]"),
        ("anna@example.org and 0171 2345678", "[email] and [phone]"),
        ("ａｎｎａ＠ｅｘａｍｐｌｅ．ｏｒｇ", "[email]"),
        ("anna [at] example [dot] org", "[email]"),
        ("an\u{200b}na@exa\u{ad}mple.org", "[email]"),
        ("электропочта анна@пример.рф да", "электропочта [email] да"),
        ("٠١٠١٢٣٤٥٦٧٨", "[digits]"),
        ("०१२३४ ५६७८९०", "[phone]"),
    ] {
        assert_eq!(masked(text), kept);
    }
}

#[test]
fn what_looks_like_numbers_and_names_is_left_alone() {
    for text in [
        "lesson-2024-03",
        "lesson-2024-03-15-0001",
        "7x8=56",
        "12345 + 67890 = 80235",
        "4.12.1",
        "v2.0.0-rc.1+20240315",
        "4.12.1+1717430400",
        "10.120.250.255",
        "2024-03-15T10:20:30.123456789Z",
        "2024-03-15 10:30:00",
        "15.03.2024 10:30",
        "20240315102030",
        "20240315T102030123Z",
        "550e8400-e29b-41d4-a716-446655440000",
        "00000000-0000-0000-0000-000000000000",
        "d41d8cd98f00b204e9800998ecf8427e",
        "9774d56d682e549c",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "3.14159265358979",
        "1 000 000 000",
        "1,234,567,890",
        "100 200 300",
        "grade 10 2023-2024",
        "9783161484100",
        "icon@2x.png",
        "react@18.2.0-beta.rc",
        "com.example.app",
        "node.js",
        "Well done.Next",
        "e.g. this",
        "(easy)",
        "@anna",
        "a/b/c",
        "1:10:30",
        "1000000000",
        "#ff00ff",
        "5 @ 3",
        "see a://",
        "[email] [phone] [url] [digits] [masked]",
    ] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn fields_of_forms_are_masked_by_their_key() {
    for (key, value) in [
        ("email", json!("nothing")),
        ("userEmail", json!("x")),
        ("parent_e-mail", json!("x")),
        ("name", json!("Anna")),
        ("firstName", json!("Anna")),
        ("child_name", json!("Anna")),
        ("phone", json!(393331234i64)),
        ("lat", json!(45.46)),
        ("lon", json!(9)),
        ("long", json!(9.19)),
        ("gps", json!("45.4,9.1")),
        ("home_address", json!("x")),
        ("Téléphone", json!("x")),
        ("Straße", json!("x")),
        ("адрес", json!("x")),
        ("電話番号", json!(12)),
        ("이름", json!("x")),
        ("fecha_de_nacimiento", json!("x")),
        ("USEREMAIL", json!("x")),
        ("ＮＡＭＥ", json!("x")),
        ("na\u{200b}me", json!("x")),
        ("form.user.name", json!("x")),
        ("dob", json!("2018-01-01")),
    ] {
        let json = attributed(json!({key: value})).to_string();
        let parsed = read(&json);
        assert_eq!(parsed.warnings, [format!("masked_field:attributes.{key}")]);
        assert_eq!(parsed.personal_data.of(Reason::Field), 1);
        let attributes = parsed.outcome.unwrap().attributes;
        assert_eq!(
            attributes,
            [(key.into(), AttributeValue::Text("[masked]".into()))]
        );
    }
    for (key, value) in [
        ("email", json!(true)),
        ("screen_name", json!("x")),
        ("lesson_name", json!("x")),
        ("first_level_name", json!("x")),
        ("phone_model", json!("x")),
        ("email_count", json!(3)),
        ("nombre", json!(3)),
        ("long", json!(3)),
        ("platform", json!("x")),
        ("latency", json!(3)),
        ("flat", json!("x")),
        ("telemetry", json!("x")),
        ("filename", json!("x")),
        ("mailed", json!("x")),
        ("zip_file", json!("x")),
        ("", json!("x")),
        ("named", json!("x")),
    ] {
        let json = attributed(json!({key: value})).to_string();
        let parsed = read(&json);
        assert_eq!(parsed.warnings, Vec::<String>::new(), "{key}");
    }
}

#[test]
fn keys_that_masking_makes_one_keep_the_first() {
    let json = attributed(json!({"a@b.org": 1, "between": 2, "c@d.org": 3})).to_string();
    let parsed = read(&json);
    assert_eq!(
        parsed.warnings,
        [
            "masked_email:attributes.[email]",
            "masked_email:attributes.[email]"
        ]
    );
    let attributes = parsed.outcome.unwrap().attributes;
    let int = |key: &'static str, value| (key.into(), AttributeValue::Int(value));
    assert_eq!(attributes, [int("[email]", 1), int("between", 2)]);
}

#[test]
fn a_text_that_would_grow_too_long_or_has_too_much_is_masked_as_a_whole() {
    // Each address is one character shorter than its mark.
    let addresses = |count: usize| vec!["a@b.co"; count].join(" ");
    let mut event = noted("plain");
    event["device"]["app_version"] = json!(addresses(4) + "    .");
    event["attributes"] =
        json!({"a": addresses(4) + " " + &"x".repeat(227), "b": addresses(17), (addresses(9)): 1});
    let json = event.to_string();
    let event = read(&json).outcome.unwrap();
    assert_eq!(
        event.device.as_ref().unwrap().app_version.as_deref(),
        Some("[masked]")
    );
    for (key, value) in &event.attributes {
        assert!(
            key == "[masked]" || *value == AttributeValue::Text("[masked]".into()),
            "{key} {value:?}"
        );
    }
    assert_eq!(event.attributes.len(), 3);
    Record::decode(EventType::Session, &record(event)).unwrap();
}

#[test]
fn the_policy_decides() {
    let json = noted("ann@example.org").to_string();
    let allowed = parse::event(&json, by(Policy::Allow));
    assert_eq!(allowed.personal_data.of(Reason::Email), 1);
    assert_eq!(allowed.warnings, Vec::<String>::new());
    assert_eq!(
        allowed.outcome.unwrap().attributes,
        [(
            "note".into(),
            AttributeValue::Text("ann@example.org".into())
        )]
    );

    let refused = parse::event(&json, by(Policy::Refuse));
    assert_eq!(refused.personal_data.of(Reason::Email), 1);
    let rejection = refused.outcome.unwrap_err();
    assert_eq!(rejection.code, Code::InvalidField);
    assert_eq!(rejection.pointer.as_deref(), Some("/attributes/note"));
    assert!(rejection.message.contains("an e-mail address") && !rejection.message.contains("ann"));

    // The pointer does not repeat a key that is one.
    let json = attributed(json!({"ann@example.org": 1})).to_string();
    let rejection = parse::event(&json, by(Policy::Refuse)).outcome.unwrap_err();
    assert_eq!(rejection.pointer.as_deref(), Some("/attributes/[email]"));

    // Fields are refused in the order of the contract, whatever is wrong with them.
    let mut event = everywhere("interaction", "plain");
    event["data"] = json!({"action": "rate", "topic": "ann@example.org", "rating": 9});
    let json = event.to_string();
    let rejection = parse::event(&json, by(Policy::Refuse)).outcome.unwrap_err();
    assert_eq!(rejection.pointer.as_deref(), Some("/data/topic"));
    event["data"]["subject"] = json!(7);
    let json = event.to_string();
    let rejection = parse::event(&json, by(Policy::Refuse)).outcome.unwrap_err();
    assert_eq!(rejection.pointer.as_deref(), Some("/data/subject"));
}

/// Texts that are made of what the patterns are made of.
fn suspicious() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "anna", "@", "example", ".", "org", "com", "+", "39", "555", "123", "4567", "0", "00", "12", "2024", "-", " ", "(", ")",
            "/", ":", "://", "http", "www.", "[", "]", "[at]", "(dot)", " dot ", "%40", "[email]", "[phone]", "x", "7", "a.co",
            "t.me/", "<", ">", "\"", "é", "я", "番", "＠", "．", "\u{200b}", "٣", "1234567890", "06", "98765", "v1.2", "_", ",", "é",
            "4111", "1111", "e", "T", "Z", "?", "#",
        ]).prop_map(str::to_owned),
        1 => "\\PC{1,4}",
        1 => "[0-9]{1,12}",
    ];
    prop::collection::vec(piece, 1..24).prop_map(|pieces| pieces.concat())
}

/// The JSON of an event with every character of its strings as an escape.
fn escaped(value: &Value) -> String {
    let string = |text: &str| {
        let units = text.encode_utf16();
        let units: String = units.map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{units}\"")
    };
    match value {
        Value::Object(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{}:{}", string(key), escaped(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_masked_has_nothing_left_to_mask(text in suspicious()) {
        let json = noted(&text).to_string();
        let first = read(&json);
        let Ok(event) = first.outcome else { return Ok(()) };
        let Some((_, AttributeValue::Text(once))) = event.attributes.first() else { return Ok(()) };
        let json = noted(once).to_string();
        let second = read(&json);
        prop_assert_eq!(second.warnings, Vec::<String>::new(), "{:?} was {:?}", once, text);
        prop_assert_eq!(second.outcome.unwrap().attributes, event.attributes);
    }

    #[test]
    fn each_copy_is_masked_alike_and_is_a_record(text in suspicious()) {
        let event = attributed(json!({"note": text, (text.as_str()): 1, "email": text}));
        let json = event.to_string();
        let copy = escaped(&event);
        let (first, second) = (read(&json), read(&copy));
        prop_assert_eq!(&first.warnings, &second.warnings);
        prop_assert_eq!(&first.outcome, &second.outcome);
        if let Ok(event) = first.outcome {
            Record::decode(EventType::Session, &record(event)).unwrap();
        }
    }

    #[test]
    fn no_language_tag_holds_anything(tag in "[a-z]{1,8}(-[A-Za-z0-9]{1,8}){0,6}") {
        prop_assert_eq!(masked(&tag), tag);
    }

    #[test]
    fn plain_words_are_never_touched(text in "[a-zA-Z ,!?äéßñя番が'\"-]{1,60}[a-z]") {
        prop_assert_eq!(masked(&text), text.trim());
    }

    #[test]
    fn whatever_is_put_around_an_address_it_is_gone(before in "\\PC{0,20}", after in "( \\PC{0,20})?") {
        let text = format!("{before} anna.bell@example.org{after}");
        let json = noted(&text).to_string();
        if let Ok(event) = read(&json).outcome {
            let kept = String::from_utf8(record(event)).unwrap();
            prop_assert!(!kept.contains("anna.bell"), "{}", kept);
        }
    }
}
