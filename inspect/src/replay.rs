//! A request that is answered as an event was, as far as that can be said without its content.

use chrono::SecondsFormat;
use rivulet_events::{
    EventType,
    contract::{Field, Need, Rule},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Observation;

/// Stands for every id within `data` and for the session's.
const SOME_ID: Uuid = Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000);

/// A shell command that posts the event again as a dry run, of which nothing is stored. Id, type, child, clocks and which
/// field was missing or not good are the event's. The required fields of `data` are made up, and optional ones left out,
/// because nobody has them. So it is answered alike where the answer depends on these; `None` where it cannot be said what
/// was sent: of a whole request, and of what could not be read, was too large or held sound.
#[must_use]
pub fn curl(seen: &Observation) -> Option<String> {
    let code = seen.code.as_deref();
    seen.index?;
    if matches!(
        code,
        Some("too_large" | "invalid_json" | "raw_audio_forbidden")
    ) {
        return None;
    }
    let mut event = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            event.insert(name.to_owned(), value);
        }
    };
    let time =
        |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
    put("id", seen.id.map(|id| json!(id)));
    put("type", seen.event_type.as_ref().map(|word| json!(word)));
    put("child_id", seen.child_id.map(|child| json!(child)));
    put("occurred_at", seen.occurred_at.map(|at| json!(time(at))));
    let kind = seen.kind();
    put(
        "session_id",
        (kind == Some(EventType::Session)).then(|| json!(SOME_ID)),
    );
    put("data", Some(kind.map_or_else(Map::new, data).into()));
    match (code, &seen.pointer) {
        (Some("unknown_type"), _) => put("type", Some(json!("unknown"))),
        (Some("missing_field"), Some(pointer)) => spoil(&mut event, pointer, None),
        (Some("invalid_field"), Some(pointer)) => spoil(&mut event, pointer, Some(json!({}))),
        _ => {}
    }
    let body = quoted(&json!({"events": [event]}).to_string());
    let credential = match seen.family {
        Some(_) => "RIVULET_CLIENT_TOKEN",
        None => "RIVULET_INGEST_KEY",
    };
    let sent_at = seen.sent_at.map_or_else(String::new, |at| {
        format!("  -H 'X-Sent-At: {}' \\\n", time(at))
    });
    Some(format!(
        "curl -sS \"$RIVULET_INGEST_URL/v1/events?dry_run=true\" \\\n  -H \"Authorization: Bearer ${credential}\" \\\n  \
         -H 'Content-Type: application/json' \\\n{sent_at}  -d {body}"
    ))
}

/// The required fields of a type's `data`, made up.
fn data(kind: EventType) -> Map<String, Value> {
    let mut data = Map::new();
    for Field {
        name, need, rule, ..
    } in kind.declaration().fields
    {
        let is_needed = match need {
            Need::Required => true,
            Need::For { field, word, .. } => data.get(*field).and_then(Value::as_str) == Some(word),
            Need::Optional | Need::Default => false,
        };
        if is_needed {
            data.insert((*name).to_owned(), some(rule));
        }
    }
    data
}

/// A value that the rule allows.
fn some(rule: &Rule) -> Value {
    match rule {
        Rule::Uuid => json!(SOME_ID),
        Rule::Boolean => json!(false),
        Rule::Integer { min, max } => json!((*min).max(1).min(*max)),
        Rule::Number { min, .. } => json!(min),
        Rule::Text { .. } | Rule::MeasuredText { .. } => json!("text"),
        Rule::LanguageTag { .. } => json!("en"),
        Rule::Word { words, .. } => json!(words.first()),
    }
}

/// Puts something that no rule allows in the place of a field, or takes the field away.
fn spoil(event: &mut Map<String, Value>, pointer: &str, bad: Option<Value>) {
    let unescaped = |name: &str| name.replace("~1", "/").replace("~0", "~");
    let mut names = pointer.split('/').skip(1).map(unescaped);
    let (Some(first), second) = (names.next(), names.next()) else {
        return;
    };
    let (object, name) = match second {
        None => (event, first),
        Some(second) => {
            let inner = event.entry(first).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else { return };
            (inner, second)
        }
    };
    match bad {
        None => drop(object.remove(&name)),
        // No field takes an object but those that take nothing else.
        Some(_) if ["data", "device", "attributes"].contains(&&*name) => {
            object.insert(name, json!("not an object"));
        }
        Some(bad) => drop(object.insert(name, bad)),
    }
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use rivulet_events::{ChildId, Parsed, batch, parse};

    use super::*;

    fn observed(json: &str) -> (Observation, Parsed<'_>) {
        let parsed = parse::event(json, parse::Limits::default());
        let envelope = parsed.envelope(32);
        let rejection = parsed.outcome.as_ref().err();
        let time = |millis| chrono::DateTime::from_timestamp_millis(millis);
        let seen = Observation {
            request_id: "r".to_owned(),
            received_at: chrono::DateTime::UNIX_EPOCH,
            key: Some("tablet".to_owned()),
            family: None,
            index: Some(0),
            id: envelope.id,
            event_type: envelope.event_type.map(|kind| kind.as_str().to_owned()),
            child_id: envelope.child_id.map(ChildId::uuid),
            occurred_at: envelope.occurred_at.and_then(time),
            sent_at: None,
            outcome: crate::Outcome::Accepted,
            status: None,
            code: rejection.map(|rejection| rejection.code.as_str().to_owned()),
            pointer: rejection
                .and_then(|rejection| rejection.pointer.as_deref().map(str::to_owned)),
            warnings: Vec::new(),
            durability: None,
            dry_run: false,
            withheld: false,
            topic: None,
            partition: None,
            offset: None,
        };
        (seen, parsed)
    }

    /// What a shell would make of the last argument.
    fn body(curl: &str) -> String {
        let (_, body) = curl.split_once("-d '").unwrap();
        body.strip_suffix('\'').unwrap().replace(r"'\''", "'")
    }

    #[test]
    fn the_made_up_event_is_good_or_bad_as_the_one_that_came() {
        let good = |kind: EventType| {
            json!({"id": "0197a1b2-1111-7222-8333-444444444444", "type": kind.as_str(), "session_id": SOME_ID,
                   "child_id": "0f9e8d7c-2222-4222-8333-444444444444", "occurred_at": "2026-05-04T09:30:00.250Z",
                   "data": data(kind)})
        };
        let mut events: Vec<Value> = EventType::ALL.iter().map(|kind| good(*kind)).collect();
        for (pointer, value) in [
            ("/id", Some(json!("tim's"))),
            ("/id", None),
            ("/type", Some(json!("dance"))),
            ("/type", Some(json!(7))),
            ("/type", None),
            ("/child_id", None),
            ("/child_id", Some(json!("tim"))),
            ("/occurred_at", Some(json!("today"))),
            ("/data", None),
            ("/data", Some(json!("text"))),
            ("/data/action", None),
            ("/data/action", Some(json!("dance"))),
            ("/data/rating", Some(json!(9))),
            ("/data/topic", Some(json!("x".repeat(101)))),
            ("/device", Some(json!("a tablet"))),
            ("/device", Some(json!({"platform": 7}))),
            ("/attributes", Some(json!([]))),
            ("/attributes", Some(json!({"it's/a~b": []}))),
        ] {
            let mut event = good(EventType::Interaction);
            match value {
                Some(value) if event.pointer(pointer).is_some() => {
                    *event.pointer_mut(pointer).unwrap() = value
                }
                Some(value) => {
                    let (object, name) = pointer.rsplit_once('/').unwrap();
                    let object = event.pointer_mut(object).unwrap();
                    object[name] = value;
                }
                None => {
                    let (object, name) = pointer.rsplit_once('/').unwrap();
                    let object = event.pointer_mut(object).unwrap();
                    object.as_object_mut().unwrap().remove(name).unwrap();
                }
            }
            events.push(event);
        }
        for event in events.iter().map(Value::to_string) {
            let (seen, parsed) = observed(&event);
            let curl = curl(&seen).unwrap();
            assert!(curl.contains("dry_run=true"), "{curl}");
            let body = body(&curl);
            let again = batch::json(&body, 1).unwrap().events[0];
            let again = parse::event(again, parse::Limits::default());
            assert_eq!(again.envelope(32), parsed.envelope(32), "{event}\n{body}");
            let verdict = |parsed: Parsed<'_>| {
                let rejection = parsed.outcome.err()?;
                Some((rejection.code, rejection.pointer))
            };
            assert_eq!(verdict(again), verdict(parsed), "{event}\n{body}");
        }
    }

    #[test]
    fn of_what_was_not_read_nothing_is_made_up() {
        for unread in ["{", "7"] {
            assert_eq!(curl(&observed(unread).0), None, "{unread}");
        }
        let audio = r#"{"data": {"note": "data:audio/wav;base64,AAAA"}}"#;
        assert_eq!(curl(&observed(audio).0), None);
    }
}
