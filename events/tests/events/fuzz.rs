//! What strangers can send: request bodies, lines and Kafka records, spoilt at random. Whatever comes,
//! nothing panics, limits hold, and what is accepted can be read by the consumers.
//!
//! Each target begins from good inputs and runs for 10 s, or for ARBTEST_BUDGET_MS; a failure prints the
//! seed that repeats it. See `arbtest`.

use arbtest::{
    arbitrary::{Result, Unstructured},
    arbtest,
};
use rivulet_events::{
    Clocks, EventType, ParentId, Record, Registration, batch, data::AgeGroup, parse, repair,
};
use rivulet_zones::Zone;
use uuid::Uuid;

const BUDGET_MS: u64 = 10_000;
const MAX_EVENTS: usize = 8;
/// 2026-05-04T09:30:00Z
const RECEIVED_AT: i64 = 1_777_887_000_000;

const EVENTS: [&str; 4] = [
    r#"{"id":"019df290-e7c0-7abc-8def-0123456789ab","type":"interaction","child_id":"00000000-0000-4000-8000-000000000001","occurred_at":"2026-05-04T11:29:00.5+02:00","session_id":"00000000-0000-4000-8000-000000000002","device":{"id":"tablet","platform":"ios","app_version":"1.2"},"attributes":{"level":3,"hard":true,"ratio":0.25,"title":"caf\u00e9 \ud83d\ude00"},"data":{"action":"answer","is_correct":true,"subject":"math","topic":"fractions","response_time_ms":1200,"duration_ms":5000,"confidence":0.5,"difficulty":3,"xp":10,"badge":"star"}}"#,
    r#"{"id":"019df290-e7c0-7abc-8def-0123456789ac","type":"message","child_id":"00000000-0000-4000-8000-000000000001","occurred_at":"2026-05-04T09:29:00Z","data":{"conversation_id":"00000000-0000-4000-8000-000000000003","sequence":1,"role":"user","content":"why is the sky blue?","is_question":true,"depth_level":5,"tokens_used":12}}"#,
    r#"{"id":"3f2b8c1e-9d4a-4b6f-8a1c-2e5d7f9b0c3a","type":"speech","child_id":"00000000-0000-4000-8000-000000000001","occurred_at":"2026-05-04T09:29:00Z","data":{"audio_session_id":"00000000-0000-4000-8000-000000000004","window_ms":60000,"child_words":40,"snr_db":-3.5e0,"language":"it-IT"}}"#,
    r#"{"id":"019df290-e7c0-7abc-8def-0123456789ad","type":"session","child_id":"00000000-0000-4000-8000-000000000001","occurred_at":"2026-05-04T09:29:00Z","session_id":"00000000-0000-4000-8000-000000000002","data":{"action":"heartbeat","active_ms":30000,"kind":"play","device_type":"tablet"}}"#,
];

/// What parsers of JSON, text and numbers stumble over.
const TOKENS: [&[u8]; 28] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\\",
    b"\n",
    b"\r\n",
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x98",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"0.1e-400",
    b"9223372036854775808",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"\"data\":{\"data\":{",
    b"data:audio/wav;base64,",
    b"0000-00-00T24:60:61Z",
    b"+275760-09-13",
    b"00000000-0000-0000",
];

/// One of the seeds, with up to a dozen changes.
fn spoilt(u: &mut Unstructured<'_>, seeds: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut bytes = u.choose(seeds)?.clone();
    for _ in 0..u.int_in_range(0..=12)? {
        let at = u.int_in_range(0..=bytes.len())?;
        let to = u.int_in_range(at..=bytes.len().min(at + 64))?;
        match u.int_in_range(0..=5)? {
            0 => {
                bytes.drain(at..to);
            }
            1 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            2 if at < bytes.len() => bytes[at] = u.arbitrary()?,
            3 => {
                let other = u.choose(seeds)?;
                let from = u.int_in_range(0..=other.len())?;
                let until = u.int_in_range(from..=other.len().min(from + 256))?;
                bytes.splice(at..to, other[from..until].iter().copied());
            }
            4 if bytes.len() < 4_096 => bytes.truncate(to),
            _ => {
                let token = *u.choose(&TOKENS)?;
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
    Ok(bytes)
}

fn family() -> Registration {
    Registration {
        parent_id: ParentId::new(Uuid::from_u128(7)),
        age_group: AgeGroup::WonderCubs,
        timezone: Zone::named("Europe/Rome").unwrap(),
        deleted: false,
        coppa: true,
        audio: true,
        analytics: true,
        coppa_version: None,
        audio_version: None,
        consent_epoch: 0,
    }
}

/// The whole way of one event through ingest; the record, if it is taken.
fn ingest(json: &str, sent_at: Option<i64>) -> Option<Vec<u8>> {
    let parsed = parse::event(json, parse::Limits::default());
    let event = parsed.outcome.ok()?;
    let clocks = Clocks {
        received_at: RECEIVED_AT,
        sent_at,
    };
    let family = family();
    let record = event.admit(Some(&family)).ok()?;
    let record = record.into_record(&clocks).ok()?;
    let mut wire = Vec::new();
    record.encode(&mut wire).unwrap();
    assert!(!wire.contains(&0), "a NUL would stop PostgreSQL");
    let read = Record::decode(record.event_type, &wire).expect("consumers read what is accepted");
    assert_eq!(read.identity(), record.identity());
    assert_eq!(
        (read.event_time, read.local_date),
        (record.event_time, record.local_date)
    );
    Some(wire)
}

fn bodies() -> Vec<Vec<u8>> {
    let sent_at = "2026-05-04T09:29:30Z";
    let all = EVENTS.join(",");
    [
        format!(r#"{{"sent_at":"{sent_at}","events":[{all}]}}"#),
        format!(r#"{{"events":[{}]}}"#, EVENTS[0]),
        r#"{"events":[],"sent_at":null}"#.to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn lines() -> Vec<Vec<u8>> {
    [EVENTS.join("\n"), format!("\r\n{}\r\n\r\n", EVENTS[1])]
        .map(String::into_bytes)
        .to_vec()
}

fn records() -> Vec<Vec<u8>> {
    let record = |event: &&str| ingest(event, None).expect("a seed is a good event");
    EVENTS.iter().map(record).collect()
}

#[test]
fn any_batch_is_answered() {
    let seeds = bodies();
    arbtest(|u| {
        let body = spoilt(u, &seeds)?;
        let Ok(text) = std::str::from_utf8(&body) else {
            return Ok(());
        };
        if let Ok(batch) = batch::json(text, MAX_EVENTS) {
            assert!(batch.events.len() <= MAX_EVENTS);
            let mut repaired = body.clone();
            repair::json(&mut repaired);
            let again = std::str::from_utf8(&repaired).expect("only ASCII was changed");
            let again = batch::json(again, MAX_EVENTS).expect("a body stays one");
            assert_eq!(again.events.len(), batch.events.len());
            for (event, again) in batch.events.into_iter().zip(again.events) {
                assert!(text.as_bytes().as_ptr_range().contains(&event.as_ptr()));
                // A bare number is shorter without what was blanked at its end; it is no event either way.
                assert!(!event.starts_with('{') || event.len() == again.len());
                let record = ingest(event, batch.sent_at);
                let repaired = ingest(again, batch.sent_at);
                let parsed = parse::event(event, parse::Limits::default());
                assert!(parsed.doubtful || record == repaired, "{event}");
            }
        }
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}

#[test]
fn any_lines_are_answered() {
    let seeds = lines();
    arbtest(|u| {
        let body = spoilt(u, &seeds)?;
        let given = body
            .strip_prefix(batch::BYTE_ORDER_MARK.as_bytes())
            .unwrap_or(&body)
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .count();
        match batch::ndjson(&body, MAX_EVENTS) {
            Ok(lines) => {
                assert_eq!(lines.len(), given, "one answer a line");
                for event in lines.into_iter().flatten() {
                    ingest(event, None);
                }
            }
            Err(_) => assert!(given > MAX_EVENTS),
        }
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}

/// A record is read as it is or refused with a code; what is read can be written and read again.
#[test]
fn any_kafka_record_is_read_or_set_aside() {
    let seeds = records();
    arbtest(|u| {
        let payload = spoilt(u, &seeds)?;
        for expected in EventType::ALL {
            match Record::decode(*expected, &payload) {
                Ok(record) => {
                    assert_eq!(record.event_type, *expected);
                    let mut wire = Vec::new();
                    record.encode(&mut wire).unwrap();
                    let again = Record::decode(*expected, &wire).expect("it was read before");
                    assert_eq!(again.identity(), record.identity());
                }
                Err(error) => assert!(!error.code().is_empty()),
            }
        }
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}
