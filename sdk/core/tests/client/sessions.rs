//! Active time is the time in which a child was there.

use rivulet_sdk::{Client, SessionKind};
use serde_json::Value;

use crate::common::{Bed, CHILD, DAY, HOUR, SECOND};

/// Action and active time of every session event that arrived.
fn told(bed: &Bed, client: &Client) -> Vec<(String, i64)> {
    client.flush();
    client.send();
    let posts = bed.server.posts.lock();
    let events = posts
        .iter()
        .flat_map(|post| post["events"].as_array().unwrap());
    let told = |event: &Value| {
        let data = &event["data"];
        assert_eq!(data["kind"], "story");
        (
            data["action"].as_str().unwrap().to_owned(),
            data["active_ms"].as_i64().unwrap_or(0),
        )
    };
    events.map(told).collect()
}

fn all(told: &[(&str, i64)]) -> Vec<(String, i64)> {
    told.iter()
        .map(|(action, active)| ((*action).to_owned(), *active))
        .collect()
}

#[test]
fn a_session_tells_of_itself_each_minute() {
    let bed = Bed::new();
    let client = bed.open();
    let session = client.session(CHILD, Some(SessionKind::Story));
    for _ in 0..5 {
        bed.clocks.pass(30 * SECOND);
        client.send();
    }
    session.end();
    let minute = 60 * SECOND;
    let expected = [
        ("start", 0),
        ("heartbeat", minute),
        ("heartbeat", minute),
        ("end", 30 * SECOND),
    ];
    assert_eq!(told(&bed, &client), all(&expected));
    let posts = bed.server.posts.lock();
    let of = |post: &Value| post["events"][0]["session_id"].clone();
    assert!(posts.iter().all(|post| of(post) == of(&posts[0])));
}

#[test]
fn neither_a_clock_that_is_set_nor_sleep_nor_the_background_is_activity() {
    let bed = Bed::new();
    let client = bed.open();
    let session = client.session(CHILD, Some(SessionKind::Story));
    bed.clocks.pass(10 * SECOND);
    bed.clocks.set_on(3 * DAY);
    client.background();
    bed.clocks.pass(HOUR);
    client.send();
    client.foreground();
    bed.clocks.pass(5 * SECOND);
    // The tablet sleeps, and its clock goes on.
    client.send();
    bed.clocks.pass(HOUR);
    client.send();
    bed.clocks.pass(7 * SECOND);
    session.pause();
    session.pause();
    bed.clocks.pass(20 * SECOND);
    // What the child has paused, the app does not go on with.
    client.background();
    client.foreground();
    session.resume();
    bed.clocks.pass(SECOND);
    drop(session);
    let expected = [
        ("start", 0),
        ("pause", 10 * SECOND),
        ("resume", 0),
        ("heartbeat", 5 * SECOND),
        ("pause", 7 * SECOND),
        ("resume", 0),
        ("end", SECOND),
    ];
    assert_eq!(told(&bed, &client), all(&expected));
}
