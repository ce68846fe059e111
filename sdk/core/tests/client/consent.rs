//! What nobody consents to is neither kept nor sent.

use rivulet_sdk::{Dropped, NotStored};
use serde_json::json;

use crate::common::{Bed, CHILD, HOUR, OTHER, SECOND, ids, speech, view};

#[test]
fn an_app_that_withdraws_it_purges_what_waits() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    client.track(CHILD, speech()).unwrap();
    client.set_consent(None, Some(false));
    assert_eq!(client.stats().unwrap().queued, 1);
    assert_eq!(client.track(OTHER, speech()), Err(NotStored::Consent));
    client.track(OTHER, view()).unwrap();
    client.set_consent(Some(false), None);
    assert_eq!(client.track(CHILD, view()), Err(NotStored::Consent));
    assert_eq!(client.send().queued, 0);
    assert!(bed.server.posts.lock().is_empty());
    assert_eq!(client.stats().unwrap().dropped["consent"], 5);
    client.set_consent(Some(true), None);
    client.track(CHILD, view()).unwrap();
    assert_eq!(client.track(CHILD, speech()), Err(NotStored::Consent));
    client.set_consent(None, Some(true));
    client.track(CHILD, speech()).unwrap();
    client.send();
    assert_eq!(bed.server.last()["dropped"], json!({"consent": 6}));
    assert_eq!(client.stats().unwrap().accepted, 2);
}

#[test]
fn a_server_that_refuses_it_is_believed_for_that_child_alone() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, speech()).unwrap();
    bed.server
        .will([Ok(bed.server.outcomes(&["consent_required"]))]);
    client.send();
    assert_eq!(client.track(CHILD, speech()), Err(NotStored::Consent));
    client.track(OTHER, speech()).unwrap();
    client.track(CHILD, view()).unwrap();
    bed.server
        .will([Ok(bed.server.outcomes(&["accepted", "consent_required"]))]);
    client.send();
    assert_eq!(client.track(CHILD, view()), Err(NotStored::Consent));
    client.track(OTHER, view()).unwrap();
    let stats = client.stats().unwrap();
    assert_eq!(
        (stats.rejected["consent_required"], stats.dropped["consent"]),
        (2, 2)
    );
    // It is tried again after the next start.
    drop(client);
    let client = bed.restart();
    client.track(CHILD, view()).unwrap();
    assert_eq!(client.send().queued, 0);
}

#[test]
fn a_family_that_the_server_knows_is_obeyed_before_anything_is_sent() {
    let bed = Bed::new();
    let config = |coppa, audio| {
        json!({"enabled": true, "max_events": 1000, "max_event_bytes": 65536, "flush_interval_s": 30,
               "consents": {"coppa": coppa, "audio": audio, "analytics": false}})
    };
    *bed.server.config.lock() = Some(config(true, false));
    let client = bed.open();
    client.track(CHILD, speech()).unwrap();
    let kept = client.track(CHILD, view()).unwrap();
    client.send();
    assert_eq!(ids(&bed.server.last()), [kept.to_string()]);
    assert_eq!(*bed.told.dropped.lock(), [(Dropped::Consent, 1)]);
    *bed.server.config.lock() = Some(config(true, true));
    bed.clocks.pass(HOUR);
    client.send();
    client.track(CHILD, speech()).unwrap();
    *bed.server.config.lock() = Some(config(false, true));
    bed.clocks.pass(HOUR + SECOND);
    assert_eq!(client.send().queued, 0);
    assert_eq!(bed.server.posts.lock().len(), 1);
    // The app's word stands beside the server's.
    client.set_consent(Some(true), Some(true));
    assert_eq!(client.track(CHILD, view()), Err(NotStored::Consent));
}
