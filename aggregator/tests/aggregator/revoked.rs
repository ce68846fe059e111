//! Consents that are withdrawn and given again: the rollups stay equal to a recount of what may be kept.

use std::collections::BTreeSet;

use rivulet_events::{ChildId, EventType, InteractionAction, Record};
use rivulet_registry::revocations::settle;
use sqlx::PgPool;
use uuid::Uuid;

use crate::common::{distinct, event, interaction, recount, some_events, stored};
use crate::instance::{Instance, consumed, migrated, produce, produce_raw};

/// Registers each child with a parent of its own, of the same id, who consents to everything.
async fn register(pool: &PgPool, children: &BTreeSet<ChildId>) {
    for child in children {
        for statement in [
            "INSERT INTO parents (id, timezone, coppa, audio, analytics) VALUES ($1, 'UTC', true, true, true)",
            "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $1, 'wonder_cubs')",
        ] {
            let query = sqlx::query(statement).bind(child.uuid());
            query.execute(pool).await.unwrap();
        }
    }
}

async fn consent(pool: &PgPool, child: ChildId, consent: &str, granted: bool) {
    let update = format!("UPDATE parents SET {consent} = $2 WHERE id = $1");
    let query = sqlx::query(sqlx::AssertSqlSafe(update)).bind(child.uuid());
    query.bind(granted).execute(pool).await.unwrap();
}

/// Which consent of a child is withdrawn; of every fourth none.
fn withdrawn(child: ChildId) -> Option<&'static str> {
    [Some("coppa"), Some("audio"), Some("analytics"), None]
        [usize::from(child.uuid().as_bytes()[15]) % 4]
}

/// What is left of events that were taken before a withdrawal.
fn left(events: &[Record<'static>]) -> Vec<Record<'static>> {
    let mut left = events.to_vec();
    left.retain(|event| match withdrawn(event.child_id) {
        Some("coppa") => false,
        Some("audio") => event.event_type != EventType::Speech,
        _ => true,
    });
    for event in &mut left {
        event.analytics &= withdrawn(event.child_id) != Some("analytics");
    }
    left
}

fn of_epoch(events: &[Record<'static>], epoch: i64) -> Vec<Record<'static>> {
    let mut events = events.to_vec();
    for event in &mut events {
        if withdrawn(event.child_id).is_some() {
            event.consent_epoch = epoch;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_equal_a_recount_of_what_was_not_withdrawn() {
    let bed = migrated().await;
    let events = distinct(&some_events(1_200));
    let children: BTreeSet<_> = events.iter().map(|event| event.child_id).collect();
    register(&bed.pool, &children).await;
    let ids: Vec<Uuid> = children.iter().map(|child| child.uuid()).collect();
    let third = events.len() / 3;
    let (counted, rest) = events.split_at(third);
    let (on_its_way, later) = rest.split_at(third);

    let instance = Instance::start(&bed);
    produce(&bed, counted).await;
    consumed(&bed, counted.len()).await;
    instance.stop().await;
    assert_eq!(stored(&bed.pool).await, recount(counted));

    produce(&bed, on_its_way).await;
    for child in &children {
        if let Some(name) = withdrawn(*child) {
            consent(&bed.pool, *child, name, false).await;
        }
    }
    let instance = Instance::start(&bed);
    let before = [counted, on_its_way].concat();
    // Unreadable, and of a child of whom nothing may be stored: not in quarantine either.
    let of_coppa = ids[ids
        .iter()
        .position(|id| withdrawn(ChildId::new(*id)) == Some("coppa"))
        .unwrap()];
    let cut_off = format!("{{\"child_id\":\"{of_coppa}\",\"id").into_bytes();
    produce_raw(
        &bed,
        std::iter::once((String::new(), (EventType::Session, cut_off))),
    )
    .await;
    consumed(&bed, before.len() + 1).await;
    settle(&bed.pool, &ids).await.unwrap();
    assert_eq!(stored(&bed.pool).await, recount(&left(&before)));
    let dropped = on_its_way.len() - left(on_its_way).len() + 1;
    let booked: (i64, i64, i64) = sqlx::query_as(
        "SELECT sum(revoked)::bigint, sum(withheld)::bigint, (SELECT count(*) FROM quarantine) FROM consumer_ledger",
    )
    .fetch_one(&bed.pool)
    .await
    .unwrap();
    let withheld = |events: &[Record<'_>]| events.iter().filter(|event| !event.analytics).count();
    let withheld = withheld(counted) + withheld(&left(on_its_way));
    assert_eq!(booked, (dropped as i64, withheld as i64, 0));

    // Given again: what is taken from then on counts, and only that.
    for child in &children {
        if let Some(name) = withdrawn(*child) {
            consent(&bed.pool, *child, name, true).await;
        }
    }
    let later = of_epoch(later, 1);
    produce(&bed, &later).await;
    consumed(&bed, before.len() + 1 + later.len()).await;
    let all = [left(&before), later].concat();
    assert_eq!(stored(&bed.pool).await, recount(&all));
    // Nothing is left to do, and doing it again changes nothing.
    settle(&bed.pool, &ids).await.unwrap();
    assert_eq!(stored(&bed.pool).await, recount(&all));
    instance.stop().await;
}

/// Of two copies in one batch the first would count, but it was taken on a consent that was withdrawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_taken_on_a_new_consent_counts() {
    let bed = migrated().await;
    let first = event(4, 0, interaction(InteractionAction::Answer));
    let second = Record {
        consent_epoch: 1,
        ..first.clone()
    };
    register(&bed.pool, &BTreeSet::from([first.child_id])).await;
    consent(&bed.pool, first.child_id, "coppa", false).await;
    settle(&bed.pool, &[first.child_id.uuid()]).await.unwrap();
    consent(&bed.pool, first.child_id, "coppa", true).await;
    produce(&bed, &[first, second.clone()]).await;
    let instance = Instance::start(&bed);
    consumed(&bed, 2).await;
    assert_eq!(stored(&bed.pool).await, recount(&[second]));
    instance.stop().await;
}

/// With `keep` the time of receipt decides, and what was stored stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_before_is_kept_where_the_file_says_so() {
    let bed = migrated().await;
    let keep = "UPDATE revocation_state SET on_revoke = 'keep'";
    sqlx::query(keep).execute(&bed.pool).await.unwrap();
    let before: Vec<_> = (0..8)
        .map(|number| event(number, 0, interaction(InteractionAction::Hint)))
        .collect();
    let children: BTreeSet<_> = before.iter().map(|event| event.child_id).collect();
    register(&bed.pool, &children).await;
    for child in &children {
        consent(&bed.pool, *child, "coppa", false).await;
    }
    let after: Vec<_> = (0..8)
        .map(|number| Record {
            received_at: chrono::Utc::now().timestamp_millis() + 1_000,
            ..event(number, 0, interaction(InteractionAction::Skip))
        })
        .collect();
    produce(&bed, &after).await;
    produce(&bed, &before).await;
    let instance = Instance::start(&bed);
    consumed(&bed, 16).await;
    assert_eq!(stored(&bed.pool).await, recount(&before));
    instance.stop().await;
}
