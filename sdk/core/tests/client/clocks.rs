//! The time of an event arrives right, whatever the device's clock does in between.

use serde_json::Value;

use crate::common::{Bed, CHILD, DAY, HOUR, NOW, SECOND, nothing, view};

fn time(value: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap())
        .unwrap()
        .timestamp_millis()
}

/// When the server takes the only event of the newest post to have happened, by its own rule.
fn event_time(bed: &Bed) -> i64 {
    let post = bed.server.last();
    let received = bed.server.now.lock().unwrap_or(NOW);
    time(&post["events"][0]["occurred_at"]) + received - time(&post["sent_at"])
}

#[test]
fn a_clock_that_is_set_while_the_app_runs_moves_no_event() {
    for set_on in [-3 * DAY, -HOUR, HOUR, 40 * DAY] {
        let bed = Bed::new();
        let client = bed.open();
        client.track(CHILD, view()).unwrap();
        bed.clocks.pass(20 * SECOND);
        bed.clocks.set_on(set_on);
        // Of the new clock, so it cannot be of the same batch.
        client.track(CHILD, view()).unwrap();
        bed.clocks.pass(10 * SECOND);
        *bed.server.now.lock() = Some(NOW + 30 * SECOND);
        client.send();
        let posts = bed.server.posts.lock().clone();
        assert_eq!(posts.len(), 2, "set on by {set_on}");
        let of = |post: &Value| time(&post["events"][0]["occurred_at"]) - time(&post["sent_at"]);
        assert_eq!((of(&posts[0]), of(&posts[1])), (-30 * SECOND, -10 * SECOND));
    }
}

#[test]
fn a_clock_that_was_wrong_in_an_earlier_run_is_put_right_by_what_the_server_said_then() {
    let bed = Bed::new();
    bed.clocks.set_on(-50 * DAY);
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    client.send();
    assert_eq!(event_time(&bed), NOW);
    // Offline; then it is put right, and the app starts again a day later.
    bed.clocks.pass(HOUR);
    client.track(CHILD, view()).unwrap();
    drop(client);
    bed.clocks.set_on(50 * DAY);
    bed.clocks.pass(DAY);
    *bed.server.now.lock() = Some(NOW + HOUR + DAY);
    let client = bed.restart();
    client.send();
    let posts = bed.server.posts.lock().len();
    assert_eq!(posts, 3, "it asks for the time before it sends");
    assert_eq!(event_time(&bed), NOW + HOUR);
    assert_eq!(client.stats().unwrap().accepted, 2);
}

/// What is known of a clock is of no use in the next epoch, nor that the server was asked in it.
#[test]
fn the_server_is_asked_again_after_the_clock_was_set_again() {
    let bed = Bed::new();
    let client = bed.open();
    client.send();
    for _ in 0..2 {
        client.track(CHILD, view()).unwrap();
        client.send();
        client.track(CHILD, view()).unwrap();
    }
    drop(client);
    bed.clocks.set_on(-50 * DAY);
    let client = bed.restart();
    // It asks, hears nothing that helps, and somebody sets the clock once more.
    bed.server.will([nothing()]);
    client.send();
    bed.clocks.set_on(20 * DAY);
    bed.clocks.pass(2 * SECOND);
    *bed.server.now.lock() = Some(NOW + 2 * SECOND);
    client.send();
    assert_eq!(event_time(&bed), NOW);
}

#[test]
fn a_clock_that_was_set_again_and_again_over_several_runs_without_a_network() {
    let bed = Bed::new();
    bed.server.will((0..9).map(|_| nothing()));
    let mut client = bed.open();
    // Of each event: how far its clock was off from what it is at the end, and how long ago it was.
    let set = [HOUR, -3 * DAY, 9 * DAY, -HOUR, 40 * SECOND];
    for set_on in set {
        client.track(CHILD, view()).unwrap();
        bed.clocks.pass(60 * SECOND);
        bed.clocks.set_on(set_on);
        // It is seen by whatever runs next.
        client.send();
        drop(client);
        bed.server.script.lock().clear();
        bed.server.will((0..9).map(|_| nothing()));
        client = bed.restart();
    }
    bed.server.script.lock().clear();
    bed.server.posts.lock().clear();
    client.flush();
    client.send();
    let posts = bed.server.posts.lock();
    for (index, post) in posts.iter().enumerate() {
        let ago = time(&post["sent_at"]) - time(&post["events"][0]["occurred_at"]);
        assert_eq!(ago, 60 * SECOND * i64::try_from(set.len() - index).unwrap());
    }
    assert_eq!(posts.len(), set.len());
}

#[test]
fn an_id_tells_when_it_was_made_by_the_servers_clock() {
    let bed = Bed::new();
    bed.clocks.set_on(-50 * DAY);
    let client = bed.open();
    let made = |id: uuid::Uuid| {
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        i64::try_from(seconds).unwrap() * 1000 + i64::from(nanos / 1_000_000)
    };
    // Nothing is known yet.
    assert_eq!(made(client.track(CHILD, view()).unwrap()), NOW - 50 * DAY);
    client.send();
    assert_eq!(made(client.track(CHILD, view()).unwrap()), NOW);
}

#[test]
fn nothing_is_thrown_away_for_a_clock_that_jumped() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    drop(client);
    bed.clocks.pass(HOUR);
    bed.clocks.set_on(100 * DAY);
    let client = bed.restart();
    bed.server.will([nothing()]);
    let queued = client.send().queued;
    assert_eq!(queued, 1);
    bed.clocks.set_on(-100 * DAY);
    bed.clocks.pass(2 * SECOND);
    assert_eq!(client.send().queued, 0);
    assert_eq!(client.stats().unwrap().accepted, 1);
}

#[test]
fn what_waited_for_more_than_thirty_days_is_dropped_and_counted() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    client.send();
    client.track(CHILD, view()).unwrap();
    bed.clocks.pass(DAY);
    client.track(CHILD, view()).unwrap();
    bed.clocks.pass(29 * DAY + 1);
    *bed.server.now.lock() = Some(NOW + 30 * DAY + 1);
    assert_eq!(client.send().queued, 0);
    let stats = client.stats().unwrap();
    assert_eq!((stats.accepted, stats.dropped["expired"]), (2, 1));
}
