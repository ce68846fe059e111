//! What an erasure waits for, and that it goes on wherever it was stopped. That nothing is left in a whole Rivulet is
//! tested in tests/tests/end_to_end/erasure.rs.

use std::time::Duration;

use rivulet_erasure::{
    NotErased, Subject, clean_restored, log, request, request_any, status, without_spill, work,
};
use rivulet_registry::tombstones;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_transactions_that_may_not_have_seen_it() {
    let bed = Bed::new().await;
    let (_, children) = bed.family(2).await;
    let mut before = bed.pool().begin().await.unwrap();
    tombstones::hold(&mut before).await.unwrap();
    assert_eq!(tombstones::newest(&mut before).await.unwrap(), 0);
    let requested = request(bed.pool(), Subject::Child(children[0]), "a test")
        .await
        .unwrap();
    // One that begins later has seen it, and is not waited for.
    let mut after = bed.pool().begin().await.unwrap();
    tombstones::hold(&mut after).await.unwrap();
    assert_eq!(
        tombstones::erased(&mut after, &children).await.unwrap(),
        [children[0]]
    );

    let (before_rows, stores) = (bed.rows().await, bed.stores.clone());
    let working = tokio::spawn(async move { work(&stores).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        bed.rows().await,
        before_rows,
        "nothing is deleted while it waits"
    );
    sqlx::query("INSERT INTO streaks VALUES ($1, 1, 1, now(), now(), 0, '{}', 1)")
        .bind(children[0])
        .execute(&mut *before)
        .await
        .unwrap();
    before.commit().await.unwrap();
    // The other is open for as long as it likes: only the files wait for it, and PostgreSQL's old rows.
    tokio::time::sleep(Duration::from_secs(2)).await;
    after.rollback().await.unwrap();
    working.await.unwrap().unwrap();
    bed.finish(requested.erasure_id).await;
    assert_eq!(bed.rows().await, (2, 1, 4), "the sister has all of hers");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM streaks")
        .fetch_one(bed.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_anew_once_nobody_can_see_what_was_deleted() {
    let bed = Bed::new().await;
    let (_, children) = bed.family(2).await;
    let file = async || -> i64 {
        sqlx::query_scalar("SELECT pg_relation_filenode('topic_progress')::bigint")
            .fetch_one(bed.pool())
            .await
            .unwrap()
    };
    let before = file().await;
    // Somebody else's snapshot, which the operator's login has to know of.
    let reader = bed.bed.pool_as("rivulet_ingest", 8);
    let mut old = reader
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    sqlx::query("SELECT FROM parents")
        .execute(&mut *old)
        .await
        .unwrap();
    let requested = request(bed.pool(), Subject::Child(children[0]), "a test")
        .await
        .unwrap();
    work(&bed.stores).await.unwrap();
    let waiting = status(bed.pool(), requested.erasure_id).await.unwrap();
    let waiting = waiting.unwrap().waits_for.unwrap();
    assert!(waiting.contains("topic_progress"), "{waiting}");
    assert_eq!((file().await, bed.rows().await.0), (before, 2));
    old.rollback().await.unwrap();
    bed.finish(requested.erasure_id).await;
    assert_ne!(file().await, before);
    let marked: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_index WHERE indisclustered")
        .fetch_one(bed.pool())
        .await
        .unwrap();
    assert_eq!(marked, 0, "a CLUSTER of all tables is still as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_erase_waits_until_another_has_erased_those_who_were_put_back() {
    let bed = Bed::new().await;
    let (parent, _) = bed.family(1).await;
    let backup = bed.back_up().await;
    let erased = request(bed.pool(), Subject::Parent(parent), "a test")
        .await
        .unwrap();
    bed.finish(erased.erasure_id).await;
    bed.put_back_postgres(&backup).await;
    let replayed = CancellationToken::new();
    let cluster = bed.stores.cluster.clone();
    let keep = log::keep(
        bed.bed.pool_as("rivulet_aggregate", 8),
        cluster.clone(),
        replayed.clone(),
    );
    let keep = tokio::spawn(keep);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        !replayed.is_cancelled(),
        "it begins with somebody who was erased"
    );
    assert_eq!(log::replay(&bed.stores.pool, &cluster).await.unwrap(), 2);
    tokio::time::timeout(Duration::from_secs(10), replayed.cancelled())
        .await
        .unwrap();
    keep.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_blocks_that_were_formed_before() {
    let bed = Bed::new().await;
    let (_, children) = bed.family(1).await;
    sqlx::query(
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset, pending_end, pending_tombstone)
         VALUES ('history', 'rivulet.session', 3, 'c/t', 5, 9, 0)",
    )
    .execute(bed.pool())
    .await
    .unwrap();
    let requested = request(bed.pool(), Subject::Child(children[0]), "a test")
        .await
        .unwrap();
    let rows = bed.rows().await;
    work(&bed.stores).await.unwrap();
    let waiting = status(bed.pool(), requested.erasure_id)
        .await
        .unwrap()
        .unwrap();
    assert!(waiting.waits_for.unwrap().contains("rivulet.session[3]"));
    assert_eq!((bed.rows().await, &*waiting.state), (rows, "running"));
    // A block that is begun now heeds the tombstone.
    sqlx::query(
        "UPDATE kafka_positions SET next_offset = 9, pending_end = 12,
             pending_tombstone = (SELECT max(number) FROM tombstones)",
    )
    .execute(bed.pool())
    .await
    .unwrap();
    bed.finish(requested.erasure_id).await;
    assert_eq!(bed.rows().await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_leaves_meanwhile_is_not_erased_with_its_old_family() {
    let bed = Bed::new().await;
    let (leaves, children) = bed.family(2).await;
    let (stays, _) = bed.family(1).await;
    let mut moving = bed.pool().begin().await.unwrap();
    sqlx::query("UPDATE children SET parent_id = $1 WHERE id = $2")
        .bind(stays)
        .bind(children[0])
        .execute(&mut *moving)
        .await
        .unwrap();
    let pool = bed.pool().clone();
    let erasing =
        tokio::spawn(async move { request(&pool, Subject::Parent(leaves), "a test").await });
    bed.wait_for_lock().await;
    moving.commit().await.unwrap();
    assert_eq!(
        erasing.await.unwrap().unwrap().new_subjects,
        2,
        "the parent and the sister"
    );
    let mut conn = bed.pool().acquire().await.unwrap();
    assert_eq!(
        tombstones::erased(&mut conn, &children).await.unwrap(),
        [children[1]]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backup_brings_back_is_erased_again() {
    let bed = Bed::new().await;
    let (parent, children) = bed.family(2).await;
    let (_, others) = bed.family(1).await;
    let kept = others[0];
    let backup = bed.back_up().await;
    let erased = request(bed.pool(), Subject::Parent(parent), "a test")
        .await
        .unwrap();
    bed.finish(erased.erasure_id).await;
    assert_eq!(bed.rows().await, (2, 1, 4));
    let mut tombstones = tombstones::Tombstones::default();
    bed.read(&mut tombstones).await.unwrap();
    assert!(tombstones.has(children[0], i64::MAX) && !tombstones.has(kept, i64::MAX));
    // Nobody is missing: nothing is done.
    let (pool, cluster) = (bed.pool(), &bed.stores.cluster);
    assert_eq!(log::replay(pool, cluster).await.unwrap(), 0);

    // PostgreSQL from before. Who has read tombstones that it does not have stores nothing.
    bed.put_back_postgres(&backup).await;
    let refused = bed.read(&mut tombstones).await.unwrap_err().to_string();
    assert!(refused.contains("put back"), "{refused}");
    assert_eq!(log::replay(pool, cluster).await.unwrap(), 3);
    bed.read(&mut tombstones).await.unwrap();
    assert!(tombstones.has(children[1], i64::MAX));
    bed.finish(erased.erasure_id).await;
    assert_eq!(bed.rows().await, (2, 1, 4));
    let refused = request(pool, Subject::Child(children[0]), "a test")
        .await
        .unwrap();
    assert_eq!(refused.erasure_id, erased.erasure_id);

    // ClickHouse from before.
    bed.put_back_clickhouse(parent, &children).await;
    assert_eq!(bed.rows().await, (2, 1, 12));
    assert!(clean_restored(&bed.stores).await.unwrap());
    assert_eq!(bed.rows().await, (2, 1, 4));
    // Put back once more, and somebody else is erased before anybody looks: that hides nobody.
    bed.put_back_clickhouse(parent, &children).await;
    let (_, others) = bed.family(1).await;
    let next = request(pool, Subject::Child(others[0]), "a test")
        .await
        .unwrap();
    bed.finish(next.erasure_id).await;
    work(&bed.stores).await.unwrap();
    assert_eq!(bed.rows().await, (2, 1, 4));
    // And it knows that it is clean.
    assert!(clean_restored(&bed.stores).await.unwrap());

    // Both, PostgreSQL from before there was a family: it has no id to look for.
    bed.put_back_clickhouse(parent, &children).await;
    for statement in [
        "DELETE FROM tombstones",
        "DELETE FROM erasure_stores",
        "DELETE FROM erasures",
    ] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
    assert_eq!(log::replay(pool, cluster).await.unwrap(), 4);
    bed.finish(erased.erasure_id).await;
    assert_eq!(bed.rows().await, (2, 1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_spills_but_those_that_are_gone() {
    let bed = Bed::new().await;
    let (parent, _) = bed.family(1).await;
    let spill = Uuid::new_v4();
    sqlx::query("INSERT INTO spills (id, host, directory) VALUES ($1, 'node-7', '/spill')")
        .bind(spill)
        .execute(bed.pool())
        .await
        .unwrap();
    let requested = request(bed.pool(), Subject::Parent(parent), "a test")
        .await
        .unwrap();
    work(&bed.stores).await.unwrap();
    let waiting = status(bed.pool(), requested.erasure_id)
        .await
        .unwrap()
        .unwrap();
    assert!(
        waiting
            .waits_for
            .unwrap()
            .contains(&format!("node-7:/spill ({spill})"))
    );
    assert!(without_spill(bed.pool(), spill).await.unwrap());
    assert!(!without_spill(bed.pool(), spill).await.unwrap());
    bed.finish(requested.erasure_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_anywhere_it_goes_on() {
    let bed = Bed::new().await;
    let families = [bed.family(2).await, bed.family(3).await];
    let [kept] = [bed.family(2).await];
    let mut erasures = Vec::new();
    for (parent, _) in &families {
        erasures.push(
            request(bed.pool(), Subject::Parent(*parent), "a test")
                .await
                .unwrap(),
        );
    }
    for stop_after in (0..2_000).step_by(100) {
        let _ = tokio::time::timeout(Duration::from_millis(stop_after), work(&bed.stores)).await;
    }
    for erasure in &erasures {
        bed.finish(erasure.erasure_id).await;
    }
    assert_eq!(bed.rows().await, (4, 2, 8));
    let [first, _] = &*erasures else { panic!() };
    let done = status(bed.pool(), first.erasure_id).await.unwrap().unwrap();
    let removed = |store: &str| {
        let found = done.stores.iter().find(|status| status.store == store);
        found.unwrap().removed
    };
    // Two children: 3 events and a day each; a topic and a row of the registry each, the parent and its consent.
    assert_eq!(
        (
            removed("clickhouse"),
            removed("postgres"),
            removed("quarantine")
        ),
        (8, 6, 2)
    );
    let certificate = done.certificate.unwrap().to_string();
    let (_, children) = &families[0];
    assert!(
        !certificate.contains(&children[0].to_string()),
        "{certificate}"
    );
    let ids: i64 = sqlx::query_scalar("SELECT count(*) FROM erasure_subjects")
        .fetch_one(bed.pool())
        .await
        .unwrap();
    assert_eq!(ids, 0);
    let _ = kept;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_it_is_the_same_and_nobody_is_erased_by_mistake() {
    let bed = Bed::new().await;
    let (parent, children) = bed.family(2).await;
    let nobody = Uuid::new_v4();
    let refused = request(bed.pool(), Subject::Child(nobody), "a test").await;
    assert!(matches!(refused, Err(NotErased::NotFound)), "{refused:?}");
    let refused = request_any(bed.pool(), &[], "a test").await;
    assert!(matches!(refused, Err(NotErased::NotFound)), "{refused:?}");
    let child = request(bed.pool(), Subject::Child(children[0]), "a test")
        .await
        .unwrap();
    assert_eq!(child.new_subjects, 1);
    let again = request(bed.pool(), Subject::Child(children[0]), "a test")
        .await
        .unwrap();
    assert_eq!(
        (again.erasure_id, again.new_subjects),
        (child.erasure_id, 0)
    );
    // The parent and the other child.
    let family = request(bed.pool(), Subject::Parent(parent), "a test")
        .await
        .unwrap();
    assert_eq!(family.new_subjects, 2);
    bed.finish(child.erasure_id).await;
    bed.finish(family.erasure_id).await;
    let again = request(bed.pool(), Subject::Parent(parent), "a test")
        .await
        .unwrap();
    assert_eq!(again.erasure_id, family.erasure_id);
    // A parent and a child may have the same id.
    let twin = Uuid::new_v4();
    for statement in [
        "INSERT INTO parents (id, timezone) VALUES ($1, 'UTC')",
        "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $1, 'wonder_cubs')",
    ] {
        sqlx::query(statement)
            .bind(twin)
            .execute(bed.pool())
            .await
            .unwrap();
    }
    let twins = request(bed.pool(), Subject::Parent(twin), "a test")
        .await
        .unwrap();
    assert_eq!(twins.new_subjects, 2);
    bed.finish(twins.erasure_id).await;
    // The command takes whom the registry does not know.
    let lost = request_any(bed.pool(), &[Subject::Child(nobody)], "a test")
        .await
        .unwrap();
    assert_eq!(lost.new_subjects, 1);
    bed.finish(lost.erasure_id).await;
    // Each request that was taken is in the audit log, and what was refused or done by itself is not.
    let audited: Vec<(String, Vec<String>)> = sqlx::query_as(
        "SELECT subject_kind, subjects FROM audit_log WHERE action = 'erase' ORDER BY seq",
    )
    .fetch_all(bed.pool())
    .await
    .unwrap();
    let of = |kind: &str, id| (kind.to_owned(), vec![rivulet_auditlog::hex_hash(id)]);
    let [one, family] = [of("child", children[0]), of("parent", parent)];
    assert_eq!(
        audited,
        [
            one.clone(),
            one,
            family.clone(),
            family,
            of("parent", twin),
            of("child", nobody)
        ]
    );
}
