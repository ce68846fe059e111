//! What a client does about each answer.

use std::time::Duration;

use rivulet_sdk::{Dropped, Stopped};
use serde_json::json;

use crate::common::{Bed, CHILD, HOUR, NOW, SECOND, ids, nothing, problem, status, tokens, view};

#[test]
fn what_is_accepted_or_rejected_is_forgotten_and_counted_and_the_rest_is_sent_again() {
    let bed = Bed::new();
    let client = bed.open();
    let sent: Vec<_> = (0..4)
        .map(|_| client.track(CHILD, view()).unwrap())
        .collect();
    bed.server.will([Ok(bed.server.outcomes(&[
        "accepted",
        "retry",
        "invalid_field",
        "accepted",
    ]))]);
    let progress = client.send();
    assert_eq!(progress.queued, 1);
    let wait = progress.wait.unwrap();
    assert!(wait <= Duration::from_secs(2), "{wait:?}");
    let rejected = bed.told.rejected.lock();
    assert_eq!(
        (rejected[0].id, &*rejected[0].code),
        (sent[2], "invalid_field")
    );
    assert_eq!(rejected[0].pointer.as_deref(), Some("/data"));
    drop(rejected);
    bed.clocks.pass(2 * SECOND);
    assert_eq!(client.send().queued, 0);
    let posts = bed.server.posts.lock();
    assert_eq!(ids(&posts[1]), [sent[1].to_string()]);
    // As it was before, to the letter.
    assert_eq!(posts[0]["events"][1], posts[1]["events"][0]);
    drop(posts);
    let stats = client.stats().unwrap();
    assert_eq!(
        (stats.accepted, stats.queued, stats.queued_bytes),
        (3, 0, 0)
    );
    assert_eq!(stats.rejected["invalid_field"], 1);
    assert!(stats.dropped.is_empty());
}

#[test]
fn without_an_answer_it_waits_longer_each_time() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    let not_ours = Ok(status(200, &json!({"hotel": "log in"})));
    let short = Ok(bed.server.outcomes(&[]));
    let mut failures = vec![
        nothing(),
        not_ours,
        short,
        problem(502, ""),
        problem(500, "internal"),
        problem(408, "timeout"),
    ];
    failures.extend((0..20).map(|_| nothing()));
    let count = failures.len();
    bed.server.will(failures);
    for n in 1..=count {
        let before = bed.server.posts.lock().len();
        let progress = client.send();
        assert_eq!(
            (bed.server.posts.lock().len(), progress.queued),
            (before + 1, 1)
        );
        let longest = (1_u64 << n.min(10)).min(300);
        let wait = progress.wait.unwrap_or_default();
        assert!(wait <= Duration::from_secs(longest), "{n}: {wait:?}");
        bed.clocks.pass(i64::try_from(wait.as_millis()).unwrap());
    }
    assert_eq!(client.send().queued, 0);
    assert_eq!(client.stats().unwrap().accepted, 1);
}

#[test]
fn the_server_says_how_long_and_nobody_hurries_it() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    let mut busy = status(429, &json!({"code": "rate_limited"}));
    busy.retry_after = Some("100".to_owned());
    bed.server.will([Ok(busy)]);
    let wait = client.send().wait.unwrap();
    assert!((100..=120).contains(&wait.as_secs()), "{wait:?}");
    client.flush();
    bed.clocks.pass(99 * SECOND);
    client.send();
    assert_eq!(bed.server.posts.lock().len(), 1);
    bed.clocks.pass(22 * SECOND);
    assert_eq!(client.send().queued, 0);
    // A wait of its own is over when the app says that there is a network again.
    client.track(CHILD, view()).unwrap();
    bed.server.will((0..8).map(|_| nothing()));
    let tried = || bed.server.posts.lock().len();
    let before = tried();
    for _ in 0..8 {
        client.flush();
        client.send();
    }
    assert_eq!(tried(), before + 8);
}

#[test]
fn too_much_at_once_is_halved_and_too_much_in_one_is_dropped() {
    let bed = Bed::new();
    let client = bed.open();
    let sent: Vec<_> = (0..5)
        .map(|_| client.track(CHILD, view()).unwrap())
        .collect();
    let large = || problem(413, "body_too_large");
    bed.server.will([large(), large(), large()]);
    assert_eq!(client.send().queued, 0);
    let posts = bed.server.posts.lock();
    let sizes: Vec<_> = posts.iter().map(|post| ids(post).len()).collect();
    assert_eq!(sizes, [5, 2, 1, 1, 1, 1, 1]);
    drop(posts);
    assert_eq!(*bed.told.dropped.lock(), [(Dropped::TooLarge, 1)]);
    // The server hears of it with the next batch, once.
    let posts = bed.server.posts.lock();
    assert_eq!(posts[3]["dropped"], json!({"too_large": 1}));
    assert_eq!(ids(&posts[3]), [sent[1].to_string()]);
    assert!(posts[4]["dropped"].is_null());
}

#[test]
fn a_token_is_asked_for_once_when_it_is_refused() {
    let bed = Bed::new();
    let mut config = bed.config();
    config.credential = tokens(&["old", "new", "newer"]);
    let client = rivulet_sdk::Client::open(config).unwrap();
    client.track(CHILD, view()).unwrap();
    bed.server.will([problem(401, "unauthorized")]);
    assert_eq!(client.send().queued, 0);
    assert_eq!(*bed.server.credentials.lock(), ["Bearer old", "Bearer new"]);
    // The new one is refused too: the app has to do something.
    client.track(CHILD, view()).unwrap();
    bed.server
        .will([problem(401, "unauthorized"), problem(401, "unauthorized")]);
    let progress = client.send();
    assert_eq!(
        (progress.queued, progress.stopped),
        (1, Some(Stopped::Unauthorized))
    );
    assert_eq!(*bed.told.stopped.lock(), [Stopped::Unauthorized]);
    client.flush();
    assert_eq!(client.send().stopped, Some(Stopped::Unauthorized));
    client.set_credential("rvk_other");
    assert_eq!(client.send().queued, 0);
    assert_eq!(
        bed.server.credentials.lock().last().unwrap(),
        "Bearer rvk_other"
    );
}

#[test]
fn a_token_that_is_about_to_end_is_not_sent() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let token = |exp_ms: i64| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({"exp": exp_ms / 1000}).to_string());
        format!("e30.{claims}.s")
    };
    let bed = Bed::new();
    let (old, new) = (token(NOW + 59 * SECOND), token(NOW + 10 * HOUR));
    let mut config = bed.config();
    config.credential = tokens(&[&old, &new]);
    let client = rivulet_sdk::Client::open(config).unwrap();
    for _ in 0..2 {
        client.track(CHILD, view()).unwrap();
        client.send();
    }
    // The first was good to ask for the config, a moment before.
    assert_eq!(
        *bed.server.credentials.lock(),
        [format!("Bearer {new}"), format!("Bearer {new}")]
    );
}

#[test]
fn a_key_that_may_not_send_stops_and_keeps_everything_for_an_hour() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    bed.server.will([problem(403, "forbidden")]);
    assert_eq!(client.send().stopped, Some(Stopped::Forbidden));
    bed.clocks.pass(HOUR - 1);
    assert_eq!(
        (client.send().queued, bed.server.posts.lock().len()),
        (1, 1)
    );
    bed.clocks.pass(1);
    assert_eq!(client.send().queued, 0);
    assert_eq!(bed.told.stopped.lock().len(), 1);
}

#[test]
fn a_request_that_nobody_takes_is_told_and_kept() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    bed.server.will([problem(415, "unsupported_encoding")]);
    let progress = client.send();
    let code = "unsupported_encoding".to_owned();
    assert_eq!(
        progress.stopped.unwrap_or(Stopped::Refused {
            status: 415,
            code: code.clone()
        }),
        Stopped::Refused { status: 415, code }
    );
    assert_eq!((progress.queued, bed.told.stopped.lock().len()), (1, 1));
    bed.clocks.pass(2 * SECOND);
    assert_eq!(client.send().queued, 0);
}

#[test]
fn the_server_says_whether_and_how_much() {
    let bed = Bed::new();
    let wishes = |enabled| json!({"enabled": enabled, "max_events": 2, "max_event_bytes": 400, "flush_interval_s": 5, "consents": null});
    *bed.server.config.lock() = Some(wishes(false));
    let client = bed.open();
    for _ in 0..3 {
        client.track(CHILD, view()).unwrap();
    }
    let progress = client.send();
    assert_eq!(
        (progress.queued, progress.stopped),
        (3, Some(Stopped::Disabled))
    );
    assert!(bed.server.posts.lock().is_empty());
    *bed.server.config.lock() = Some(wishes(true));
    bed.clocks.pass(600 * SECOND);
    assert_eq!(client.send().queued, 0);
    let sizes: Vec<_> = bed
        .server
        .posts
        .lock()
        .iter()
        .map(|post| ids(post).len())
        .collect();
    assert_eq!(sizes, [2, 1]);
    let mut large = view();
    large.attributes.insert("a".into(), "b".repeat(300).into());
    assert_eq!(
        client.track(CHILD, large),
        Err(rivulet_sdk::NotStored::TooLarge)
    );
    assert_eq!(client.stats().unwrap().dropped["too_large"], 1);
}
