//! The body of a request: which events it has, and what else it says.

use rivulet_events::batch;

#[test]
fn bodies_are_split_without_reading_events() {
    use batch::BatchError::{InvalidBody, InvalidSentAt, MissingEvents, TooManyEvents};
    let body =
        r#" {"sent_at": "2026-05-04T12:00:00Z", "more": [1], "events": [ {"a":1}, 5 ,{"b":{}}]} "#;
    let batch = batch::json(body, 3).unwrap();
    assert_eq!(batch.sent_at, Some(1_777_896_000_000));
    assert_eq!(batch.events, [r#"{"a":1}"#, "5", r#"{"b":{}}"#]);
    assert_eq!(batch::json(body, 2).unwrap_err(), TooManyEvents(2));
    assert!(
        batch::json(r#"{"events":[]}"#, 1)
            .unwrap()
            .events
            .is_empty()
    );
    for body in [
        "{}",
        r#"{"events":null}"#,
        r#"{"sent_at":"2026-05-04T12:00:00Z"}"#,
    ] {
        assert_eq!(batch::json(body, 1).unwrap_err(), MissingEvents, "{body}");
    }
    for sent_at in ["5", "\"yesterday\"", "\"\"", "{}"] {
        let body = format!(r#"{{"events":[],"sent_at":{sent_at}}}"#);
        assert_eq!(batch::json(&body, 1).unwrap_err(), InvalidSentAt, "{body}");
    }
    assert_eq!(
        batch::json(r#"{"events":[],"sent_at":null}"#, 1)
            .unwrap()
            .sent_at,
        None
    );
    for body in [
        "",
        "5",
        "[]",
        "[{}]",
        r#"{"events":{}}"#,
        r#"{"events":"secret"}"#,
        r#"{"events":[1}"#,
        r#"{"events":[]}x"#,
        r#"{"events":[],"events":[]}"#,
        r#"{"x":1,"x":1,"events":[]}"#,
    ] {
        let error = batch::json(body, 9).unwrap_err();
        assert!(
            matches!(&error, InvalidBody(text) if !text.contains("secret")),
            "{body} {error:?}"
        );
    }
    // Nor does a body hold more than it has events.
    let keys = |count: usize| -> String { (0..count).map(|n| format!("\"{n}\":0,")).collect() };
    let few = format!("{{{}\"events\":[]}}", keys(999));
    assert!(batch::json(&few, 9).unwrap().events.is_empty());
    let many = format!("{{{}\"events\":[]}}", keys(1_000));
    let error = batch::json(&many, 9).unwrap_err();
    assert!(matches!(error, InvalidBody(_)), "{error:?}");
    // Deep and endless bodies cost no stack and no time.
    let deep = format!(
        r#"{{"events":[{}{}]}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(batch::json(&deep, 9).unwrap().events.len(), 1);
    let many = format!(r#"{{"events":[{}1]}}"#, "1,".repeat(1_000_000));
    assert_eq!(batch::json(&many, 1000).unwrap_err(), TooManyEvents(1000));

    let lines = batch::ndjson(b"{\"a\":1}\r\n\n  \n{\"b\":\xff}\n{\"c\":3}", 3).unwrap();
    assert_eq!(
        lines,
        [Ok("{\"a\":1}"), Err(batch::InvalidUtf8), Ok("{\"c\":3}")]
    );
    assert_eq!(
        batch::ndjson(b"1\n2\n3\n4", 3).unwrap_err(),
        TooManyEvents(3)
    );
}

#[test]
fn what_a_client_lost_is_a_number_for_each_reason_that_is_known() {
    let body = r#"{"dropped": {"overflow": 3}, "events": []}"#;
    let dropped = batch::json(body, 1).unwrap().dropped.unwrap();
    assert_eq!(batch::lost(dropped), [3, 0, 0, 0, 0, 0, 0]);
    let lost = batch::lost(r#"{"disk": 2, "expired": 0, "cosmic": 4, "ray": 1}"#);
    assert_eq!(lost, [0, 0, 0, 0, 2, 0, 5]);
    // A client that is mistaken, or lies, spoils no more than a bounded part of a number.
    let many = r#"{"overflow": 18446744073709551615, "a": 18446744073709551615, "b": 1}"#;
    assert_eq!(batch::lost(many), [1_000_000, 0, 0, 0, 0, 0, 1_000_000]);
    let long = format!("{{\"{}\": 1}}", "a".repeat(1_000));
    for nonsense in [
        "null",
        "5",
        "[]",
        r#"{"disk": -1}"#,
        r#"{"disk": 1.5}"#,
        r#"{"disk": "1"}"#,
        &long,
    ] {
        assert_eq!(batch::lost(nonsense), [0; 7], "{nonsense}");
        // It never costs the events.
        let body = format!(r#"{{"dropped": {nonsense}, "events": [1]}}"#);
        assert_eq!(batch::json(&body, 1).unwrap().events, ["1"]);
    }
}
