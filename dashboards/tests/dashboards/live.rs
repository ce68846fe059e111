//! Live streams on a real PostgreSQL. Commits are told as the aggregator tells them.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use rivulet_events::{ChildId, changes};
use rivulet_registry::keys::{self, Scope};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::common::{Api, Family, insert_day, listener::Stream, make_month, today};

fn days(update: &Value) -> Vec<&str> {
    let days = update["days"].as_array().unwrap();
    days.iter()
        .map(|day| day["local_date"].as_str().unwrap())
        .collect()
}

/// As an aggregator's commit: a day has one event more.
async fn commit(pool: &PgPool, child: Uuid, day: NaiveDate) {
    let mut tx = pool.begin().await.unwrap();
    change(&mut tx, child, day).await;
    tx.commit().await.unwrap();
}

async fn change(conn: &mut PgConnection, child: Uuid, day: NaiveDate) {
    sqlx::query(
        "UPDATE daily_child_metrics SET events = events + 1 WHERE child_id = $1 AND local_date = $2",
    )
    .bind(child)
    .bind(day)
    .execute(&mut *conn)
    .await
    .unwrap();
    for payload in changes::payloads([(ChildId::new(child), day)]) {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(changes::CHANNEL)
            .bind(payload)
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_told_and_nothing_else() {
    let api = Api::start().await;
    let (today, pool) = (today(), &api.bed.pool);
    let yesterday = today - Days::new(1);
    let family = api
        .family(&[today - Days::new(100), yesterday, today])
        .await;
    let other = api.family(&[today]).await;
    let mut stream = Stream::of(&api, &family).await;

    let (first, update) = stream.update().await;
    assert_eq!(update["child_id"], json!(family.child));
    assert_eq!(update["timezone"], "Pacific/Auckland");
    assert_eq!(update["today"], json!(today));
    assert_eq!(days(&update), [yesterday.to_string(), today.to_string()]);
    assert_eq!(update["streak"]["streak_today"], 2);
    let path = format!("/v1/children/{}/daily", family.child);
    let daily = api.json(&family.token, &path).await;
    assert_eq!(update["days"], daily["days"], "as the endpoint has them");

    // Somebody else's, and what was rolled back, are not told; a change is, once.
    commit(pool, other.child, today).await;
    let mut tx = pool.begin().await.unwrap();
    change(&mut tx, family.child, yesterday).await;
    tx.rollback().await.unwrap();
    commit(pool, family.child, today).await;
    let (second, update) = stream.update().await;
    assert_ne!(second, first);
    assert_eq!(days(&update), [today.to_string()]);
    assert_eq!(update["days"][0]["events"], 5);
    // Also of a day long past.
    commit(pool, family.child, today - Days::new(100)).await;
    let (_, update) = stream.update().await;
    assert_eq!(days(&update), [(today - Days::new(100)).to_string()]);

    // A day that a recount takes away, while somebody listens and while nobody does.
    for (day, rest) in [(today - Days::new(100), 2), (yesterday, 1)] {
        let mut tx = pool.begin().await.unwrap();
        let delete = "DELETE FROM daily_child_metrics WHERE child_id = $1 AND local_date = $2";
        let deleted = sqlx::query(delete).bind(family.child).bind(day);
        deleted.execute(&mut *tx).await.unwrap();
        change(&mut tx, family.child, day).await;
        tx.commit().await.unwrap();
        let (id, update) = stream.update().await;
        assert_eq!(update["days"], json!([]));
        assert_eq!(update["empty"], json!([day]));
        let path = format!("/v1/children/{}/live", family.child);
        let mut late = Stream::open(&api, &family.token, &path, Some(&first)).await;
        let (same, update) = late.update().await;
        assert_eq!(same, id);
        let none = update["empty"].as_array().unwrap().contains(&json!(day));
        assert_eq!(
            none,
            day == yesterday,
            "the other is older than what is told at first"
        );
        assert_eq!(days(&update).len(), rest);
    }

    // Many commits, told together or not: the last one counts.
    for _ in 0..50 {
        commit(pool, family.child, today).await;
    }
    loop {
        let (_, update) = stream.update().await;
        if update["days"][0]["events"] == 55 {
            break;
        }
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_hears_what_they_missed() {
    let api = Api::start().await;
    let (today, pool) = (today(), &api.bed.pool);
    let family = api.family(&[today]).await;
    let path = format!("/v1/families/{}/live", family.parent);
    let mut stream = Stream::open(&api, &family.token, &path, None).await;
    let (first, _) = stream.update().await;
    drop(stream);

    // Nothing has changed: nothing is told until something has.
    let mut stream = Stream::open(&api, &family.token, &path, Some(&first)).await;
    commit(pool, family.child, today).await;
    let (second, update) = stream.update().await;
    assert_eq!(update["days"][0]["events"], 5);
    drop(stream);

    // Something had: it is told at once.
    for last in [&first, "nonsense"] {
        let mut stream = Stream::open(&api, &family.token, &path, Some(last)).await;
        let (id, update) = stream.update().await;
        assert_eq!(update["days"][0]["events"], 5);
        assert_eq!(id, second);
    }
    // The connection that hears of commits is lost, and with it a commit.
    let mut stream = Stream::open(&api, &family.token, &path, Some(&second)).await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(
        "UPDATE daily_child_metrics SET events = 100 WHERE child_id = $1 AND local_date = $2",
    )
    .bind(family.child)
    .bind(today)
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE 'LISTEN%rivulet_days%'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(ended, 1);
    let (_, update) = stream.update().await;
    assert_eq!(update["days"][0]["events"], 100);

    // A stop does not wait for listeners.
    api.stop().await;
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_right_to_see_it() {
    let api = Api::start().await;
    let (today, pool) = (today(), &api.bed.pool);
    let [ours, theirs] = [api.family(&[today]).await, api.family(&[today]).await];
    for path in [
        format!("/v1/children/{}/live", theirs.child),
        format!("/v1/families/{}/live", theirs.parent),
        format!("/v1/children/{}/live", Uuid::new_v4()),
    ] {
        assert_eq!(api.refusal(&ours.token, &path).await.0, 404, "{path}");
    }
    let path = format!("/v1/children/{}/live", ours.child);
    assert_eq!(api.refusal("rvk_none", &path).await.0, 401);
    let since = format!("{path}?since=1");
    assert_eq!(api.refusal(&ours.token, &since).await.0, 400);

    // A family that does not want to see streaks.
    let mut stream = Stream::of(&api, &ours).await;
    assert_eq!(stream.update().await.1["streak"]["streak_today"], 1);
    let shown = async |shown: bool| {
        sqlx::query("UPDATE parents SET streaks = $2 WHERE id = $1")
            .bind(ours.parent)
            .bind(shown)
            .execute(pool)
            .await
            .unwrap();
    };
    shown(false).await;
    let (_, update) = stream.update().await;
    assert_eq!(
        (update.get("streak"), &update["days"]),
        (Some(&Value::Null), &json!([]))
    );
    let family = format!("/v1/families/{}", ours.parent);
    let seen = api.json(&ours.token, &family).await;
    assert_eq!(seen["streaks"], false);
    assert_eq!(seen["children"][0]["streak_today"], Value::Null);
    shown(true).await;
    assert_eq!(stream.update().await.1["streak"]["streak_today"], 1);

    // The child moves to another family: its former parent hears nothing more, and nobody of it among that
    // family's children.
    let path = format!("/v1/children/{}/live", ours.child);
    let mut products = Stream::open(&api, &api.key, &path, None).await;
    let (_, update) = products.update().await;
    assert_eq!(update["whole"], true);
    let children = format!("/v1/families/{}/live", ours.parent);
    let mut of_family = Stream::open(&api, &api.key, &children, None).await;
    of_family.update().await;
    sqlx::query("UPDATE children SET parent_id = $2 WHERE id = $1")
        .bind(ours.child)
        .bind(theirs.parent)
        .execute(pool)
        .await
        .unwrap();
    assert!(stream.next().await.is_none());
    assert!(of_family.next().await.is_none());
    assert_eq!(api.refusal(&ours.token, &path).await.0, 404);
    let (_, update) = products.update().await;
    assert_eq!(
        (&update["whole"], days(&update)),
        (&json!(true), vec![today.to_string().as_str()])
    );
    let mut parents = Stream::open(&api, &theirs.token, &path, None).await;
    parents.update().await;

    // A key that is revoked.
    let key = keys::create(pool, "second", Scope::Read).await.unwrap();
    let mut stream = Stream::open(&api, &key, &path, None).await;
    stream.update().await;
    keys::revoke(pool, "second").await.unwrap();
    loop {
        // The revocation may be heard after the commit.
        make_month(pool, today).await;
        commit(pool, ours.child, today).await;
        match stream.next().await {
            Some(_) => {}
            None => break,
        }
    }
    // A child that is deleted.
    insert_day(pool, ours.child, today - Days::new(1)).await;
    sqlx::query("UPDATE children SET deleted_at = now() WHERE id = $1")
        .bind(ours.child)
        .execute(pool)
        .await
        .unwrap();
    for mut stream in [products, parents] {
        while stream.next().await.is_some() {}
    }
    api.stop().await;
}

/// A listener by hand, who has read what it was told so far up to this word.
async fn raw(api: &Api, family: &Family, until: &str) -> (TcpStream, String) {
    let address = api.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /v1/children/{}/live HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\r\n",
        family.child, api.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = String::new();
    read_until(&mut stream, &mut told, until).await;
    (stream, told)
}

/// `false`: the stream has ended before.
async fn read_until(stream: &mut TcpStream, told: &mut String, word: &str) -> bool {
    while !told.contains(word) {
        let mut chunk = [0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut chunk));
        match read.await.expect("nothing was told") {
            Ok(length @ 1..) => told.push_str(&String::from_utf8_lossy(&chunk[..length])),
            _ => return false,
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_sending_goes_on_listening_and_who_is_gone_leaves_their_place() {
    let api = Api::start().await;
    let family = api.family(&[today()]).await;
    let (mut half, mut told) = raw(&api, &family, "event: update").await;
    half.shutdown().await.unwrap();

    // As many as may watch a child, all of whom leave: half of them with something unread.
    let mut others = Vec::new();
    for number in 1..64 {
        let until = if number % 2 == 0 {
            "200 OK"
        } else {
            "event: update"
        };
        others.push(raw(&api, &family, until).await);
    }
    let (mut refused, answer) = raw(&api, &family, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    refused.shutdown().await.unwrap();
    drop(others);
    for attempt in 0.. {
        let (again, answer) = raw(&api, &family, "\r\n\r\n").await;
        drop(again);
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(attempt < 600, "their places are never free");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    commit(&api.bed.pool, family.child, today()).await;
    let word = "\"events\":5";
    assert!(read_until(&mut half, &mut told, word).await, "{told}");
    api.stop().await;
    assert!(!read_until(&mut half, &mut told, "never told").await);
}
