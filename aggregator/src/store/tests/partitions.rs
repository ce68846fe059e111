//! Days and months made and dropped, and batches that meet it.

use chrono::{TimeZone as _, Utc};
use rivulet_events::{EventType, InteractionAction, Record};
use rivulet_sandbox::TestBed;
use uuid::Uuid;

use super::{Store, StoreError, commit, count, database};
use crate::{
    common::{DAY_MS, date, encode, event, interaction, part},
    prepare::Prepared,
    store::{
        housekeeping,
        partitions::{Known, Partition},
        seen,
    },
    verdict::{Reason, Verdict, judge},
};

#[tokio::test]
async fn a_dropped_day_costs_one_more_attempt() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let work = |offset| {
        let started = event(1, 0, interaction(InteractionAction::Start));
        vec![part(EventType::Interaction, 0, offset, [encode(&started)])]
    };
    commit(&mut store, work(0)).await.unwrap();
    sqlx::query("DROP TABLE event_seen_20251103")
        .execute(&bed.pool)
        .await
        .unwrap();
    let Err(StoreError::Database(error)) = commit(&mut store, work(1)).await else {
        panic!("the day is not there")
    };
    assert_eq!(judge(&error), Verdict::Passing(Reason::Partition));
    store.forget_partitions();
    commit(&mut store, work(1)).await.unwrap();
    assert_eq!(
        count(&bed, "SELECT events FROM daily_child_metrics").await,
        2
    );
}

#[tokio::test]
async fn instances_that_make_the_same_partitions_agree() {
    let bed = database().await;
    let attempts = (0..6).map(|number: i64| {
        let pool = bed.pool.clone();
        tokio::spawn(async move {
            let days = (0..20).map(|day| Partition::Seen(date((day + number) % 20)));
            let months = (0..3).flat_map(|month| Partition::rollups_of(date(month * 31)));
            Known::default().ensure(&pool, days.chain(months)).await
        })
    });
    for attempt in attempts.collect::<Vec<_>>() {
        attempt.await.unwrap().unwrap();
    }
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event_seen'::regclass";
    assert_eq!(
        count(&bed, partitions).await,
        21,
        "20 days and the one of reset clocks"
    );
}

#[tokio::test]
async fn identities_are_forgotten_behind_what_was_consumed() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let kind = EventType::Interaction;
    let mut events: Vec<_> = (0..3)
        .map(|day| event(1, day, interaction(InteractionAction::Start)))
        .collect();
    for (day, reset) in [(0, 0), (2, 5_000)] {
        let mut reset_clock = event(1, day, interaction(InteractionAction::Start));
        reset_clock.occurred_at = reset;
        events.push(reset_clock);
    }
    commit(
        &mut store,
        vec![part(kind, 0, 0, events.iter().map(encode))],
    )
    .await
    .unwrap();

    let days = || async {
        let sql = "SELECT day || ' ' || count(*) FROM event_seen GROUP BY day ORDER BY day";
        sqlx::query_scalar::<_, String>(sql)
            .fetch_all(&bed.pool)
            .await
            .unwrap()
    };
    let all = [
        "1970-01-01 2",
        "2025-11-03 1",
        "2025-11-04 1",
        "2025-11-05 1",
    ];
    let now = Utc.with_ymd_and_hms(2026, 6, 1, 0, 0, 0).unwrap();
    // The other partitions have consumed nothing yet: a long stop, whatever the clock says.
    housekeeping(&bed.pool, now, 45).await.unwrap();
    assert_eq!(days().await, all);

    let horizon = |day: i64| {
        let sql = "UPDATE kafka_positions SET consumed_until = $1";
        let until = Utc.from_utc_datetime(&date(day).and_hms_opt(12, 0, 0).unwrap());
        sqlx::query(sql).bind(until).execute(&bed.pool)
    };
    horizon(45).await.unwrap();
    housekeeping(&bed.pool, now, 45).await.unwrap();
    assert_eq!(days().await, all, "the 45th day behind still counts");
    horizon(46).await.unwrap();
    let (one, other) = tokio::join!(
        housekeeping(&bed.pool, now, 45),
        housekeeping(&bed.pool, now, 45)
    );
    one.and(other).unwrap();
    assert_eq!(
        days().await,
        ["1970-01-01 1", "2025-11-04 1", "2025-11-05 1"]
    );

    let ahead: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r'
            AND relname ~ '2026' ORDER BY relname",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    assert_eq!(
        ahead,
        [
            "daily_child_metrics_202606",
            "daily_child_metrics_202607",
            "event_seen_20260601",
            "event_seen_20260602",
            "learning_analytics_202606",
            "learning_analytics_202607",
        ]
    );
}

/// An event that the device's clock put on `id_day`, arrived on `arrived`.
fn arrived(id: u128, id_day: i64, arrived: i64) -> Record<'static> {
    let of = event(1, id_day, interaction(InteractionAction::Start));
    let behind = (arrived - id_day) * DAY_MS;
    Record {
        id: Uuid::from_u128(id),
        event_time: of.event_time + behind,
        received_at: of.received_at + behind,
        local_date: date(arrived),
        ..of
    }
}

/// Commits records one after the other, each a batch, and says which were counted.
async fn one_by_one(
    bed: &TestBed,
    offset: &mut i64,
    records: impl IntoIterator<Item = Record<'static>>,
) -> Vec<bool> {
    let mut counted = Vec::new();
    for record in records {
        // Another process each time: it knows no partition.
        let mut store = Store::new(bed.pool.clone());
        let work = vec![part(EventType::Interaction, 0, *offset, [encode(&record)])];
        *offset += 1;
        counted.push(!commit(&mut store, work).await.unwrap().events.is_empty());
    }
    counted
}

#[tokio::test]
async fn copies_meet_whether_their_id_day_is_near_or_not() {
    let bed = database().await;
    let mut offset = 0;
    let mut counted = async |records: &[Record<'static>]| {
        one_by_one(&bed, &mut offset, records.iter().cloned()).await
    };
    // A clock ahead: the day is not there yet, then it is, then it is long past.
    let ahead = [0, 0, 5, 6, 10, 39, 44].map(|day| arrived(1, 6, day));
    assert_eq!(counted(&ahead[..1]).await, [true]);
    assert_eq!(counted(&ahead[1..]).await, [false; 6]);
    // Another process made the day's partition meanwhile.
    Known::default()
        .ensure(&bed.pool, [Partition::Seen(date(20))])
        .await
        .unwrap();
    assert_eq!(
        counted(&[15, 15, 21].map(|day| arrived(2, 20, day))).await,
        [true, false, false]
    );
    // A clock behind: near when it arrives first, not any more when it comes again.
    assert_eq!(
        counted(&[0, 34, 35, 45].map(|day| arrived(3, 0, day))).await,
        [true, false, false, false]
    );
    // Never near, and years off.
    for (id, id_day) in [(4, -200), (5, 900), (6, 4_300), (7, 5_000), (8, -5_000)] {
        let copies = [0, 1, 40].map(|day| arrived(id, id_day, day));
        assert_eq!(counted(&copies).await, [true, false, false], "{id_day}");
    }
    // Other events of those days are others.
    assert_eq!(
        counted(&[arrived(9, 6, 0), arrived(10, 6, 6), arrived(11, 900, 0)]).await,
        [true; 3]
    );
    // All in one batch, in any order.
    let mut store = Store::new(bed.pool.clone());
    let again = [
        arrived(9, 6, 7),
        arrived(12, 6, 7),
        arrived(12, 6, 0),
        arrived(1, 6, 50),
        arrived(5, 900, 41),
    ];
    let work = vec![part(EventType::Interaction, 1, 0, again.iter().map(encode))];
    assert_eq!(commit(&mut store, work).await.unwrap().events.len(), 1);
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event_seen'::regclass";
    assert!(
        count(&bed, days).await < 10,
        "a liar's days get no partition"
    );
}

#[tokio::test]
async fn a_day_that_is_dropped_is_remembered_for_as_long_as_what_arrived_on_it() {
    let bed = database().await;
    let mut offset = 0;
    let late = [0, 1, 20, 34].map(|day| arrived(100 + day as u128, 0, day));
    assert_eq!(one_by_one(&bed, &mut offset, late.clone()).await, [true; 4]);
    let sql = "UPDATE kafka_positions SET consumed_until = $1";
    let mut forgotten = 0;
    for horizon in [46, 66, 79, 80] {
        let until = Utc.from_utc_datetime(&date(horizon).and_hms_opt(12, 0, 0).unwrap());
        sqlx::query(sql)
            .bind(until)
            .execute(&bed.pool)
            .await
            .unwrap();
        housekeeping(&bed.pool, until, 45).await.unwrap();
        let kept = late
            .iter()
            .filter(|record| (record.received_at - late[0].received_at) / DAY_MS >= horizon - 45);
        let kept: Vec<_> = kept.cloned().collect();
        assert_eq!(
            count(&bed, "SELECT count(*) FROM event_seen").await,
            kept.len() as i64
        );
        forgotten += usize::from(kept.is_empty());
        let again = kept.into_iter().map(|record| Record {
            received_at: record.received_at.max(late[0].received_at + 44 * DAY_MS),
            event_time: record.received_at.max(late[0].received_at + 44 * DAY_MS),
            local_date: date(44),
            ..record
        });
        for counted in one_by_one(&bed, &mut offset, again).await {
            assert!(!counted, "{horizon}");
        }
        // What came again is no reason to remember it for longer.
        sqlx::query(sql)
            .bind(until)
            .execute(&bed.pool)
            .await
            .unwrap();
    }
    assert_eq!(forgotten, 1, "and then it is forgotten");
}

#[tokio::test]
async fn a_day_that_was_not_there_is_not_made_under_a_transaction() {
    let bed = database().await;
    let batch = Prepared::new(vec![part(
        EventType::Interaction,
        0,
        0,
        [encode(&arrived(1, 6, 0))],
    )]);
    let mut tx = bed.pool.begin().await.unwrap();
    let apart = seen::days_apart(&mut tx, &batch.events).await.unwrap();
    assert_eq!(apart, [date(6)].into_iter().collect());
    let make = {
        let pool = bed.pool.clone();
        async move {
            Known::default()
                .ensure(&pool, [Partition::Seen(date(6))])
                .await
        }
    };
    let make = tokio::spawn(make);
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while count(&bed, waiting).await == 0 {
        assert!(
            !make.is_finished(),
            "a copy could be counted beside this transaction"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tx.commit().await.unwrap();
    make.await.unwrap().unwrap();
}

#[tokio::test]
async fn many_events_apart_are_found_too() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let early: Vec<_> = (0..1_100).map(|id| arrived(1_000 + id, 6, 0)).collect();
    let kind = EventType::Interaction;
    let counted = commit(&mut store, vec![part(kind, 0, 0, early.iter().map(encode))]).await;
    assert_eq!(counted.unwrap().events.len(), early.len());
    let copies: Vec<_> = (0..1_200).map(|id| arrived(1_000 + id, 6, 6)).collect();
    let counted = commit(
        &mut store,
        vec![part(kind, 1, 0, copies.iter().map(encode))],
    )
    .await;
    assert_eq!(counted.unwrap().events.len(), 100);
}
