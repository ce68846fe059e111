//! What many streams of one child cost: alone in its process, whose metrics it reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say so"
)]

#[path = "dashboards/common/mod.rs"]
mod common;

use futures_util::future::join_all;
use rivulet_events::{ChildId, changes};

use common::{Api, listener::Stream, today};

const STREAMS: usize = 64;
const EVENTS: usize = 8;

/// Bytes of one event, as they are on the wire but for the chunks' heads.
const MOST: usize = 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn a_child_with_full_sets_is_read_once_and_told_in_few_bytes() {
    let metrics = rivulet_telemetry::metrics(&[]).unwrap();
    let reads = || -> usize {
        let text = metrics.render();
        let line = |line: &str| line.strip_prefix("rivulet_live_reads_total ")?.parse().ok();
        text.lines().find_map(line).unwrap()
    };
    let api = Api::start().await;
    let (pool, day) = (&api.bed.pool, today());
    let family = api.family(&[day]).await;
    let fill = "UPDATE daily_child_metrics SET (topics, badges, topics_more, badges_more) =
            (SELECT array_agg(rpad('t' || n, 100, 'x') ORDER BY n), array_agg(rpad('b' || n, 100, 'x') ORDER BY n), true, true
             FROM generate_series(100, 355) AS n)
        WHERE child_id = $1";
    let fill = sqlx::query(fill).bind(family.child).execute(pool).await;
    assert_eq!(fill.unwrap().rows_affected(), 1);

    let streams = (0..STREAMS).map(async |_| {
        let mut stream = Stream::of(&api, &family).await;
        let (_, whole) = stream.update().await;
        assert_eq!(whole["days"][0]["topics"].as_array().unwrap().len(), 256);
        assert!(stream.bytes > 52_000);
        stream.bytes = 0;
        stream
    });
    let mut streams = join_all(streams).await;
    let before = reads();
    for event in 1..=EVENTS {
        let mut tx = pool.begin().await.unwrap();
        // Each has a topic that pushes another out.
        let update = "UPDATE daily_child_metrics SET events = events + 1, interactions = interactions + 1,
                xp = xp + 5, topics = array_prepend(rpad('s' || (900 - $2), 100, 'x'), topics[1:255]),
                last_event_at = clock_timestamp(), updated_at = clock_timestamp()
            WHERE child_id = $1";
        let update = sqlx::query(update).bind(family.child).bind(event as i32);
        update.execute(&mut *tx).await.unwrap();
        for payload in changes::payloads([(ChildId::new(family.child), day)]) {
            let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(changes::CHANNEL);
            notify.bind(payload).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        for stream in &mut streams {
            let (_, update) = stream.update().await;
            assert_eq!(update["days"][0]["events"], 4 + event);
            assert_eq!(
                update["days"][0]["topics_added"].as_array().unwrap().len(),
                1
            );
            assert_eq!(
                update["days"][0]["topics_removed"]
                    .as_array()
                    .unwrap()
                    .len(),
                1
            );
            assert!(update.get("streak").is_none());
        }
    }
    assert_eq!(reads() - before, EVENTS);
    let bytes: usize = streams.iter().map(|stream| stream.bytes).sum();
    println!(
        "{STREAMS} streams are told {} bytes an event",
        bytes / EVENTS
    );
    assert!(bytes < STREAMS * EVENTS * MOST, "{bytes}");
    api.stop().await;
}
