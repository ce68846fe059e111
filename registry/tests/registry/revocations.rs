//! Consents that are withdrawn and given again, as consumers hear of it.

use rivulet_events::{ChildId, EventType, ParentId, data::AgeGroup};
use rivulet_registry::{
    consents::Consents,
    families::{put_child, put_parent},
    import,
    revocations::{Revocations, Taken, unsettled},
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::common::{child, family, migrated, parent, rome};

fn all(granted: bool) -> Consents {
    Consents {
        coppa: Some(granted.into()),
        audio: Some(granted.into()),
        analytics: Some(granted.into()),
    }
}

async fn put(pool: &PgPool, parent: ParentId, consents: Consents) {
    put_parent(pool, parent, rome(), consents, None)
        .await
        .unwrap();
}

/// What a consumer may do now with an event of this child and epoch.
async fn stores(pool: &PgPool, child: ChildId, epoch: i64) -> bool {
    let mut revocations = Revocations::default();
    let conn = &mut *pool.acquire().await.unwrap();
    revocations.read_all(conn).await.unwrap();
    let taken = Taken {
        child: child.uuid(),
        event_type: EventType::Session,
        epoch,
        received_at: 0,
    };
    !revocations.of(taken, i64::MAX).from_all
}

async fn epoch(pool: &PgPool, child: ChildId) -> i64 {
    sqlx::query_scalar("SELECT consent_epoch FROM children WHERE id = $1")
        .bind(child.uuid())
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn unsettled_now(pool: &PgPool, child: ChildId) -> bool {
    let conn = &mut *pool.acquire().await.unwrap();
    let long_ago = chrono::DateTime::UNIX_EPOCH;
    let found = unsettled(conn, &[child.uuid()], long_ago).await.unwrap();
    !found.is_empty()
}

#[tokio::test]
async fn a_consent_that_is_given_again_begins_an_epoch_of_the_child() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (parent, kid) = family(pool).await;
    let sister = child();
    put_child(pool, sister, parent, AgeGroup::WonderCubs)
        .await
        .unwrap();
    assert!(stores(pool, kid, 0).await && epoch(pool, kid).await == 0);
    for round in 1..=3 {
        put(pool, parent, all(false)).await;
        assert!(!stores(pool, kid, round - 1).await && !stores(pool, kid, round).await);
        assert!(unsettled_now(pool, kid).await);
        // What was stored before is taken out of the rollups first, so that what comes is not in a row with it.
        put(pool, parent, all(true)).await;
        assert_eq!(epoch(pool, kid).await, round);
        assert_eq!(epoch(pool, sister).await, round);
        assert!(!stores(pool, kid, round - 1).await && stores(pool, kid, round).await);
    }
    // A consent that is only confirmed is no change.
    put(pool, parent, all(true)).await;
    assert_eq!(epoch(pool, kid).await, 3);
    let settled: bool =
        sqlx::query_scalar("SELECT bool_and(postgres_at IS NOT NULL) FROM revocations")
            .fetch_one(pool)
            .await
            .unwrap();
    assert!(settled);
}

#[tokio::test]
async fn a_child_that_moves_is_under_the_consents_of_its_new_parent() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (old, kid) = family(pool).await;
    let (refusing, consenting) = (parent(), parent());
    put(pool, refusing, Consents::default()).await;
    put(pool, consenting, all(true)).await;
    put(pool, old, all(false)).await;
    let moved_to = async |parent| {
        put_child(pool, kid, parent, AgeGroup::WonderCubs)
            .await
            .unwrap();
        epoch(pool, kid).await
    };
    assert_eq!(moved_to(refusing).await, 0);
    assert!(!stores(pool, kid, 0).await);
    assert_eq!(moved_to(consenting).await, 1);
    assert!(!stores(pool, kid, 0).await && stores(pool, kid, 1).await);
    // What its old parent says is about others now.
    put(pool, old, all(true)).await;
    put(pool, old, all(false)).await;
    assert!(stores(pool, kid, 1).await);

    // A file moves and consents as well.
    put(pool, consenting, all(false)).await;
    let line = format!(
        r#"{{"parent_id":"{}","timezone":"UTC","consents":{{"coppa":true}},"children":[{{"child_id":"{}","age_group":"wonder_cubs"}}]}}"#,
        old.uuid(),
        kid.uuid()
    );
    import(line.as_bytes(), pool).await.unwrap();
    assert_eq!(epoch(pool, kid).await, 2);
    assert!(stores(pool, kid, 2).await && !stores(pool, kid, 1).await);
}

/// By whatever way it is written.
#[tokio::test]
async fn a_consent_is_not_given_again_before_what_was_stored_is_gone() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (parent, kid) = family(pool).await;
    let set = async |granted: bool| {
        sqlx::query("UPDATE parents SET coppa = $2 WHERE id = $1")
            .bind(parent.uuid())
            .bind(granted)
            .execute(pool)
            .await
    };
    set(false).await.unwrap();
    let refused = set(true).await.unwrap_err();
    assert!(
        refused.to_string().contains("still being erased"),
        "{refused}"
    );
    sqlx::query("SELECT settle_revocations($1)")
        .bind(kid.uuid())
        .execute(pool)
        .await
        .unwrap();
    set(true).await.unwrap();
    // Where it is kept there is nothing to wait for.
    sqlx::query("UPDATE revocation_state SET on_revoke = 'keep'")
        .execute(pool)
        .await
        .unwrap();
    set(false).await.unwrap();
    set(true).await.unwrap();
    assert_eq!(epoch(pool, kid).await, 2);
}

/// A reader that has seen a number has seen all below it, though transactions end in another order than they began.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_rise_in_the_order_of_commits() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let families = [family(pool).await, family(pool).await];
    let withdraw = async |parent: ParentId| {
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("UPDATE parents SET coppa = false WHERE id = $1")
            .bind(parent.uuid())
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction
    };
    let first = withdraw(families[0].0).await;
    let second = withdraw(families[1].0).await;
    let mut consumer = Revocations::default();
    let conn = &mut *pool.acquire().await.unwrap();
    second.commit().await.unwrap();
    consumer.read_all(conn).await.unwrap();
    let is_known = |consumer: &Revocations, of: usize| consumer.concern(families[of].1.uuid());
    assert!(!is_known(&consumer, 0) && is_known(&consumer, 1));
    first.commit().await.unwrap();
    consumer.read_all(conn).await.unwrap();
    assert!(is_known(&consumer, 0));
    let numbers: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT child_id, number FROM revocations ORDER BY number")
            .fetch_all(pool)
            .await
            .unwrap();
    let children: Vec<_> = numbers.iter().map(|(child, _)| *child).collect();
    assert_eq!(children, [families[1].1.uuid(), families[0].1.uuid()]);
}
