//! ClickHouse's HTTP interface, as its documentation has it.

use futures_util::{StreamExt, stream};

use crate::support::{Door, answer};

const EVENTS: &str = "CREATE TABLE events (id UInt64, name String) ENGINE = ReplacingMergeTree ORDER BY id \
                      SETTINGS non_replicated_deduplication_window = 100";

#[tokio::test]
async fn it_says_that_it_is_there() {
    let door = Door::open();
    for path in ["", "/ping", "/replicas_status"] {
        let answer = answer(door.http.get(format!("{}{path}", door.url))).await;
        assert_eq!((answer.status, answer.text()), (200, "Ok.\n"), "{path}");
    }
}

#[tokio::test]
async fn a_query_comes_in_the_url_the_body_or_both() {
    let door = Door::open();
    let get = answer(door.http.get(format!("{}/?query=SELECT+1", door.url))).await;
    assert_eq!(get.text(), "1\n");
    assert_eq!(door.post("", "SELECT 2").await.text(), "2\n");
    assert_eq!(door.post("?query=SELECT", "3;").await.text(), "3\n");

    door.run(EVENTS).await;
    for (url, body) in [
        ("?query=INSERT+INTO+events+FORMAT+CSV", "1,a\n"),
        ("?query=INSERT+INTO+events+VALUES", "(2, 'b')"),
        ("?query=INSERT+INTO+events+VALUES+(3,'c')", ""),
        ("?query=INSERT+INTO+events&default_format=CSV", "4,d\n"),
        (
            "",
            "INSERT INTO events FORMAT JSONEachRow\n{\"id\":5,\"name\":\"e\"}",
        ),
        ("", "INSERT INTO events SELECT 6, 'f'"),
    ] {
        let answer = door.post(url, body).await;
        assert_eq!(answer.status, 200, "{url} {body}: {}", answer.text());
        assert!(
            answer
                .header("x-clickhouse-summary")
                .contains(r#""written_rows":"1""#),
            "{url} {body}"
        );
    }
    let names = door
        .run("SELECT groupConcat(name) FROM (SELECT name FROM events ORDER BY id)")
        .await;
    assert_eq!(names, "abcdef");
}

#[tokio::test]
async fn the_head_says_what_follows() {
    let door = Door::open();
    let mine = door
        .post(
            "?query_id=mine&session_timezone=Asia/Tokyo",
            "SELECT 1 FORMAT JSON",
        )
        .await;
    assert_eq!(mine.header("x-clickhouse-query-id"), "mine");
    assert_eq!(mine.header("x-clickhouse-format"), "JSON");
    assert_eq!(mine.header("x-clickhouse-timezone"), "Asia/Tokyo");
    assert_eq!(
        mine.header("content-type"),
        "application/json; charset=UTF-8"
    );
    let other = door
        .post("?default_format=CSV", "SELECT number FROM numbers(5)")
        .await;
    assert_eq!(other.header("x-clickhouse-query-id").len(), 36);
    assert_eq!(other.header("x-clickhouse-format"), "CSV");
    assert!(
        other
            .header("x-clickhouse-summary")
            .contains(r#""read_rows":"5""#),
        "{other:?}"
    );
}

#[tokio::test]
async fn settings_hold_for_their_query_alone() {
    let door = Door::open();
    let three = "SELECT getSetting('max_threads') = 3";
    assert_eq!(door.post("?max_threads=3", three).await.text(), "1\n");
    assert_eq!(door.post("", three).await.text(), "0\n");
    // In a session too.
    assert_eq!(
        door.post("?session_id=s&max_threads=3", three).await.text(),
        "1\n"
    );
    assert_eq!(door.post("?session_id=s", three).await.text(), "0\n");

    // Those that form the blocks of an INSERT: parts of 2, 2 and 1 rows.
    door.run(EVENTS).await;
    let blocks =
        "min_insert_block_size_rows=2&min_insert_block_size_bytes=0&max_insert_block_size=2";
    let url = format!("?query=INSERT+INTO+events+FORMAT+CSV&{blocks}");
    assert_eq!(
        door.post(&url, "1,a\n2,b\n3,c\n4,d\n5,e\n").await.status,
        200
    );
    let parts = "SELECT groupArray(rows) FROM (SELECT rows FROM system.parts WHERE table = 'events' AND level <= 1 ORDER BY name)";
    assert_eq!(door.run(parts).await, "[2,2,1]");
}

#[tokio::test]
async fn parameters_and_databases() {
    let door = Door::open();
    door.run("CREATE DATABASE `a``b`").await;
    door.run("CREATE TABLE `a``b`.t (id UInt64) ENGINE = Memory")
        .await;
    let answer = door
        .post(
            "?database=a%60b&param_x=7",
            "INSERT INTO t VALUES ({x:UInt64})",
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request = door
        .http
        .post(&door.url)
        .header("X-ClickHouse-Database", "a`b")
        .body("SELECT id FROM t");
    assert_eq!(crate::support::answer(request).await.text(), "7\n");
    assert_eq!(
        door.post("?param_x=a%5Ctb'", "SELECT {x:String}")
            .await
            .text(),
        "a\\tb\\'\n"
    );
}

#[tokio::test]
async fn a_token_counts_once() {
    let door = Door::open();
    door.run(EVENTS).await;
    let insert = |token: &str| {
        format!("?query=INSERT+INTO+events+FORMAT+CSV&insert_deduplication_token={token}")
    };
    for (token, body, rows) in [
        ("one", "1,a\n2,b\n", "2"),
        ("one", "1,a\n2,b\n", "2"),
        // It is the token that counts, not the data.
        ("one", "3,c\n", "2"),
        ("two", "1,a\n2,b\n", "4"),
    ] {
        assert_eq!(door.post(&insert(token), body).await.status, 200);
        assert_eq!(
            door.run("SELECT count() FROM events").await,
            rows,
            "{token} {body}"
        );
    }
    assert_eq!(door.run("SELECT count() FROM events FINAL").await, "2");
}

#[tokio::test]
async fn errors_have_codes_and_statuses() {
    let door = Door::open();
    for (url, body, error) in [
        ("", "SELECT * FROM missing", (60, 404)),
        ("", "SELECT missing()", (46, 404)),
        ("", "selec", (62, 400)),
        ("", "SELECT 1; SELECT 2", (62, 400)),
        ("", "SELECT 1 FORMAT missing", (73, 404)),
        ("", "SELECT toUInt8('x')", (6, 400)),
        ("", "SELECT throwIf(1)", (395, 500)),
        ("", "CREATE USER x", (497, 500)),
        ("?database=missing", "SELECT 1", (81, 404)),
        ("?missing=1", "SELECT 1", (115, 404)),
        ("?bad+name=1", "SELECT 1", (115, 404)),
        ("?bad+name=1&session_id=x", "SELECT 1", (115, 404)),
        ("?session_id=y&session_check=1", "SELECT 1", (372, 404)),
        (
            "?max_execution_time=1",
            "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
            (159, 408),
        ),
        ("?query=INSERT+INTO+missing+FORMAT+CSV", "1\n", (60, 404)),
        (
            "?decompress=1",
            "not compressed, but long enough for a header",
            (271, 500),
        ),
    ] {
        assert_eq!(door.post(url, body).await.error(), error, "{url} {body}");
    }
    let get = answer(door.http.get(format!(
        "{}/?query=CREATE+TABLE+t+(a+Int8)+ENGINE=Memory",
        door.url
    )))
    .await;
    assert_eq!(get.error(), (164, 500));
}

#[tokio::test]
async fn a_failed_insert_leaves_nothing() {
    let door = Door::open();
    door.run(EVENTS).await;
    let answer = door
        .post("?query=INSERT+INTO+events+FORMAT+CSV", "1,a\nx,b\n")
        .await;
    assert_eq!(answer.error(), (27, 400));
    assert_eq!(door.run("SELECT count() FROM events").await, "0");
}

#[tokio::test]
async fn an_error_after_the_head_is_tagged() {
    let door = Door::open();
    let sql = "SELECT throwIf(number = 3000000) FROM numbers(10000000)";
    let late = door.post("?max_threads=1", sql).await;
    assert_eq!(late.status, 200);
    let tag = late.header("x-clickhouse-exception-tag");
    let text = late.text();
    assert!(
        text.ends_with(&format!(" {tag}\r\n__exception__\r\n")),
        "{tag}"
    );
    assert!(text.contains(&format!(
        "\r\n__exception__\r\n{tag}\r\nCode: 395. DB::Exception: "
    )));
    let whole = door.post("?max_threads=1&wait_end_of_query=1", sql).await;
    assert_eq!(whole.error(), (395, 500));
}

#[tokio::test]
async fn sessions_keep_what_is_theirs() {
    let door = Door::open();
    door.post("?session_id=a", "CREATE TEMPORARY TABLE mine (x UInt8)")
        .await;
    door.post("?session_id=a", "INSERT INTO mine VALUES (1)")
        .await;
    assert_eq!(
        door.post("?session_id=a", "SELECT x FROM mine")
            .await
            .text(),
        "1\n"
    );
    assert_eq!(
        door.post("?session_id=b", "SELECT x FROM mine")
            .await
            .error(),
        (60, 404)
    );

    let busy = door.post(
        "?session_id=a",
        "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
    );
    let meanwhile = async {
        door.until_running("%sipHash64%", "1").await;
        let locked = door.post("?session_id=a", "SELECT 1").await;
        door.run("KILL QUERY WHERE query LIKE '%sipHash64%' AND query NOT LIKE 'KILL%' SYNC")
            .await;
        locked
    };
    let (killed, locked) = tokio::join!(busy, meanwhile);
    assert_eq!(locked.error(), (373, 500));
    assert_eq!(killed.error(), (394, 500));
}

#[tokio::test]
async fn many_at_once() {
    let door = Door::open();
    door.run(EVENTS).await;
    let long = door.post(
        "",
        "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
    );
    let meanwhile = async {
        door.until_running("%sipHash64%", "1").await;
        let url = "?query=INSERT+INTO+events+FORMAT+CSV";
        let inserts = stream::iter(0..64).map(|batch| {
            let rows: String = (0..100)
                .map(|row| format!("{},x\n", batch * 100 + row))
                .collect();
            door.post(url, rows)
        });
        let statuses: Vec<_> = inserts
            .buffer_unordered(16)
            .map(|answer| answer.status)
            .collect()
            .await;
        assert_eq!(statuses, [200; 64]);
        assert_eq!(
            door.run("SELECT count(), uniqExact(id) FROM events").await,
            "6400\t6400"
        );
        door.run("KILL QUERY WHERE query LIKE '%sipHash64%' AND query NOT LIKE 'KILL%' SYNC")
            .await;
    };
    let (killed, ()) = tokio::join!(long, meanwhile);
    assert_eq!(killed.error(), (394, 500));
}

#[tokio::test]
async fn every_compression_both_ways() {
    let door = Door::open();
    door.run("CREATE TABLE c (id UInt64) ENGINE = MergeTree ORDER BY id")
        .await;
    let numbers = "SELECT number AS id FROM numbers(300000) FORMAT RowBinary";
    let plain = door.post("", numbers).await.body;
    let url = format!("{}/?query=INSERT+INTO+c+FORMAT+RowBinary", door.url);
    for encoding in ["lz4", "zstd", "gzip"] {
        // The door's own output is its input; that both are right is for the clients to say.
        let request = door
            .http
            .post(&door.url)
            .header("Accept-Encoding", encoding)
            .body(numbers);
        let encoded = answer(request).await;
        assert_eq!(encoded.header("content-encoding"), encoding);
        assert!(encoded.body.len() < plain.len(), "{encoding}");
        let request = door
            .http
            .post(&url)
            .header("Content-Encoding", encoding)
            .body(encoded.body);
        assert_eq!(answer(request).await.status, 200, "{encoding}");
    }
    let blocks = door.post("?compress=1", numbers).await;
    assert_eq!(blocks.header("content-encoding"), "");
    let answer = door
        .post(
            "?query=INSERT+INTO+c+FORMAT+RowBinary&decompress=1",
            blocks.body,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        door.run("SELECT count(), uniqExact(id) FROM c").await,
        "1200000\t300000"
    );
}

#[tokio::test]
async fn what_the_product_needs_of_the_engine() {
    let door = Door::open();
    for sql in [
        "CREATE DATABASE d",
        "CREATE TABLE d.t (id UInt64 CODEC(Delta, ZSTD(1)), version UInt64, kind LowCardinality(String), \
         tags Map(String, String), more JSON, at DateTime64(3, 'UTC')) \
         ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(at) ORDER BY id \
         TTL toDateTime(at) + INTERVAL 10 YEAR SETTINGS non_replicated_deduplication_window = 10",
        "CREATE VIEW d.v AS SELECT * FROM d.t FINAL",
        "INSERT INTO d.t SELECT number % 10, number, 'k', map('a', 'b'), '{\"x\": {\"y\": 1}}', '2026-01-01 00:00:00.123' FROM numbers(20)",
        "INSERT INTO d.t SELECT number, 100, 'k', map(), '{}', '2026-02-01' FROM numbers(3)",
        "ALTER TABLE d.t DELETE WHERE id = 9 SETTINGS mutations_sync = 2",
        "DELETE FROM d.t WHERE id = 8 SETTINGS mutations_sync = 2",
        "OPTIMIZE TABLE d.t FINAL",
    ] {
        door.run(sql).await;
    }
    assert_eq!(
        door.run("SELECT count(), min(version) FROM d.v WHERE at < '2026-02-01'")
            .await,
        "5\t13"
    );
    assert_eq!(
        door.run("SELECT more.x.y, tags['a'], at FROM d.v WHERE id = 5")
            .await,
        "1\tb\t2026-01-01 00:00:00.123"
    );
    assert_eq!(
        door.run("SELECT windowFunnel(10)(toDateTime(number), number = 1, number = 2), retention(number = 1, number = 2) FROM numbers(5)").await,
        "2\t[1,1]"
    );
}
