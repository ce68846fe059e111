//! The versions of the record: each has its bytes in `records/`, which never change.

use rivulet_events::{
    ConsentVersion, DecodeError, EventType, Record,
    record::{READABLE_VERSIONS, SCHEMA_VERSION},
};
use serde_json::{Value, json};

/// Every field that version 1 has, of each type, one a line.
const VERSION_1: &str = include_str!("records/v1.ndjson");

fn of(line: &str) -> (EventType, Record<'_>) {
    let kind: Value = serde_json::from_str(line).unwrap();
    let kind = EventType::from_word(kind["type"].as_str().unwrap()).unwrap();
    (kind, Record::decode(kind, line.as_bytes()).unwrap())
}

#[test]
fn what_this_release_writes_is_what_its_version_always_was() {
    assert_eq!(
        SCHEMA_VERSION, 1,
        "a new version has bytes of its own in records/"
    );
    let mut kinds = Vec::new();
    for line in VERSION_1.lines() {
        let (kind, record) = of(line);
        let mut written = Vec::new();
        record.encode(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), line);
        // A field that is declared and not here would be one that no bytes hold.
        let sent: Value = serde_json::from_str(line).unwrap();
        for column in kind.declaration().columns {
            assert!(
                !sent["data"][column.field].is_null(),
                "{}: {}",
                kind.as_str(),
                column.field
            );
        }
        kinds.push(kind);
    }
    assert_eq!(kinds, EventType::ALL);
}

#[test]
fn a_record_of_the_next_version_is_read_without_its_additions() {
    for line in VERSION_1.lines() {
        let (kind, ours) = of(line);
        let mut next: Value = serde_json::from_str(line).unwrap();
        next["v"] = json!(SCHEMA_VERSION + 1);
        next["added"] = json!([{"deep": {"er": null}}]);
        next["data"]["added"] = json!("text");
        next["device"]["added"] = json!(-0.5);
        let next = next.to_string();
        let next = Record::decode(kind, next.as_bytes()).unwrap();
        assert_eq!(next.v, SCHEMA_VERSION + 1);
        assert_eq!(
            Record {
                v: SCHEMA_VERSION,
                ..next
            },
            ours
        );
    }
}

#[test]
fn what_an_older_release_did_not_write_is_its_default() {
    for line in VERSION_1.lines() {
        let (kind, _) = of(line);
        let mut older: Value = serde_json::from_str(line).unwrap();
        let columns = kind.declaration().columns.iter();
        for column in columns.filter(|column| column.default.is_some()) {
            let data = older["data"].as_object_mut().unwrap();
            data.remove(column.field);
            let older = older.to_string();
            Record::decode(kind, older.as_bytes()).unwrap();
        }
    }
}

/// An addition that may be absent: the number of the version stays, and an older release leaves it out.
#[test]
fn the_version_of_a_consent_is_read_where_it_is_told() {
    const BEFORE: &str = r#","analytics":true,"#;
    for line in VERSION_1.lines() {
        let (kind, plain) = of(line);
        assert_eq!(plain.consent_version, None);
        let told = line.replace(BEFORE, r#","analytics":true,"consent_version":"2026-01","#);
        let record = Record::decode(kind, told.as_bytes()).unwrap();
        assert_eq!(record.consent_version, ConsentVersion::new("2026-01"));
        let mut written = Vec::new();
        record.encode(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), told);
        let consent_version = None;
        assert_eq!(
            Record {
                consent_version,
                ..record
            },
            plain
        );

        let null = line.replace(BEFORE, r#","analytics":true,"consent_version":null,"#);
        assert_eq!(Record::decode(kind, null.as_bytes()).unwrap(), plain);
        for none in ["\"\"", "\"a b\"", "7", "true", "\"\\u0000\""] {
            let none = line.replace(
                BEFORE,
                &format!(r#","analytics":true,"consent_version":{none},"#),
            );
            let error = Record::decode(kind, none.as_bytes()).unwrap_err();
            assert!(
                matches!(error, DecodeError::Malformed(_)),
                "{none}: {error}"
            );
        }
    }
}

#[test]
fn any_other_version_is_named() {
    for version in [0, READABLE_VERSIONS.end() + 1, u16::MAX] {
        for line in VERSION_1.lines() {
            let (kind, _) = of(line);
            let mut other: Value = serde_json::from_str(line).unwrap();
            other["v"] = json!(version);
            // Not even readable.
            other["data"] = json!(7);
            let error = Record::decode(kind, other.to_string().as_bytes()).unwrap_err();
            assert!(
                matches!(error, DecodeError::UnknownVersion(v) if v == version),
                "{error}"
            );
            assert!(error.to_string().contains("reads 1..=2"), "{error}");
        }
    }
}
