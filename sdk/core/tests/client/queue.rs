//! The queue: bounded, of one client, and there after the process is gone.

use std::{
    fs,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rivulet_sdk::{
    Bounds, Client, Config, Dropped, Event, NoAnswer, OpenError, Request, Response, Transport,
};
use serde_json::json;

use crate::common::{Bed, CHILD, SECOND, ids, nothing, view};

#[test]
fn what_is_stored_is_there_after_the_process_is_gone() {
    let bed = Bed::new();
    let client = bed.open();
    let sent: Vec<_> = (0..450)
        .map(|_| client.track(CHILD, view()).unwrap().to_string())
        .collect();
    bed.server.will([nothing()]);
    client.send();
    drop(client);
    let client = bed.restart();
    assert_eq!(client.stats().unwrap().queued, 450);
    assert_eq!(client.send().queued, 0);
    let posts = bed.server.posts.lock();
    let arrived: Vec<_> = posts[1..].iter().flat_map(ids).collect();
    assert_eq!(arrived, sent, "each once, in order");
}

#[test]
fn the_oldest_go_when_there_is_no_room_and_the_server_hears_of_it() {
    let bed = Bed::new();
    let mut config = bed.config();
    config.bounds = Bounds {
        events: 3,
        ..Bounds::default()
    };
    let client = Client::open(config).unwrap();
    let sent: Vec<_> = (0..5)
        .map(|_| client.track(CHILD, view()).unwrap().to_string())
        .collect();
    assert_eq!(
        *bed.told.dropped.lock(),
        [(Dropped::Overflow, 1), (Dropped::Overflow, 1)]
    );
    bed.server.will([nothing()]);
    client.send();
    bed.clocks.pass(2 * SECOND);
    client.send();
    let posts = bed.server.posts.lock();
    // Told again, because the first time nobody answered.
    assert_eq!(
        (&posts[0]["dropped"], &posts[1]["dropped"]),
        (&json!({"overflow": 2}), &json!({"overflow": 2}))
    );
    assert_eq!(ids(&posts[1]), sent[2..]);
    drop(posts);
    client.track(CHILD, view()).unwrap();
    client.send();
    assert!(bed.server.last()["dropped"].is_null());
    let stats = client.stats().unwrap();
    assert_eq!((stats.accepted, stats.dropped["overflow"]), (4, 2));
}

#[test]
fn bytes_are_bounded_like_events() {
    let bed = Bed::new();
    let mut config = bed.config();
    config.bounds = Bounds {
        bytes: 100_000,
        ..Bounds::default()
    };
    let client = Client::open(config).unwrap();
    for _ in 0..100 {
        let mut event = view();
        for n in 0..10 {
            event
                .attributes
                .insert(format!("a{n}"), "b".repeat(200).into());
        }
        client.track(CHILD, event).unwrap();
    }
    let stats = client.stats().unwrap();
    assert!(
        (97_000..=100_000).contains(&stats.queued_bytes),
        "{stats:?}"
    );
    assert_eq!(stats.queued + stats.dropped["overflow"], 100);
}

#[test]
fn a_second_client_of_a_store_is_refused() {
    let bed = Bed::new();
    let client = bed.open();
    assert!(matches!(Client::open(bed.config()), Err(OpenError::InUse)));
    let clone = client.clone();
    assert!(!client.close(Duration::ZERO), "another handle holds it");
    assert!(clone.close(Duration::ZERO));
    bed.open();
}

#[test]
fn a_client_lives_as_long_as_one_of_its_handles() {
    let bed = Bed::new();
    let client = bed.open();
    drop(client.clone());
    client.track(CHILD, view()).unwrap();
    assert_eq!(client.send().queued, 0);
}

/// A session has the client, and must not keep its thread and its store.
#[test]
fn a_client_that_is_dropped_before_its_session_lets_the_store_go() {
    let bed = Bed::new();
    let server: Arc<dyn Transport> = Arc::clone(&bed.server) as _;
    let client = Client::open(Config::with(
        "http://127.0.0.1:1",
        "k",
        bed.dir.path(),
        server,
    ))
    .unwrap();
    let session = client.session(CHILD, None);
    drop(client);
    drop(session);
    let patience = Instant::now() + Duration::from_secs(60);
    let again = loop {
        match Client::open(bed.config()) {
            Err(OpenError::InUse) if Instant::now() < patience => {
                thread::sleep(Duration::from_millis(5))
            }
            opened => break opened.unwrap(),
        }
    };
    let stats = again.stats().unwrap();
    assert_eq!(
        stats.accepted + stats.queued,
        2,
        "its start and its end: {stats:?}"
    );
}

/// A server that is slow to answer holds up nobody but who asked for it.
#[test]
fn nobody_waits_for_a_request_that_is_under_way() {
    struct Slow(Mutex<mpsc::Receiver<()>>, mpsc::SyncSender<()>);
    impl Transport for Slow {
        fn send(&self, _: &Request) -> Result<Response, NoAnswer> {
            _ = self.1.try_send(());
            _ = self.0.lock().recv();
            Err(NoAnswer("too late".to_owned()))
        }
    }
    let bed = Bed::new();
    let (answer, answers) = mpsc::channel();
    let (began, begins) = mpsc::sync_channel(1);
    let mut config = bed.config();
    config.transport = Arc::new(Slow(Mutex::new(answers), began));
    config.background = true;
    let client = Client::open(config).unwrap();
    client.track(CHILD, view()).unwrap();
    // The thread, or this one that asks for it by hand, is at the server.
    let by_hand = client.clone();
    let sending = thread::spawn(move || by_hand.send());
    begins.recv_timeout(Duration::from_secs(60)).unwrap();
    let (done, is_done) = mpsc::channel();
    let teller = client.clone();
    thread::spawn(move || {
        for _ in 0..500 {
            teller.track(CHILD, view()).unwrap();
        }
        teller.flush();
        teller.set_credential("rvk_other");
        teller.set_consent(None, Some(false));
        teller.background();
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(answer);
    sending.join().unwrap();
}

#[test]
fn a_store_that_cannot_be_read_is_put_aside_and_counted() {
    let bed = Bed::new();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    drop(client);
    fs::write(
        bed.dir.path().join("rivulet.db"),
        "no database at all, and longer than a header of one is",
    )
    .unwrap();
    let client = bed.open();
    client.track(CHILD, view()).unwrap();
    assert_eq!(client.send().queued, 0);
    assert_eq!(bed.server.last()["dropped"], json!({"damaged": 1}));
    assert!(bed.dir.path().join("rivulet.damaged").exists());
}

#[test]
fn a_store_of_a_newer_release_is_left_alone() {
    let bed = Bed::new();
    drop(bed.open());
    let path = bed.dir.path().join("rivulet.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 2")
        .unwrap();
    assert!(matches!(
        Client::open(bed.config()),
        Err(OpenError::Newer(2))
    ));
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 1")
        .unwrap();
    bed.open();
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let bed = Bed::new();
    let refused = |change: fn(&mut Config), names: &str| {
        let mut config = bed.config();
        change(&mut config);
        match Client::open(config) {
            Err(OpenError::Config(why)) => assert!(why.starts_with(names), "{why}"),
            other => panic!("{other:?}"),
        }
    };
    refused(|config| config.url = "events.example".to_owned(), "url ");
    refused(|config| config.bounds.events = 0, "bounds.events ");
    refused(|config| config.bounds.bytes = 1, "bounds.bytes ");
    refused(
        |config| config.flush_interval = Duration::ZERO,
        "flush_interval ",
    );
}

/// With a thread and the real clocks: events of four threads arrive, each once, though every other answer is lost.
#[test]
fn a_thread_sends_by_itself() {
    let bed = Bed::new();
    let server: Arc<dyn Transport> = Arc::clone(&bed.server) as _;
    let mut config = Config::with("http://127.0.0.1:1", "rvk_key", bed.dir.path(), server);
    config.flush_interval = Duration::from_secs(1);
    let client = Client::open(config).unwrap();
    bed.server.will([nothing()]);
    let tellers: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || {
                for _ in 0..100 {
                    client
                        .track(CHILD, Event::new("interaction", json!({"action": "view"})))
                        .unwrap();
                }
            })
        })
        .collect();
    tellers
        .into_iter()
        .for_each(|teller| teller.join().unwrap());
    let patience = Instant::now() + Duration::from_secs(60);
    while client.stats().unwrap().accepted < 400 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.stats().unwrap().accepted, 400);
    assert!(client.close(Duration::from_secs(60)), "the thread ends");
    bed.open();
}
