//! The OpenAPI document against the parser and the router.

use rivulet_events::{Code, EventType, parse};
use serde_json::{Map, Value, json};

const ID: &str = "0197a1b2-1111-7222-8333-444444444444";

fn document() -> Value {
    serde_json::to_value(rivulet_ingest::openapi()).unwrap()
}

/// What a reference names, also where `null` is allowed beside it.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let only = match schema["oneOf"].as_array().map(Vec::as_slice) {
        Some([null, one]) if null["type"] == "null" => one,
        _ => schema,
    };
    match only["$ref"].as_str() {
        Some(to) => document.pointer(&to[1..]).unwrap(),
        None => only,
    }
}

/// Its fields, each as it is where it is named.
fn fields<'a>(document: &'a Value, object: &'a Value) -> Vec<(&'a String, &'a Value)> {
    let fields = object["properties"].as_object().unwrap().iter();
    fields
        .map(|(name, schema)| (name, resolved(document, schema)))
        .collect()
}

/// The code of an event's rejection.
fn code(event: &Value) -> Option<Code> {
    let json = event.to_string();
    let parsed = parse::event(&json, parse::Limits::default());
    assert_eq!(parsed.warnings, Vec::<String>::new(), "{event}");
    parsed.outcome.err().map(|rejection| rejection.code)
}

/// A value that the schema allows.
fn sample(schema: &Value) -> Value {
    let first = |values: &Value| values[0].clone();
    match schema {
        Value::Object(schema) if schema.contains_key("enum") => first(&schema["enum"]),
        _ => match (&schema["format"], &schema["type"]) {
            (Value::String(format), _) if format == "uuid" => json!(ID),
            (Value::String(format), _) if format == "date-time" => json!("2026-05-04T09:30:00Z"),
            (_, Value::Array(types)) => {
                sample(&json!({"type": types[0], "minimum": schema["minimum"]}))
            }
            (_, Value::String(kind)) => match kind.as_str() {
                "string" => json!("pt"),
                "boolean" => json!(true),
                "integer" | "number" => schema["minimum"].clone(),
                _ => json!({}),
            },
            _ => panic!("no sample of {schema}"),
        },
    }
}

/// Values that the schema refuses, each one step beyond what it allows.
fn beyond(schema: &Value) -> Vec<Value> {
    let mut values = vec![json!([])];
    if schema.get("format").is_some()
        || schema.get("enum").is_some()
        || schema.get("pattern").is_some()
    {
        values.push(json!("no such word"));
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        values.push(json!("a".repeat(most as usize + 1)));
    }
    for (bound, step) in [("minimum", -1.0), ("maximum", 1.0)] {
        match &schema[bound] {
            Value::Number(limit) if limit.is_i64() => {
                let limit = i128::from(limit.as_i64().unwrap()) + step as i128;
                values.push(serde_json::from_str(&limit.to_string()).unwrap());
            }
            Value::Number(limit) => values.push(json!(limit.as_f64().unwrap() + step * 0.001)),
            _ => {}
        }
    }
    values
}

/// Values at the edges of what the schema allows.
fn within(name: &str, schema: &Value) -> Vec<Value> {
    let mut values: Vec<Value> = ["minimum", "maximum"]
        .iter()
        .filter_map(|bound| schema.get(*bound).cloned())
        .collect();
    values.extend(schema["enum"].as_array().into_iter().flatten().cloned());
    match (schema["maxLength"].as_u64(), name) {
        (Some(most), "language") => values.push(json!("abcdefgh-".repeat(4)[..most as usize])),
        // Of bytes.
        (Some(most), "content") => values.push(json!("a".repeat(most as usize))),
        (Some(most), _) => values.push(json!("é".repeat(most as usize))),
        _ => {}
    }
    values
}

/// Holds each field of an object within a valid event against the parser. `at` finds the object.
fn check(document: &Value, event: &Value, object: &Value, at: &str) {
    let required: Vec<_> = object["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    for (name, schema) in fields(document, object) {
        let with = |value: Value| {
            let mut event = event.clone();
            event.pointer_mut(at).unwrap()[name.as_str()] = value;
            code(&event)
        };
        for value in within(name, schema) {
            assert_eq!(with(value.clone()), None, "{at}/{name}: {value}");
        }
        let refusal = match name.as_str() {
            "type" => Code::UnknownType,
            _ => Code::InvalidField,
        };
        for value in beyond(schema) {
            let expected = if value.is_string() {
                refusal
            } else {
                Code::InvalidField
            };
            assert_eq!(with(value.clone()), Some(expected), "{at}/{name}: {value}");
        }
        let is_required = required.iter().any(|one| *one == name);
        let absent = is_required.then_some(Code::MissingField);
        // What only some actions need is for the next test.
        if !["is_correct", "rating", "data"].contains(&name.as_str()) {
            assert_eq!(with(Value::Null), absent, "{at}/{name}");
        }
    }
}

#[test]
fn events_are_what_the_parser_takes() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for kind in EventType::ALL {
        let name = kind.as_str();
        let name = name[..1].to_uppercase() + &name[1..];
        let event = &schemas[format!("{name}Event")];
        let data = resolved(&document, &event["properties"]["data"]);
        assert_eq!(data, &schemas[&name]);
        let named: Vec<_> = data["properties"].as_object().unwrap().keys().collect();
        let mut parsed: Vec<_> = kind.fields().iter().collect();
        // serde_json sorts what it reads.
        parsed.sort();
        assert_eq!(named, parsed, "{name}");

        let full = |object: &Value| {
            let of = fields(&document, object).into_iter();
            of.filter(|(name, _)| *name != "data")
                .map(|(name, schema)| (name.clone(), sample(schema)))
                .collect::<Map<_, _>>()
        };
        let mut sent = full(event);
        sent.insert("data".to_owned(), full(data).into());
        let mut sent = Value::from(sent);
        if *kind == EventType::Interaction {
            // The one whose every field is read.
            sent["data"]["action"] = json!("answer");
        }
        assert_eq!(code(&sent), None, "{sent}");
        check(&document, &sent, event, "");
        check(&document, &sent, data, "/data");
        let device = resolved(&document, &event["properties"]["device"]);
        check(&document, &sent, device, "/device");
    }
}

#[test]
fn an_action_needs_what_the_document_says_and_attributes_are_bounded() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let by_action = &schemas["Interaction"]["dependentSchemas"]["action"];
    for case in by_action["anyOf"].as_array().unwrap() {
        for action in case["properties"]["action"]["enum"].as_array().unwrap() {
            let mut event = json!({
                "id": ID, "type": "interaction", "child_id": ID, "occurred_at": "2026-05-04T09:30:00Z",
                "data": {"action": action},
            });
            let Some(needed) = case["required"].as_array() else {
                assert_eq!(code(&event), None, "{event}");
                continue;
            };
            assert_eq!(code(&event), Some(Code::MissingField), "{event}");
            let needed = needed[0].as_str().unwrap();
            event["data"][needed] = if needed == "rating" {
                json!(1)
            } else {
                json!(true)
            };
            assert_eq!(code(&event), None, "{event}");
        }
    }
    let attributes = &schemas["MessageEvent"]["properties"]["attributes"];
    let attributes = resolved(&document, attributes);
    let with = |attributes: Value| {
        code(&json!({
            "id": ID, "type": "message", "child_id": ID, "occurred_at": "2026-05-04T09:30:00Z",
            "attributes": attributes, "data": {"conversation_id": ID, "sequence": 1, "role": "user"},
        }))
    };
    let most = attributes["maxProperties"].as_u64().unwrap();
    let many = |count: u64| {
        (0..count)
            .map(|n| (format!("key{n}"), json!(n)))
            .collect::<Map<_, _>>()
    };
    assert_eq!(with(many(most).into()), None);
    assert_eq!(with(many(most + 1).into()), Some(Code::InvalidField));
    let key = attributes["propertyNames"]["maxLength"].as_u64().unwrap() as usize;
    assert_eq!(with(json!({"k".repeat(key): 1})), None);
    assert_eq!(
        with(json!({"k".repeat(key + 1): 1})),
        Some(Code::InvalidField)
    );
    let values = resolved(&document, &attributes["additionalProperties"]);
    let values = values["oneOf"].as_array().unwrap();
    let text = values[0]["maxLength"].as_u64().unwrap() as usize;
    for value in [
        json!("v".repeat(text)),
        json!(0.5),
        json!(true),
        Value::Null,
    ] {
        assert_eq!(with(json!({"k": value})), None, "{value}");
    }
    for value in [json!("v".repeat(text + 1)), json!([]), json!({})] {
        assert_eq!(
            with(json!({"k": value})),
            Some(Code::InvalidField),
            "{value}"
        );
    }
}

#[test]
fn every_route_is_described() {
    let document = document();
    let sources = [
        include_str!("../../src/router.rs"),
        include_str!("../../../telemetry/src/health.rs"),
    ];
    let routes = sources
        .iter()
        .flat_map(|source| source.split(".route(\"").skip(1));
    let mut routes: Vec<_> = routes.filter_map(|rest| rest.split('"').next()).collect();
    routes.sort_unstable();
    let described: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(described, routes);
    assert!(routes.len() > 5, "{routes:?}");
}
