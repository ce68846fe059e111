//! Clients that vanish, doors that are killed, and doors that should not open.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Output,
};

use crate::support::{Door, command};

const EVENTS: &str = "CREATE TABLE events (id UInt64) ENGINE = MergeTree ORDER BY id \
                      SETTINGS non_replicated_deduplication_window = 100";
const INSERT: &str = "POST /?query=INSERT+INTO+events+FORMAT+CSV HTTP/1.1\r\nHost: door\r\n";

#[tokio::test]
async fn an_insert_that_breaks_off_leaves_nothing() {
    let door = Door::open();
    door.run(EVENTS).await;
    for begun in [
        format!("{INSERT}Transfer-Encoding: chunked\r\n\r\n4\r\n1\n2\n\r\n"),
        format!("{INSERT}Content-Length: 1000\r\n\r\n1\n2\n"),
    ] {
        let mut client = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
        client.write_all(begun.as_bytes()).unwrap();
        door.until_running("INSERT%", "1").await;
        drop(client);
        door.until_running("INSERT%", "0").await;
        assert_eq!(door.run("SELECT count() FROM events").await, "0", "{begun}");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_ends_its_query() {
    let door = Door::open();
    let mut client = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    let sql = "SELECT number FROM numbers(1000000000000)";
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    )
    .unwrap();
    client.read_exact(&mut [0; 100_000]).unwrap();
    door.until_running("%1000000000000%", "1").await;
    drop(client);
    door.until_running("%1000000000000%", "0").await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let door = Door::open();
    let mut client = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    let mut ask = |sql: &str| {
        write!(
            client,
            "POST / HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n\r\n{sql}",
            sql.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        let head = String::from_utf8(answer).unwrap();
        let length = head
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .split('\r')
            .next()
            .unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        client.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    };
    for number in 0..3 {
        assert_eq!(ask(&format!("SELECT {number}")), format!("{number}\n"));
        assert!(ask("SELECT missing").starts_with("Code: 47."));
    }
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill() {
    let mut door = Door::open();
    door.run("CREATE DATABASE d").await;
    door.run(&EVENTS.replace("events", "d.events")).await;
    for round in 1..=3 {
        let url = format!(
            "?database=d&query=INSERT+INTO+events+FORMAT+CSV&insert_deduplication_token={round}"
        );
        assert_eq!(door.post(&url, format!("{round}\n")).await.status, 200);
        // Killed while an INSERT is on its way.
        let mut client = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
        let begun = INSERT.replace("?", "?database=d&");
        write!(client, "{begun}Content-Length: 1000\r\n\r\n1\n").unwrap();
        door.until_running("INSERT%", "1").await;
        door = door.kill_and_reopen();
        assert_eq!(
            door.run("SELECT groupArray(id) FROM (SELECT id FROM d.events ORDER BY id)")
                .await,
            format!(
                "[{}]",
                (1..=round)
                    .map(|id| id.to_string())
                    .collect::<Vec<_>>()
                    .join(",")
            )
        );
        // The tokens are remembered too.
        assert_eq!(door.post(&url, format!("{round}\n")).await.status, 200);
        assert_eq!(
            door.run("SELECT count() FROM d.events").await,
            round.to_string()
        );
    }
}

#[tokio::test]
async fn it_ends_after_what_is_running() {
    for signal in ["-TERM", "-INT"] {
        let mut door = Door::open();
        let long = door.post(
            "",
            "SELECT sleepEachRow(1) FROM numbers(2) SETTINGS max_block_size = 1",
        );
        let ending = async {
            door.until_running("%sleepEachRow%", "1").await;
            door.signal(signal);
        };
        let (answer, ()) = tokio::join!(long, ending);
        assert_eq!(answer.text(), "0\n0\n");
        assert_eq!(door.wait().code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_query_without_end_does_not_keep_it() {
    let mut door = Door::open();
    let mut client = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    let sql = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1";
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    )
    .unwrap();
    door.until_running("%sipHash64%", "1").await;
    door.signal("-TERM");
    assert_eq!(door.wait().code(), Some(0));
}

fn refused(output: &Output, why: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains(why),
        "{output:?}"
    );
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[tokio::test]
async fn it_does_not_open_where_it_should_not() {
    let door = Door::open();
    let free = tempfile::TempDir::new().unwrap();
    refused(
        &command(free.path(), "0.0.0.0:0").output().unwrap(),
        "loopback",
    );
    refused(
        &command(door.data.path(), "127.0.0.1:0").output().unwrap(),
        "another process",
    );
    refused(
        &command(free.path(), &format!("127.0.0.1:{}", door.port))
            .output()
            .unwrap(),
        "cannot listen",
    );
}
