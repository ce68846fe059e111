//! Days and months made and dropped, and batches that meet it.

use chrono::{TimeZone as _, Utc};
use rivulet_events::{EventType, InteractionAction};

use super::{Store, StoreError, commit, count, database};
use crate::{
    common::{date, encode, event, interaction, part},
    store::{
        keep_house,
        partitions::{Known, Partition},
    },
    verdict::{Verdict, judge},
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
    assert_eq!(judge(&error), Verdict::Passing("partition"));
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
    keep_house(&bed.pool, now, 45).await.unwrap();
    assert_eq!(days().await, all);

    let horizon = |day: i64| {
        let sql = "UPDATE kafka_positions SET consumed_until = $1";
        let until = Utc.from_utc_datetime(&date(day).and_hms_opt(12, 0, 0).unwrap());
        sqlx::query(sql).bind(until).execute(&bed.pool)
    };
    horizon(45).await.unwrap();
    keep_house(&bed.pool, now, 45).await.unwrap();
    assert_eq!(days().await, all, "the 45th day behind still counts");
    horizon(46).await.unwrap();
    let (one, other) = tokio::join!(
        keep_house(&bed.pool, now, 45),
        keep_house(&bed.pool, now, 45)
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
