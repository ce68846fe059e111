//! The simulated app's stream through every role: all that is stored equals the naive recount.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use rivulet_sandbox::TestBed;
use rivulet_tests::{Rivulet, check};

/// What each role must stay under, bytes.
const MEMORY: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn every_table_equals_the_recount_of_the_ledger() {
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let roles = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let ledger = rivulet.ledger(1);
    let said = rivulet
        .command(&[
            "simulate",
            "--seed",
            "1",
            "--children",
            "120",
            "--history",
            "20",
            "--rate",
            "500",
            "--duration",
            "4",
            "--ledger",
            ledger.to_str().unwrap(),
            "--url",
            &format!("http://{}", roles[0].address),
            "--ingest-key",
            &rivulet.ingest_key,
            "--admin-key",
            &rivulet.admin_key,
        ])
        .await
        .unwrap();
    for word in [
        "accepted",
        "unknown_child",
        "consent_required",
        "invalid_field",
        "in_future",
    ] {
        assert!(said.contains(word), "no {word} in: {said}");
    }
    let checked = check::exact(&rivulet, &[ledger]).await.unwrap();
    println!("{said}\n{checked:?}");
    assert!(
        checked.events > 10_000 && checked.copies > 100,
        "{checked:?}"
    );
    for role in roles {
        let memory = role.peak_memory().unwrap();
        assert!(memory < MEMORY, "{} MiB", memory >> 20);
        role.stop().await.unwrap();
    }
}
