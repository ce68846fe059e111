//! A disk that takes no more: this process may write files up to a size and no further.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::time::Duration;

use rivulet_spill::{Record, Refused, Spill};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_what_fitted_stays_and_can_be_removed() {
    let dir = TempDir::new().unwrap();
    let spill = Spill::open(dir.path(), 1 << 30).unwrap();
    let free = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(3 << 20),
            maximum: free.maximum,
        },
    )
    .unwrap();
    let batch = |number: i64| {
        let one = Record {
            since: number,
            bytes: vec![b'x'; 700],
        };
        vec![one; 100]
    };
    let mut kept = 0;
    let refused = loop {
        match spill.append(batch(kept)).await {
            Ok(()) => kept += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::NoRoom | Refused::Disk));
    assert_eq!(spill.has_room(), Err(refused));
    assert!(kept > 10);
    // It stays so, and nothing that was refused is there.
    assert!(spill.append(batch(kept)).await.is_err());
    let state = spill.state();
    assert_eq!(
        (state.records, state.fault.is_some()),
        (kept as u64 * 100, true)
    );
    let found = spill.first(0, 100).await.unwrap();
    assert!(found.iter().all(|spilled| spilled.record.since == 0));
    let seqs = found.iter().map(|spilled| spilled.seq).collect();
    spill.remove(seqs).await.unwrap();

    setrlimit(Resource::Fsize, free).unwrap();
    let recovered = async {
        while spill.has_room().is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recovered)
        .await
        .unwrap();
    spill.append(batch(kept)).await.unwrap();
    spill.close().await;
    let spill = Spill::open(dir.path(), 1 << 30).unwrap();
    let found = spill.first(0, usize::MAX).await.unwrap();
    let expected = (1..=kept).flat_map(|number| [number; 100]);
    assert!(
        found
            .iter()
            .map(|spilled| spilled.record.since)
            .eq(expected)
    );
}
