//! What must not be guessed: stopped, said, and gone on with once it is put right.

use std::time::Duration;

use rdkafka::{Offset, TopicPartitionList, admin::AdminOptions};
use rivulet_consumer::{Config, Consumer, Error, adopt};
use rivulet_events::EventType;
use rivulet_telemetry::Readiness;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::{Rig, Running, process, wait_for};

/// Whether readiness says that this partition is stopped, for this reason.
fn is_stopped(readiness: &Readiness, topic: &str, reason: &str) -> bool {
    let shown = format!("{readiness:?}");
    !readiness.is_ready() && shown.contains(&format!("{topic}/0: ")) && shown.contains(reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_stopped_until_an_operator_adopts_it() {
    let rig = Rig::new(1).await;
    let topic = rig.topic(EventType::Interaction);
    rig.produce(EventType::Interaction, 0, 20);
    let processing = rig.start(rig.config()).await.process();
    rig.wait_for_processed(20).await;
    processing.stop().await;
    rig.delete_topic(EventType::Interaction).await;
    rig.make_topics().await;
    // As many as before: the old position is within the new log.
    rig.produce(EventType::Interaction, 0, 30);
    rig.produce(EventType::Message, 0, 7);

    let processing = rig.start(rig.config()).await.process();
    wait_for("the partition to be stopped", async || {
        is_stopped(&processing.readiness, &topic, "made anew")
    })
    .await;
    // The others go on.
    rig.wait_for_processed(27).await;

    let topics = std::slice::from_ref(&topic);
    let (cluster, pool) = (&rig.bed.cluster, &rig.bed.pool);
    let told = adopt(cluster, pool, topics, false).await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].before, told[0].now), (20, 0), "{told:?}");
    assert!(is_stopped(&processing.readiness, &topic, "made anew"));
    sqlx::query("DELETE FROM processed WHERE topic = $1")
        .bind(&topic)
        .execute(&rig.bed.pool)
        .await
        .unwrap();
    assert_eq!(adopt(cluster, pool, topics, true).await.unwrap(), told);
    assert!(adopt(cluster, pool, topics, true).await.unwrap().is_empty());
    let audited: Vec<(String, Vec<String>)> =
        sqlx::query_as("SELECT action, subjects FROM audit_log WHERE actor_kind = 'user'")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(audited, [("topics.adopt".to_owned(), vec![topic.clone()])]);
    rig.wait_for_processed(37).await;
    assert!(processing.readiness.is_ready());
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_is_seen_and_caught_up() {
    const REWOUND: &str = r#"rivulet_consumer_rewound_records_total{consumer="tested"} "#;
    let metrics = rivulet_telemetry::metrics(&[]).unwrap();
    let rig = Rig::new(1).await;
    rig.produce(EventType::Interaction, 0, 20);
    let processing = rig.start(rig.config()).await.process();
    rig.wait_for_processed(20).await;
    processing.stop().await;
    let forget = "DELETE FROM processed WHERE kafka_offset >= 5";
    sqlx::query(forget).execute(&rig.bed.pool).await.unwrap();
    let topic = rig.topic(EventType::Interaction);
    rig.set_position(&topic, 0, 5).await;
    let processing = rig.start(rig.config()).await.process();
    rig.wait_for_processed(20).await;
    let told = metrics.render();
    let records = told.lines().find_map(|line| line.strip_prefix(REWOUND));
    // The tests beside this one share the counter.
    let seen = records.and_then(|records| records.parse().ok());
    assert!(seen.is_some_and(|seen: u64| seen >= 15), "{told}");
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_a_running_consumer_is_stopped() {
    let rig = Rig::new(1).await;
    let topic = rig.topic(EventType::Interaction);
    rig.produce(EventType::Interaction, 0, 20);
    let processing = rig.start(rig.config()).await.process();
    rig.wait_for_processed(20).await;
    rig.delete_topic(EventType::Interaction).await;
    rig.make_topics().await;
    wait_for("the partition to be stopped", async || {
        is_stopped(&processing.readiness, &topic, "made anew")
    })
    .await;
    // From the topic's beginning to beyond the old position: none of it is taken.
    rig.produce(EventType::Interaction, 0, 30);
    rig.produce(EventType::Message, 0, 7);
    rig.wait_for_processed(27).await;
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_the_log_is_stopped_and_the_others_go_on() {
    let rig = Rig::new(1).await;
    let topic = rig.topic(EventType::Interaction);
    rig.produce(EventType::Interaction, 0, 20);
    let processing = rig.start(rig.config()).await.process();
    rig.wait_for_processed(20).await;
    processing.stop().await;
    rig.set_position(&topic, 0, 21).await;

    rig.produce(EventType::Message, 0, 7);
    let processing = rig.start(rig.config()).await.process();
    wait_for("the partition to be stopped", async || {
        is_stopped(&processing.readiness, &topic, "lost its end")
    })
    .await;
    rig.wait_for_processed(27).await;
    processing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took_first_stop_the_partition() {
    let rig = Rig::new(1).await;
    let topic = rig.topic(EventType::Interaction);
    // 5 MB, of which 1 MB is fetched ahead.
    rig.produce_sized(EventType::Interaction, 0, 5_000, 1_000);
    let mut config = Config {
        max_batch_records: 10,
        ..rig.config()
    };
    for (name, value) in [
        ("queued.max.messages.kbytes", "1024"),
        ("max.partition.fetch.bytes", "100000"),
    ] {
        let property = (name.to_owned(), value.to_owned());
        config.cluster.properties.push(property);
    }
    let mut running = rig.start(config).await;
    let handle = running.consumer.handle();
    let part = running.next_part().await;
    let mut before = TopicPartitionList::new();
    before
        .add_partition_offset(&topic, 0, Offset::Offset(4_900))
        .unwrap();
    let deleted = rig.admin();
    let deleted = deleted.delete_records(&before, &AdminOptions::new());
    deleted.await.unwrap();

    process(&rig.bed.pool, &handle, vec![part]).await;
    let processing = running.process();
    wait_for("the partition to be stopped", async || {
        is_stopped(&processing.readiness, &topic, "are gone")
    })
    .await;
    rig.produce(EventType::Message, 0, 7);
    wait_for("the other topic", async || {
        let other = "SELECT count(*) FROM processed WHERE topic <> $1";
        let other: i64 = sqlx::query_scalar(other)
            .bind(&topic)
            .fetch_one(&rig.bed.pool)
            .await
            .unwrap();
        other == 7
    })
    .await;
    let last = "SELECT max(kafka_offset) FROM processed WHERE topic = $1";
    let last: i64 = sqlx::query_scalar(last)
        .bind(&topic)
        .fetch_one(&rig.bed.pool)
        .await
        .unwrap();
    assert!(last < 4_900, "it went on behind the gap, at {last}");
    processing.stop().await;
}

/// A pool that reaches PostgreSQL through this port of ours, where nothing listens yet.
async fn detour(rig: &Rig) -> (PgPool, std::net::SocketAddr) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let options = (*rig.bed.pool.connect_options()).clone();
    let pool =
        PgPoolOptions::new().connect_lazy_with(options.host("127.0.0.1").port(address.port()));
    (pool, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_positions_the_consumer_ends_rather_than_guess() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Message, 0, 5);
    let (pool, _) = detour(&rig).await;
    let config = Config {
        patience: Duration::from_secs(2),
        ..rig.config()
    };
    let mut running = Running::start(config, pool).await;
    assert!(running.consumer.next().await.is_none());
    assert!(!running.readiness.is_ready());
    let outcome = running.consumer.join().await;
    assert!(matches!(outcome, Err(Error::Database(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_come_late_are_waited_for() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Message, 0, 5);
    let (pool, address) = detour(&rig).await;
    let mut config = Config {
        patience: Duration::from_secs(60),
        ..rig.config()
    };
    let refused = Consumer::start(
        config.clone(),
        pool.clone(),
        Readiness::new("test", &[]),
        CancellationToken::new(),
    );
    assert!(matches!(refused.await, Err(Error::Patience(..))));
    let poll_interval = ("max.poll.interval.ms".to_owned(), "300000".to_owned());
    config.cluster.properties.push(poll_interval);
    let mut running = Running::start(config, pool).await;
    wait_for("the consumer to say that it waits", async || {
        format!("{:?}", running.readiness).contains("cannot be read")
    })
    .await;
    let (host, port) = {
        let options = rig.bed.pool.connect_options();
        (options.get_host().to_owned(), options.get_port())
    };
    let listener = TcpListener::bind(address).await.unwrap();
    let detour = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect((host.as_str(), port)).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let part = running.next_part().await;
    assert_eq!(part.records.len(), 5);
    running.wait_until_ready().await;
    running.stop().await;
    detour.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_progress_ends_the_consumer_unless_it_says_it_is_trying() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Message, 0, 5);
    let config = Config {
        stall: Duration::from_secs(3),
        ..rig.config()
    };
    let mut running = rig.start(config).await;
    let handle = running.consumer.handle();
    let part = running.next_part().await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        handle.still_trying();
    }
    assert!(handle.is_current(&part));
    assert!(running.readiness.is_ready());
    // And now nothing is heard of it.
    assert!(running.consumer.next().await.is_none());
    let outcome = running.consumer.join().await;
    assert!(matches!(outcome, Err(Error::Stuck(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_the_batches_and_the_consumer() {
    let rig = Rig::new(1).await;
    rig.produce(EventType::Message, 0, 500);
    let mut running = rig.start(rig.config()).await;
    running.next_part().await;
    running.shutdown.cancel();
    assert!(running.consumer.next().await.is_none());
    running.consumer.join().await.unwrap();
}
