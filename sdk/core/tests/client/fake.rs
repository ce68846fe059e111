//! The fake that apps test with.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rivulet_sdk::{Event, fake::FakeServer};
use serde_json::json;

use crate::common::CHILD;

#[test]
fn an_app_can_test_what_it_tells() {
    let server = Arc::new(FakeServer::default());
    let client = server.client().unwrap();
    let answer = json!({"action": "answer", "is_correct": true, "subject": "math"});
    client
        .track(CHILD, Event::new("interaction", answer))
        .unwrap();
    server.set_offline(true);
    assert_eq!(client.send().queued, 1);
    server.set_offline(false);
    client.flush();
    assert_eq!(client.send().queued, 0);
    server.assert_sent("interaction", &json!({"is_correct": true}));
    assert_eq!(server.events()[0]["child_id"], json!(CHILD));
    let wrong = || server.assert_sent("interaction", &json!({"is_correct": false}));
    let wrong = catch_unwind(AssertUnwindSafe(wrong));
    let said = *wrong.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains(r#""subject": String("math")"#), "{said}");
}
