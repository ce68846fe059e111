//! The official Rust client, as the product uses it.

use clickhouse::{Client, Compression, Row, native::builder::BlockBuilder};
use serde::{Deserialize, Serialize};

use crate::support::Door;

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Event {
    id: u64,
    name: String,
    score: Option<f64>,
    tags: Vec<String>,
    more: Vec<(String, String)>,
}

fn event(id: u64) -> Event {
    Event {
        id,
        name: format!("é\t'{id}"),
        score: id.is_multiple_of(2).then_some(0.5),
        tags: vec!["a".to_owned(); (id % 3) as usize],
        more: vec![("k".to_owned(), id.to_string())],
    }
}

async fn with_table(door: &Door, compression: Compression) -> Client {
    let client = door.client().with_compression(compression);
    client
        .query("CREATE DATABASE IF NOT EXISTS rust")
        .execute()
        .await
        .unwrap();
    let client = client.with_database("rust");
    client
        .query(
            "CREATE OR REPLACE TABLE events (id UInt64, name String, score Nullable(Float64), \
             tags Array(LowCardinality(String)), more Map(String, String)) \
             ENGINE = ReplacingMergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100",
        )
        .execute()
        .await
        .unwrap();
    client
}

#[tokio::test]
async fn rows_go_in_and_come_back() {
    let door = Door::open();
    for compression in [Compression::None, Compression::Lz4] {
        let client = with_table(&door, compression).await;
        // More than the door's buffer holds, and than a block of the client or of the engine.
        let events: Vec<_> = (0..200_000).map(event).collect();
        let mut insert = client.insert::<Event>("events").await.unwrap();
        for event in &events {
            insert.write(event).await.unwrap();
        }
        insert.end().await.unwrap();

        let mut cursor = client
            .query("SELECT ?fields FROM events FINAL ORDER BY id")
            .fetch::<Event>()
            .unwrap();
        for event in &events {
            assert_eq!(cursor.next().await.unwrap().as_ref(), Some(event));
        }
        assert_eq!(cursor.next().await.unwrap(), None);

        let some = client
            .query("SELECT ?fields FROM events WHERE id IN {ids:Array(UInt64)} AND name != ? ORDER BY id")
            .bind("it's")
            .param("ids", vec![5_u64, 7])
            .fetch_all::<Event>()
            .await
            .unwrap();
        assert_eq!(some, [event(5), event(7)]);
        let none = client.query("SELECT ?fields FROM events WHERE id = 0 AND id = 1");
        assert_eq!(none.fetch_optional::<Event>().await.unwrap(), None);
    }
}

#[tokio::test]
async fn native_blocks_with_a_token_count_once() {
    let door = Door::open();
    let client = with_table(&door, Compression::Lz4).await;
    for (token, rows) in [("a", 200_000), ("a", 200_000), ("b", 400_000)] {
        // One block in, one block on the disk: a token is counted for each.
        let mut insert = client
            .insert_native("events")
            .with_setting("insert_deduplication_token", token)
            .with_setting("max_insert_block_size", "1000000")
            .with_setting("min_insert_block_size_rows", "1000000")
            .with_setting("min_insert_block_size_bytes", "0");
        for start in [0, 100_000] {
            let ids = start..start + 100_000_u64;
            let mut block = BlockBuilder::new();
            block
                .upsert_column("id")
                .unwrap()
                .add_all(ids.clone())
                .unwrap();
            let names = ids.map(|id| id.to_string());
            block.upsert_column("name").unwrap().add_all(names).unwrap();
            insert.write(&block.build().unwrap()).await.unwrap();
        }
        insert.end().await.unwrap();
        let count = client
            .query("SELECT count() FROM events")
            .fetch_one::<u64>()
            .await
            .unwrap();
        assert_eq!(count, rows, "{token}");
    }
    let sql = "SELECT count(), sum(id = toUInt64(name)) FROM events FINAL";
    assert_eq!(
        client.query(sql).fetch_one::<(u64, u64)>().await.unwrap(),
        (200_000, 200_000)
    );
}

#[tokio::test]
async fn formatted_data_with_a_token_count_once() {
    let door = Door::open();
    for compression in [Compression::None, Compression::Lz4] {
        let client = with_table(&door, compression).await;
        for (token, rows) in [("a", 2), ("a", 2), ("b", 4)] {
            let mut insert = client
                .insert_formatted_with("INSERT INTO events (id, name) FORMAT JSONEachRow")
                .with_setting("insert_deduplication_token", token);
            insert
                .send("{\"id\":1,\"name\":\"x\"}\n{\"id\":2,".into())
                .await
                .unwrap();
            insert.send("\"name\":\"y\"}\n".into()).await.unwrap();
            insert.end().await.unwrap();
            let count = client
                .query("SELECT count() FROM events")
                .fetch_one::<u64>()
                .await
                .unwrap();
            assert_eq!(count, rows, "{token}");
        }
    }
}

#[tokio::test]
async fn an_insert_not_ended_leaves_nothing() {
    let door = Door::open();
    let client = with_table(&door, Compression::Lz4).await;
    let mut insert = client.insert::<Event>("events").await.unwrap();
    for id in 0..100_000 {
        insert.write(&event(id)).await.unwrap();
    }
    drop(insert);
    door.until_running("INSERT%", "0").await;
    assert_eq!(
        client
            .query("SELECT count() FROM events")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn errors_keep_their_code() {
    let door = Door::open();
    let client = with_table(&door, Compression::Lz4).await;
    let code = |error: clickhouse::error::Error| match error {
        clickhouse::error::Error::BadResponse(text) => text
            .trim_start_matches("Code: ")
            .split('.')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap(),
        other => panic!("{other:?}"),
    };
    let missing = client
        .query("SELECT id FROM missing")
        .fetch_all::<u64>()
        .await;
    assert_eq!(code(missing.unwrap_err()), 60);
    assert_eq!(code(client.query("selec").execute().await.unwrap_err()), 62);
    let mut insert = client.insert_formatted_with("INSERT INTO missing (id) FORMAT CSV");
    insert.send("1\n".into()).await.unwrap();
    assert_eq!(code(insert.end().await.unwrap_err()), 60);

    // After the head of the answer was sent, compressed and not.
    for compression in [Compression::None, Compression::Lz4] {
        let client = client.clone().with_compression(compression);
        let sql = "SELECT toUInt64(number + throwIf(number = 3000000)) FROM numbers(10000000) SETTINGS max_threads = 1";
        let mut cursor = client.query(sql).fetch::<u64>().unwrap();
        let mut rows = 0_u64;
        let error = loop {
            match cursor.next().await {
                Ok(Some(row)) => {
                    assert_eq!(row, rows);
                    rows += 1;
                }
                Ok(None) => panic!("no error after {rows} rows"),
                Err(error) => break error,
            }
        };
        assert!(rows > 0);
        assert_eq!(code(error), 395);
    }
}
