//! A test's corner of the running stack is fresh, its own, and gone afterwards.

use rivulet_kafka::create_topics;
use rivulet_sandbox::{Stack, TestBed};

#[tokio::test(flavor = "multi_thread")]
async fn two_tests_do_not_see_each_other_and_leave_nothing() {
    let (one, two) = tokio::join!(TestBed::new(), TestBed::new());
    sqlx::query("CREATE TABLE t (i int)")
        .execute(&one.pool)
        .await
        .unwrap();
    sqlx::query("CREATE TABLE t (i int)")
        .execute(&two.pool)
        .await
        .unwrap();
    let create = "CREATE TABLE t (i Int32) ENGINE = MergeTree ORDER BY i";
    one.clickhouse.query(create).execute().await.unwrap();
    two.clickhouse.query(create).execute().await.unwrap();
    create_topics(&one.cluster, &Default::default())
        .await
        .unwrap();
    assert_ne!(one.cluster.topic_prefix, two.cluster.topic_prefix);

    let names = [
        one.clickhouse_database.clone(),
        two.clickhouse_database.clone(),
    ];
    let topics = one.cluster.topics();
    drop(one);
    drop(two);
    let stack = Stack::for_tests().unwrap();
    let postgres = sqlx::PgPool::connect(&stack.database_url).await.unwrap();
    let databases: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database")
        .fetch_all(&postgres)
        .await
        .unwrap();
    let clickhouse = clickhouse::Client::default().with_url(&stack.clickhouse_url);
    let histories: Vec<String> = clickhouse
        .query("SELECT name FROM system.databases")
        .fetch_all()
        .await
        .unwrap();
    for name in &names {
        assert!(!databases.contains(name));
        assert!(!histories.contains(name));
    }
    let admin: rdkafka::consumer::BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &stack.kafka_brokers)
        .create()
        .unwrap();
    let metadata = rdkafka::consumer::Consumer::fetch_metadata(
        &admin,
        None,
        std::time::Duration::from_secs(10),
    )
    .unwrap();
    for topic in metadata.topics() {
        assert!(!topics.iter().any(|gone| gone == topic.name()));
    }
}

/// What a test that panics does to its bed, on the runtime that it blocks.
#[tokio::test]
async fn a_bed_is_dropped_inside_a_runtime_of_one_thread() {
    let bed = TestBed::new().await;
    let name = bed.clickhouse_database.clone();
    drop(bed);
    let again = TestBed::new().await;
    let databases: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database")
        .fetch_all(&again.pool)
        .await
        .unwrap();
    assert!(!databases.contains(&name));
}
