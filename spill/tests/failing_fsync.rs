//! A disk whose fsync fails: what it was asked for is refused and undone, and never durable later.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::{env, fs, path::Path, process::Command, time::Duration};

use rivulet_spill::{MIN_BYTES, Record, Refused, Spill};
use tempfile::TempDir;

const FLAG: &str = "FSYNC_FAILS";

/// No disk can be asked to fail, so a process of its own gets an fsync that can.
#[test]
fn what_could_not_be_synced_is_refused_and_undone() {
    if let Ok(flag) = env::var(FLAG) {
        return scenario(Path::new(&flag));
    }
    let dir = TempDir::new().unwrap();
    let library = dir.path().join("fail_fsync.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fail_fsync.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(built.unwrap().success());
    let ended = Command::new(env::current_exe().unwrap())
        .env("LD_PRELOAD", library)
        .env(FLAG, dir.path().join("fails"))
        .status();
    assert!(ended.unwrap().success());
}

#[tokio::main]
async fn scenario(flag: &Path) {
    let dir = TempDir::new().unwrap();
    let spill = Spill::open(dir.path(), MIN_BYTES).unwrap();
    let record = |text: &str| {
        vec![Record {
            since: 0,
            bytes: text.into(),
        }]
    };
    spill.append(record("before")).await.unwrap();
    fs::write(flag, "").unwrap();
    for _ in 0..3 {
        let refused = spill.append(record("while")).await;
        assert_eq!(refused, Err(Refused::Disk));
    }
    assert_eq!(spill.has_room(), Err(Refused::Disk));
    fs::remove_file(flag).unwrap();
    let recovered = async {
        while spill.has_room().is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recovered)
        .await
        .unwrap();
    spill.append(record("after")).await.unwrap();
    spill.close().await;
    let spill = Spill::open(dir.path(), MIN_BYTES).unwrap();
    let found = spill.first(0, 10).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|one| one.record.bytes).collect();
    assert_eq!(found, [b"before".to_vec(), b"after".to_vec()]);
}
