//! Topics on a real Kafka.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use rivulet_kafka::{
    Error, TopicPlan, create_topics, incarnations, keep_for, kept_by_topic, longest_kept, retention,
};
use rivulet_sandbox::TestBed;

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn topics_are_made_once_and_differences_are_told() {
    let bed = TestBed::new().await;
    let missing = retention(&bed.cluster).await.unwrap_err().to_string();
    assert!(missing.contains("does not exist"), "{missing}");

    let plan = TopicPlan::default();
    let reports = create_topics(&bed.cluster, &plan).await.unwrap();
    assert_eq!(reports.len(), 5);
    assert!(reports.iter().all(|report| report.created));
    for report in create_topics(&bed.cluster, &plan).await.unwrap() {
        assert!(!report.created);
        assert_eq!(report.differences, [""; 0]);
    }
    assert_eq!(retention(&bed.cluster).await.unwrap(), Some(plan.retention));

    let other = TopicPlan {
        partitions: 6,
        retention: Duration::from_secs(3600),
        ..plan
    };
    for report in create_topics(&bed.cluster, &other).await.unwrap() {
        let differences: &[&str] = match report.topic == bed.cluster.erasure_log() {
            // It is compacted, in one partition, whatever the plan for events is.
            true => &[],
            false => &[
                "retention.ms is 604800000, not 3600000",
                "partitions is 3, not 6",
            ],
        };
        assert_eq!(report.differences, differences);
    }
}

#[tokio::test]
async fn topics_keep_their_records_for_as_long_as_they_are_told() {
    const DAY: Duration = Duration::from_secs(86_400);
    let bed = TestBed::new().await;
    let plan = TopicPlan {
        retention: DAY * 14,
        ..TopicPlan::default()
    };
    create_topics(&bed.cluster, &plan).await.unwrap();
    let kept = async || {
        let topics = kept_by_topic(&bed.cluster).await.unwrap();
        topics.into_iter().map(|(_, kept)| kept).collect::<Vec<_>>()
    };
    assert_eq!(kept().await, [Some(DAY * 14); 4]);
    let changed = keep_for(&bed.cluster, DAY * 7).await.unwrap();
    assert_eq!(changed.len(), 4);
    assert!(changed.iter().all(|(_, before)| *before == Some(DAY * 14)));
    // Kafka tells it a moment after it has taken it.
    for _ in 0..50 {
        if kept().await == [Some(DAY * 7); 4] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(kept().await, [Some(DAY * 7); 4]);
    // A record goes with its segment, and all else that was set on the topic is as it was.
    assert_eq!(longest_kept(&bed.cluster).await.unwrap(), Some(DAY * 8));
    let wanted = TopicPlan::default();
    for report in create_topics(&bed.cluster, &wanted).await.unwrap() {
        assert_eq!(report.differences, [""; 0]);
    }
    assert_eq!(keep_for(&bed.cluster, DAY * 7).await.unwrap(), []);
}

#[tokio::test]
async fn a_topic_made_anew_has_another_incarnation() {
    let bed = TestBed::new().await;
    create_topics(&bed.cluster, &TopicPlan::default())
        .await
        .unwrap();
    let admin: AdminClient<DefaultClientContext> = bed.cluster.client_config().create().unwrap();
    let topics = bed.cluster.topics();
    let before = incarnations(admin.inner(), &topics, TIMEOUT).unwrap();
    assert_eq!(before.len(), 4);
    assert_eq!(
        before,
        incarnations(admin.inner(), &topics, TIMEOUT).unwrap()
    );

    let gone = topics[0].as_str();
    admin
        .delete_topics(&[gone], &AdminOptions::new())
        .await
        .unwrap();
    while incarnations(admin.inner(), &topics, TIMEOUT).unwrap().len() == 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    create_topics(&bed.cluster, &TopicPlan::default())
        .await
        .unwrap();
    let after = incarnations(admin.inner(), &topics, TIMEOUT).unwrap();
    let cluster = |incarnation: &str| incarnation.split_once('/').unwrap().0.to_owned();
    for topic in &topics {
        assert_eq!(before[topic] == after[topic], topic != gone);
        assert_eq!(cluster(&before[topic]), cluster(&after[topic]));
    }
}

#[tokio::test]
async fn no_broker_is_an_error_and_no_hang() {
    let cluster = rivulet_kafka::Cluster {
        brokers: "127.0.0.1:1".to_owned(),
        topic_prefix: "nowhere".to_owned(),
        properties: Vec::new(),
    };
    let admin: AdminClient<DefaultClientContext> = cluster.client_config().create().unwrap();
    let answer = incarnations(admin.inner(), &cluster.topics(), Duration::from_millis(200));
    assert!(matches!(answer, Err(Error::Timeout(_))), "{answer:?}");
}
