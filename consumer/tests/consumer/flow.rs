//! Sharing, handing over, back-pressure: nothing lost, nothing twice.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use chrono::{TimeDelta, Utc};
use rivulet_consumer::{
    Config, Lane,
    positions::{self, consumed_horizon},
};
use rivulet_events::EventType;

use crate::support::{NAME, Rig, advances, commit, process, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_and_each_record_is_processed_once() {
    let rig = Rig::new(3).await;
    rig.produce_everywhere(300);
    let aligned = Config {
        lanes: NonZeroUsize::new(1),
        ..rig.config()
    };
    let first = rig.start(rig.config()).await.process();
    let second = rig.start(aligned).await.process();
    rig.produce_everywhere(300);
    rig.wait_for_processed(12 * 600).await;
    first.stop().await;
    let third = rig.start(rig.config()).await.process();
    rig.produce_everywhere(200);
    rig.wait_for_processed(12 * 800).await;
    second.stop().await;
    rig.produce_everywhere(10);
    rig.wait_for_processed(12 * 810).await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aligned_backlog_comes_in_the_order_of_its_timestamps() {
    let rig = Rig::new(1).await;
    // The same hour, twice as much of the one as of the other.
    let topics = [
        (EventType::Interaction, 20_000),
        (EventType::Speech, 10_000),
    ];
    for (event_type, records) in topics {
        rig.produce_over_an_hour(event_type, records);
    }
    let config = Config {
        lanes: NonZeroUsize::new(1),
        max_batch_records: 1_000,
        linger: Duration::from_secs(10),
        ..rig.config()
    };
    let mut running = rig.start(config).await;
    let mut at = [0; 2];
    let mut since_both = 0;
    for batch in 1..=28 {
        for part in running.consumer.next().await.unwrap().parts {
            let topic = topics.iter().position(|(it, _)| *it == part.event_type);
            let topic = topic.unwrap();
            assert_eq!(part.expected, at[topic], "a gap");
            at[topic] = part.next_offset();
        }
        let [one, other] = [0, 1].map(|topic| at[topic] as f64 / topics[topic].1 as f64);
        // Either may be fetched before the other, and be ahead by the batches that fit into the
        // channel until the other has caught up.
        if batch == 1 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        since_both += u32::from(one.min(other) > 0.0);
        assert!(since_both < 14 || (one - other).abs() < 0.1, "{at:?}");
    }
    assert!(since_both > 16);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_says_where_it_is_from() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Speech, 0, 5);
    let mut running = rig.start(rig.config()).await;
    let part = running.next_part().await;
    assert_eq!(*part.topic, *rig.topic(EventType::Speech));
    assert_eq!(part.event_type, EventType::Speech);
    let (cluster, topic) = part.incarnation.split_once('/').unwrap();
    assert!(cluster.len() > 8 && topic.len() > 8, "{}", part.incarnation);
    assert_eq!((part.expected, part.next_offset()), (0, 5));
    assert_eq!(part.pending_end, None);
    let payloads: Vec<&[u8]> = part.records.iter().map(|record| &*record.payload).collect();
    assert_eq!(payloads, [&b"0"[..], b"1", b"2", b"", b"4"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_nothing_to_do_is_ready() {
    let rig = Rig::new(1).await;
    let mut instances = Vec::new();
    for _ in 0..5 {
        instances.push(rig.start(rig.config()).await);
    }
    for instance in &instances {
        instance.wait_until_ready().await;
    }
    for instance in instances {
        instance.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_processing_pauses_fetching_and_stays_in_the_group() {
    let rig = Rig::new(1).await;
    let config = Config {
        max_batch_records: 10,
        ..rig.config()
    };
    rig.produce(EventType::Message, 0, 500);
    let mut running = rig.start(config).await;
    let handle = running.consumer.handle();
    let part = running.next_part().await;
    assert_eq!(part.records.len(), 10);
    // Longer than `max.poll.interval.ms`: who does not poll is thrown out and loses its partitions.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(handle.is_current(&part));
    process(&rig.bed.pool, &handle, vec![part]).await;
    let processing = running.process();
    rig.wait_for_processed(500).await;
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_partition_does_not_keep_the_others_waiting() {
    let rig = Rig::new(2).await;
    // 20 MB, several times what is fetched at once.
    rig.produce_sized(EventType::Message, 0, 20_000, 1_000);
    rig.produce(EventType::Message, 1, 10);
    rig.produce(EventType::Session, 0, 10);
    let mut running = rig.start(rig.config()).await;
    let mut waiting = BTreeSet::from([(EventType::Message, 1), (EventType::Session, 0)]);
    let mut busy = 0;
    while !waiting.is_empty() {
        for part in running.consumer.next().await.unwrap().parts {
            waiting.remove(&(part.event_type, part.partition));
            if (part.event_type, part.partition) == (EventType::Message, 0) {
                busy = part.next_offset();
            }
        }
    }
    assert!(busy < 20_000, "the busy partition went first, all of it");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_stuck_does_not_hold_up_the_others() {
    let rig = Rig::new(2).await;
    let config = Config {
        lanes: NonZeroUsize::new(2),
        max_batch_records: 100,
        ..rig.config()
    };
    // Far more of each than a lane's channel and the batch before it hold.
    rig.produce(EventType::Message, 0, 3_000);
    rig.produce(EventType::Message, 1, 3_000);
    rig.produce(EventType::Speech, 1, 2_000);
    let mut running = rig.start(config).await;
    let handle = running.consumer.handle();
    let [mut stuck, mut free]: [Lane; 2] = running.consumer.take_lanes().try_into().unwrap();
    let first = stuck.next().await.unwrap();
    // Whoever has it does not come back. The others are processed to their end.
    while rig.processed().await.0 < 5_000 {
        let batch = tokio::time::timeout(Duration::from_secs(30), free.next());
        let parts = batch.await.expect("held up").unwrap().parts;
        assert!(parts.iter().all(|part| part.partition == 1));
        process(&rig.bed.pool, &handle, parts).await;
    }
    // What was not read is still to come, in order.
    process(&rig.bed.pool, &handle, first.parts).await;
    while rig.processed().await.0 < 8_000 {
        let batch = stuck.next().await.unwrap();
        let records: usize = batch.parts.iter().map(|part| part.records.len()).sum();
        assert!(records <= 64, "two lanes share what may be gathered");
        process(&rig.bed.pool, &handle, batch.parts).await;
    }
    rig.wait_for_processed(8_000).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_not_delivered_again_though_kafka_was_never_told() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Interaction, 0, 20);
    let mut running = rig.start(rig.config()).await;
    let part = running.next_part().await;
    commit(&rig.bed.pool, &[part]).await.unwrap();
    drop(running);

    rig.produce(EventType::Interaction, 0, 5);
    let mut running = rig.start(rig.config()).await;
    let part = running.next_part().await;
    assert_eq!((part.expected, part.records[0].offset), (20, 20));
    process(&rig.bed.pool, &running.consumer.handle(), vec![part]).await;
    assert_eq!(rig.processed().await, (25, 25));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_position_was_moved_is_fenced_and_goes_on_from_there() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Interaction, 0, 20);
    let mut running = rig.start(rig.config()).await;
    let handle = running.consumer.handle();
    let part = running.next_part().await;
    // Somebody else has processed half of it, and this instance does not know.
    rig.set_position(&part.topic, 0, 10).await;
    let outcome = commit(&rig.bed.pool, std::slice::from_ref(&part)).await;
    assert!(matches!(outcome, Err(positions::Error::Fenced(_))));
    assert_eq!(rig.processed().await, (0, 0));
    handle.resync(&part.topic, 0);
    assert!(!handle.is_current(&part));
    handle.done(&part);

    let again = running.next_part().await;
    assert_eq!((again.expected, again.records[0].offset), (10, 10));
    assert!(handle.is_current(&again) && again.epoch != part.epoch);
    process(&rig.bed.pool, &handle, vec![again]).await;
    rig.produce(EventType::Interaction, 0, 5);
    let processing = running.process();
    rig.wait_for_processed(15).await;
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_was_begun_comes_again_as_it_was() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Interaction, 0, 20);
    rig.produce(EventType::Session, 0, 3);
    let mut running = rig.start(rig.config()).await;
    let mut parts = Vec::new();
    while parts.len() < 2 {
        parts.extend(running.consumer.next().await.unwrap().parts);
    }
    parts.retain(|part| part.event_type == EventType::Interaction);
    assert_eq!(parts[0].next_offset(), 20);
    let mut conn = rig.bed.pool.acquire().await.unwrap();
    positions::begin_range(&mut conn, NAME, &advances(&parts))
        .await
        .unwrap();
    drop(running);

    // More has come since, and batches are smaller now.
    rig.produce(EventType::Interaction, 0, 30);
    let config = Config {
        max_batch_records: 7,
        ..rig.config()
    };
    let mut running = rig.start(config).await;
    let mut interactions = Vec::new();
    while interactions.len() < 2 {
        let parts = running.consumer.next().await.unwrap().parts;
        interactions.extend(
            parts
                .into_iter()
                .filter(|part| part.event_type == EventType::Interaction),
        );
    }
    let (range, rest) = (&interactions[0], &interactions[1]);
    assert_eq!((range.expected, range.pending_end), (0, Some(20)));
    let offsets: Vec<i64> = range.records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    assert_eq!((rest.expected, rest.pending_end), (20, None));
    assert_eq!(rest.records[0].offset, 20);

    let range = advances(std::slice::from_ref(range));
    positions::finish_range(&mut conn, NAME, &range)
        .await
        .unwrap();
    let rest = advances(std::slice::from_ref(rest));
    positions::advance(&mut conn, NAME, &rest).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_topics_do_not_hold_the_horizon_back() {
    let rig = Rig::new(1).await;
    let processing = rig.start(rig.config()).await.process();
    wait_for("the horizon to move", async || {
        let mut conn = rig.bed.pool.acquire().await.unwrap();
        let horizon = consumed_horizon(&mut conn, NAME).await.unwrap();
        horizon.is_some_and(|horizon| horizon > Utc::now() - TimeDelta::minutes(10))
    })
    .await;
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_with_records_to_process_holds_the_horizon_back() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Session, 0, 1);
    let mut running = rig.start(rig.config()).await;
    let part = running.next_part().await;
    // The quiet ones have moved, so this one was looked at too.
    let moved =
        "SELECT count(*) FROM kafka_positions WHERE consumed_until > now() - interval '10 minutes'";
    wait_for("the quiet topics", async || {
        let moved: i64 = sqlx::query_scalar(moved)
            .fetch_one(&rig.bed.pool)
            .await
            .unwrap();
        moved == 3
    })
    .await;
    let mut conn = rig.bed.pool.acquire().await.unwrap();
    let horizon = consumed_horizon(&mut conn, NAME).await.unwrap().unwrap();
    assert_eq!(horizon.timestamp(), 0);
    process(&rig.bed.pool, &running.consumer.handle(), vec![part]).await;
    running.stop().await;
}
