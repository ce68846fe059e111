//! Exactly once: copies, races, cut-off transactions, zombies, poison.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use rivulet_events::{EventType, InteractionAction, Role, SessionAction};
use uuid::Uuid;

use super::{LIMIT, Store, StoreError, batches, commit, count, database};
use crate::{
    CONSUMER,
    common::{
        DAY_MS, distinct, encode, event, interaction, message, part, parts, recount, session,
        some_events, speech, stored,
    },
    prepare::Prepared,
    store::partitions::{Known, Partition},
    verdict::{Reason, Verdict, judge},
};

#[tokio::test]
async fn tables_are_the_recount_of_the_distinct_events() {
    let bed = database().await;
    let events = some_events(900);
    assert!(
        distinct(&events).len() < 800,
        "there are copies to recognise"
    );
    let mut store = Store::new(bed.pool.clone());
    let mut counted = 0;
    for batch in batches(&events, 70) {
        counted += commit(&mut store, batch).await.unwrap().events.len();
    }
    assert_eq!(counted, distinct(&events).len());
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
    assert_eq!(
        count(&bed, "SELECT count(*) FROM event_seen").await,
        counted as i64
    );
    let consumed = "SELECT sum(next_offset)::bigint FROM kafka_positions";
    assert_eq!(count(&bed, consumed).await, events.len() as i64);
}

#[tokio::test]
async fn a_copy_in_another_partition_or_type_is_told_apart() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let first = event(1, 0, interaction(InteractionAction::Start));
    let mut other_type = event(1, 0, message(Role::User));
    other_type.id = first.id;
    let kind = EventType::Interaction;
    commit(&mut store, vec![part(kind, 0, 0, [encode(&first)])])
        .await
        .unwrap();
    let again = vec![
        part(kind, 1, 0, [encode(&first)]),
        part(EventType::Message, 0, 0, [encode(&other_type)]),
    ];
    commit(&mut store, again).await.unwrap();
    assert_eq!(stored(&bed.pool).await, recount(&[first, other_type]));
}

/// The four consumers of one family: each topic has its own instance, all want the same rows.
#[tokio::test]
async fn instances_that_race_for_the_same_rows_never_deadlock() {
    let bed = database().await;
    let events = some_events(2_000);
    let consumers = EventType::ALL.iter().map(|kind| {
        let of = events.iter().filter(|event| event.event_type == *kind);
        let batches = batches(&of.cloned().collect::<Vec<_>>(), 40);
        let mut store = Store::new(bed.pool.clone());
        tokio::spawn(async move {
            for batch in batches {
                commit(&mut store, batch).await.unwrap();
            }
        })
    });
    for consumer in consumers.collect::<Vec<_>>() {
        consumer.await.unwrap();
    }
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
}

/// Ends after a number of steps, wherever that is.
async fn stopped_after<F: Future>(steps: usize, future: F) -> Option<F::Output> {
    let mut future: Pin<&mut F> = pin!(future);
    let mut left = steps;
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_transaction_that_is_cut_off_anywhere_counts_all_or_nothing() {
    let bed = database().await;
    let events = some_events(400);
    let (mut cut_off, mut fenced) = (0, 0);
    for (number, batch) in batches(&events, 20).into_iter().enumerate() {
        // Another process each time: it knows nothing of what the one before did.
        let mut store = Store::new(bed.pool.clone());
        let mut prepared = Prepared::new(batch);
        if stopped_after(number, store.commit(&mut prepared, LIMIT))
            .await
            .is_none()
        {
            cut_off += 1;
        }
        match commit(&mut Store::new(bed.pool.clone()), prepared.parts).await {
            Ok(_) => {}
            // The first attempt did commit.
            Err(StoreError::Fenced(_)) => fenced += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(cut_off > 5, "{cut_off}");
    assert!(fenced < 20, "{fenced}");
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let bed = database().await;
    let events = [
        event(1, 0, interaction(InteractionAction::Start)),
        event(1, 0, speech(2)),
    ];
    let mut owner = Store::new(bed.pool.clone());
    commit(&mut owner, parts(&events)).await.unwrap();
    let before = stored(&bed.pool).await;

    // It took these records before it lost the partition, and they are not the owner's.
    let late = [
        event(1, 0, interaction(InteractionAction::Skip)),
        event(2, 0, speech(9)),
    ];
    let mut zombie = Store::new(bed.pool.clone());
    let mut work = parts(&late);
    work.push(part(
        EventType::Session,
        2,
        0,
        [encode(&event(3, 0, session(SessionAction::Start)))],
    ));
    let Err(StoreError::Fenced(moved)) = commit(&mut zombie, work).await else {
        panic!("not fenced")
    };
    assert_eq!(
        moved,
        [("interaction".to_owned(), 0), ("speech".to_owned(), 0)]
    );
    assert_eq!(stored(&bed.pool).await, before);
    assert_eq!(count(&bed, "SELECT count(*) FROM event_seen").await, 2);
}

#[tokio::test]
async fn a_topic_made_anew_is_not_taken_for_the_old_one() {
    let bed = database().await;
    let mut work = parts(&[event(1, 0, speech(2))]);
    work[0].incarnation = "cluster/another".into();
    let outcome = commit(&mut Store::new(bed.pool.clone()), work).await;
    assert!(matches!(outcome, Err(StoreError::Fenced(_))));
    assert!(stored(&bed.pool).await.is_empty());
}

#[tokio::test]
async fn poison_goes_to_quarantine_and_the_position_moves_on() {
    let bed = database().await;
    let good = event(1, 0, interaction(InteractionAction::Start));
    let poison = b"{\"v\":1,\"type\":\"interaction\\u0000\"".to_vec();
    let payloads = [encode(&good), poison.clone(), Vec::new()];
    let batch = vec![part(EventType::Interaction, 1, 0, payloads)];
    commit(&mut Store::new(bed.pool.clone()), batch)
        .await
        .unwrap();

    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT concat_ws(' ', consumer, topic, partition, kafka_offset, topic_incarnation, code),
                record
         FROM quarantine ORDER BY kafka_offset",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let row = |offset, record| {
        let place = format!("{CONSUMER} interaction 1 {offset} cluster/topic malformed_record");
        (place, record)
    };
    assert_eq!(rows, [row(1, poison), row(2, Vec::new())]);
    assert_eq!(stored(&bed.pool).await, recount(&[good]));
    let position =
        "SELECT next_offset FROM kafka_positions WHERE topic = 'interaction' AND partition = 1";
    assert_eq!(count(&bed, position).await, 3);
}

/// Withheld from ClickHouse, counted all the same; and every number in its own row.
#[tokio::test]
async fn withheld_events_are_counted_and_told() {
    let bed = database().await;
    let mut events = vec![
        event(1, 0, speech(1)),
        event(1, 0, speech(2)),
        event(1, 1, speech(3)),
    ];
    events[0].analytics = false;
    commit(&mut Store::new(bed.pool.clone()), parts(&events))
        .await
        .unwrap();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT events, withheld_events FROM daily_child_metrics ORDER BY local_date",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    assert_eq!(rows, [(2, 1), (1, 0)]);
}

#[tokio::test]
async fn a_reset_clock_is_counted_once_like_any_other() {
    let bed = database().await;
    let mut reset = event(1, 0, interaction(InteractionAction::Start));
    reset.occurred_at = 365 * DAY_MS; // 1971
    let mut store = Store::new(bed.pool.clone());
    for offset in 0..2 {
        let batch = vec![part(EventType::Interaction, 0, offset, [encode(&reset)])];
        commit(&mut store, batch).await.unwrap();
    }
    assert_eq!(stored(&bed.pool).await, recount(&[reset]));
}

/// Copies of an event in two partitions, at the same moment: the second transaction looked before
/// the first one committed.
#[tokio::test]
async fn a_copy_that_another_transaction_is_counting_costs_one_more_attempt() {
    let bed = database().await;
    let first = event(1, 0, interaction(InteractionAction::Start));
    let batch = || vec![part(EventType::Interaction, 0, 0, [encode(&first)])];
    let mut store = Store::new(bed.pool.clone());
    Known::default()
        .ensure(&bed.pool, [Partition::Seen(first.identity().day)])
        .await
        .unwrap();
    let mut other = bed.pool.begin().await.unwrap();
    let key = Uuid::from_bytes(first.identity().key);
    sqlx::query("INSERT INTO event_seen VALUES ($1, $1, $2)")
        .bind(first.identity().day)
        .bind(key)
        .execute(&mut *other)
        .await
        .unwrap();

    let (outcome, ()) = tokio::join!(commit(&mut store, batch()), async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while count(&bed, waiting).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        other.commit().await.unwrap();
    });
    let Err(StoreError::Database(error)) = outcome else {
        panic!("the copy was not noticed")
    };
    assert_eq!(judge(&error), Verdict::Passing(Reason::Race));
    let counted = commit(&mut store, batch()).await.unwrap();
    assert!(counted.events.is_empty());
    assert!(stored(&bed.pool).await.is_empty());
}

/// A scan that there is no way around has a penalty for which PostgreSQL compiles the statement, for longer than a batch takes.
#[tokio::test]
async fn a_transaction_scans_no_table() {
    let bed = database().await;
    // One connection, so that its counts can be asked for.
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with((*bed.pool.connect_options()).clone())
        .await
        .unwrap();
    let scans = async || -> Vec<(String, i64)> {
        sqlx::query_as(
            "SELECT relname::text, seq_scan FROM pg_stat_user_tables
             WHERE schemaname = 'public' AND relname NOT LIKE 'audit%' ORDER BY 1",
        )
        .fetch_all(&pool)
        .await
        .unwrap()
    };
    // What the migration has scanned is counted when its connections have ended, or up to ten seconds later.
    bed.pool.close().await;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(others)
        .fetch_one(&pool)
        .await
        .unwrap()
        > 0
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut store = Store::new(pool.clone());
    let flush = async || {
        let flush = sqlx::query("SELECT pg_stat_force_next_flush()");
        flush.execute(&pool).await.unwrap();
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    };
    let mut batches = batches(&crate::common::some_events(60), 20).into_iter();
    // Whatever is made for the first batch.
    commit(&mut store, batches.next().unwrap()).await.unwrap();
    flush().await;
    let before = scans().await;
    for batch in batches {
        commit(&mut store, batch).await.unwrap();
    }
    flush().await;
    let positions =
        "SELECT idx_scan > 0 FROM pg_stat_user_tables WHERE relname = 'kafka_positions'";
    let counted = sqlx::query_scalar::<_, bool>(positions);
    assert!(counted.fetch_one(&pool).await.unwrap());
    let after = scans().await;
    let scanned: Vec<_> = after
        .iter()
        .filter(|(table, scans)| {
            before
                .iter()
                .any(|(name, was)| name == table && was < scans)
        })
        .collect();
    assert!(scanned.is_empty(), "{scanned:?}");
}
