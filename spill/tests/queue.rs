//! What a queue on the disk promises, one after another.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use proptest::prelude::*;
use rivulet_spill::{MIN_BYTES, OpenError, Record, Refused, Spill, Spilled};
use tempfile::TempDir;

fn record(since: i64, text: &str) -> Record {
    Record {
        since,
        bytes: text.as_bytes().to_vec(),
    }
}

fn open(dir: &Path) -> Spill {
    Spill::open(dir, MIN_BYTES).unwrap()
}

async fn all(spill: &Spill) -> Vec<Spilled> {
    spill.first(i64::MIN, usize::MAX).await.unwrap()
}

fn texts(spilled: &[Spilled]) -> Vec<&str> {
    let text = |spilled: &'_ Spilled| std::str::from_utf8(&spilled.record.bytes).is_ok();
    assert!(spilled.iter().all(text));
    spilled
        .iter()
        .map(|spilled| std::str::from_utf8(&spilled.record.bytes).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_comes_out_in_order_and_stays_until_it_is_removed() {
    let dir = TempDir::new().unwrap();
    let spill = open(dir.path());
    spill
        .append(vec![record(7, "a"), record(8, "b")])
        .await
        .unwrap();
    spill.append(vec![record(9, "c")]).await.unwrap();
    let found = all(&spill).await;
    assert_eq!(texts(&found), ["a", "b", "c"]);
    assert_eq!(texts(&spill.first(0, 2).await.unwrap()), ["a", "b"]);
    let state = spill.state();
    assert_eq!((state.records, state.oldest), (3, Some(7)));

    spill.close().await;
    assert_eq!(
        spill.append(vec![record(1, "late")]).await,
        Err(Refused::Closed)
    );
    let spill = open(dir.path());
    assert_eq!(spill.state().records, 3);
    assert_eq!(all(&spill).await, found);
    spill
        .remove(vec![found[0].seq, found[2].seq])
        .await
        .unwrap();
    spill.append(vec![record(10, "d")]).await.unwrap();
    assert_eq!(texts(&all(&spill).await), ["b", "d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_share_a_transaction_keep_their_order_and_lose_nothing() {
    let dir = TempDir::new().unwrap();
    let spill = open(dir.path());
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let spill = spill.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    let records = vec![record(0, &format!("{task}:{n}"))];
                    spill.append(records).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    spill.close().await;
    let found = all(&open(dir.path())).await;
    let mut next = BTreeMap::new();
    for text in texts(&found) {
        let (task, n) = text.split_once(':').unwrap();
        let next = next.entry(task.to_owned()).or_insert(0);
        assert_eq!(n.parse(), Ok(*next), "task {task}");
        *next += 1;
    }
    assert_eq!(next.len(), 16);
    assert!(next.values().all(|count| *count == 25), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_grows_no_further_than_it_may_and_shrinks_when_it_is_empty() {
    let dir = TempDir::new().unwrap();
    let spill = open(dir.path());
    let file = || fs::metadata(dir.path().join("spill.db")).unwrap().len();
    let mut kept = 0;
    let refused = loop {
        let records = (0..500).map(|_| record(0, &"x".repeat(700))).collect();
        match spill.append(records).await {
            Ok(()) => kept += 500,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::Full);
    assert_eq!(spill.has_room(), Err(Refused::Full));
    assert_eq!(spill.state().fault, None, "nothing is wrong with the disk");
    assert!(file() <= MIN_BYTES + (1 << 20), "{}", file());
    assert!(kept * 700 > MIN_BYTES / 2, "{kept} records in it");
    assert_eq!(spill.state().records, kept);

    let mut seen = 0;
    loop {
        let found = spill.first(0, 1_000).await.unwrap();
        if found.is_empty() {
            break;
        }
        seen += found.len() as u64;
        let seqs = found.iter().map(|spilled| spilled.seq).collect();
        spill.remove(seqs).await.unwrap();
    }
    assert_eq!(seen, kept);
    assert!(file() < 1 << 20, "{}", file());
    assert_eq!(spill.has_room(), Ok(()));
    spill.append(vec![record(0, "again")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_cannot_share_it_and_nobody_else_can_read_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deep/spill");
    let spill = open(&path);
    spill.append(vec![record(0, "private")]).await.unwrap();
    let said = Spill::open(&path, MIN_BYTES).unwrap_err();
    assert!(matches!(said, OpenError::InUse(_)), "{said}");
    assert!(said.to_string().contains("another process"), "{said}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    // The look of the second did not take the lock from the first.
    assert!(Spill::open(&path, MIN_BYTES).is_err());
    spill.close().await;
    assert_eq!(texts(&all(&open(&path)).await), ["private"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_held_back_and_never_dropped() {
    let dir = TempDir::new().unwrap();
    let spill = open(dir.path());
    let records = [(10, "a"), (11, "b"), (30, "c"), (12, "d"), (31, "e")];
    let records = records.map(|(since, text)| record(since, text));
    spill.append(records.to_vec()).await.unwrap();
    let found = spill.first(20, 10).await.unwrap();
    assert_eq!(texts(&found), ["c", "e"]);
    assert_eq!(
        spill.state().held_back,
        2,
        "those before the first young one"
    );
    let seqs = found.iter().map(|spilled| spilled.seq).collect();
    spill.remove(seqs).await.unwrap();
    assert_eq!(spill.first(20, 10).await.unwrap(), []);
    let state = spill.state();
    assert_eq!(
        (state.held_back, state.records, state.oldest),
        (3, 3, Some(10))
    );
    spill.close().await;
    let spill = open(dir.path());
    let found = spill.first(0, 10).await.unwrap();
    assert_eq!(texts(&found), ["a", "b", "d"], "with a larger largest age");
}

/// Changes one byte of the only place where `needle` stands in the file.
fn flip(file: &Path, needle: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<_> = (0..bytes.len() - needle.len())
        .filter(|at| bytes[*at..].starts_with(needle))
        .collect();
    assert_eq!(places.len(), 1);
    bytes[places[0]] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_put_aside_and_the_others_go_on() {
    let dir = TempDir::new().unwrap();
    let spill = open(dir.path());
    let records = ["first", "second", "third"].map(|text| record(0, text));
    spill.append(records.to_vec()).await.unwrap();
    spill.close().await;
    flip(&dir.path().join("spill.db"), b"second");
    let spill = open(dir.path());
    assert_eq!(texts(&all(&spill).await), ["first", "third"]);
    let state = spill.state();
    assert_eq!((state.records, state.damaged), (2, 1));
    spill.close().await;
    assert_eq!(open(dir.path()).state().damaged, 1, "it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_damaged_beyond_use_is_set_aside_and_a_new_one_begun() {
    for at in [0, 4_096] {
        let dir = TempDir::new().unwrap();
        let spill = open(dir.path());
        spill.append(vec![record(0, "lost")]).await.unwrap();
        spill.close().await;
        let file = dir.path().join("spill.db");
        let mut bytes = fs::read(&file).unwrap();
        bytes[at..at + 100].fill(0xa5);
        fs::write(&file, &bytes).unwrap();
        let spill = open(dir.path());
        assert_eq!(all(&spill).await, []);
        spill.append(vec![record(0, "new")]).await.unwrap();
        assert_eq!(texts(&all(&spill).await), ["new"]);
        assert_eq!(fs::read(dir.path().join("damaged-1.db")).unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_in_no_file_any_more() {
    let dir = TempDir::new().unwrap();
    let spill = open(dir.path());
    let named = |number: usize| match number % 3 {
        0 => format!("planted {number}"),
        _ => format!("other {number}"),
    };
    let records = |range: std::ops::Range<usize>| range.map(|at| record(7, &named(at))).collect();
    spill.append(records(0..3_000)).await.unwrap();
    // Some were drained: their pages are free.
    let drained = spill.first(0, 300).await.unwrap();
    let drained = drained.iter().map(|spilled| spilled.seq).collect();
    spill.remove(drained).await.unwrap();
    let planted = b"planted";
    assert!(has(dir.path(), planted));
    let erased = spill
        .erase(|bytes| bytes.starts_with(planted))
        .await
        .unwrap();
    assert_eq!(erased, 900);
    assert_eq!(spill.state().records, 1_800);
    assert!(!has(dir.path(), planted));
    assert!(
        texts(&all(&spill).await)
            .iter()
            .all(|text| text.starts_with("other"))
    );
    // It goes on as before.
    spill.append(records(0..1)).await.unwrap();
    assert_eq!(spill.erase(|bytes| bytes.starts_with(planted)).await, Ok(1));
    assert!(!has(dir.path(), planted));
}

fn has(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u16>),
    Remove(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(0..6_000_u16, 0..20).prop_map(Step::Append),
        3 => (1..30_usize).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn it_is_a_queue(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let mut spill = open(dir.path());
            let (mut model, mut number) = (VecDeque::new(), 0);
            for step in steps {
                match step {
                    Step::Append(lengths) => {
                        let mut records = Vec::new();
                        for length in lengths {
                            number += 1;
                            let text = format!("{number}{}", "-".repeat(usize::from(length)));
                            records.push(record(number, &text));
                        }
                        model.extend(records.clone());
                        spill.append(records).await.unwrap();
                    }
                    Step::Remove(count) => {
                        let found = spill.first(i64::MIN, count).await.unwrap();
                        let expected: Vec<_> = model.iter().take(count).cloned().collect();
                        let records: Vec<_> = found.iter().map(|one| one.record.clone()).collect();
                        assert_eq!(records, expected);
                        model.drain(..expected.len());
                        let seqs = found.iter().map(|one| one.seq).collect();
                        spill.remove(seqs).await.unwrap();
                    }
                    Step::Reopen => {
                        spill.close().await;
                        spill = open(dir.path());
                    }
                }
                let state = spill.state();
                assert_eq!(state.records, model.len() as u64);
                assert_eq!(state.oldest, model.front().map(|record| record.since));
            }
        });
    }
}
