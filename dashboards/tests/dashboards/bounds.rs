//! However much there is of a child: what is answered is bounded, what is read for it too, and page after page
//! is all of it.

use std::{collections::BTreeSet, time::Duration};

use chrono::{Days, NaiveDate};
use rivulet_dashboards::Config;
use rivulet_events::{ChildId, changes};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::common::{Api, insert_day, listener::Stream, make_month, today};

/// Of rows in one answer.
const BYTES: usize = 512 << 10;
/// Of what is beside them.
const FRAME: usize = 1_000;

/// All that is answered, page by page: each with its bytes, as it is told once `meanwhile` was done after the
/// first.
async fn pages(
    api: &Api,
    credential: &str,
    path: &str,
    meanwhile: impl AsyncFnOnce(),
) -> Vec<(Value, usize)> {
    let mut pages = Vec::new();
    let mut meanwhile = Some(meanwhile);
    let mut page = path.to_owned();
    loop {
        let answer = api.get(credential, &page).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 200, "{page}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let next = answer["next"].as_str().map(str::to_owned);
        pages.push((answer, text.len()));
        if let Some(meanwhile) = meanwhile.take() {
            meanwhile().await;
        }
        let Some(next) = next else { return pages };
        let more = if path.contains('?') { '&' } else { '?' };
        page = format!("{path}{more}after={next}");
        assert!(pages.len() < 100, "it never ends");
    }
}

fn rows(pages: &[(Value, usize)], rows: &str) -> Vec<Value> {
    let of = |(page, _): &(Value, usize)| page[rows].as_array().unwrap().clone();
    pages.iter().flat_map(of).collect()
}

async fn run(pool: &PgPool, sql: &str, child: Uuid, count: i32) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let done = sqlx::query(sql).bind(child).bind(count).execute(pool).await;
    assert!(done.unwrap().rows_affected() > 0);
}

/// As long as they may be, in JSON too: none of them is a letter of one byte.
const FULL_SETS: &str = "
    UPDATE daily_child_metrics SET topics_more = true, badges_more = true,
        topics = ARRAY(SELECT lpad(n::text, 3, '0') || repeat(chr(1), 48) || repeat('😀', 49)
                       FROM generate_series(1, 256) n),
        badges = ARRAY(SELECT lpad(n::text, 3, '0') || md5(n::text || local_date) || repeat('ü', 65)
                       FROM generate_series(1, 256) n)
    WHERE child_id = $1 AND local_date > '2026-03-01'::date - $2";

const TOPICS: &str = "
    INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms, messages,
        questions_asked, conversations, first_seen_at, last_seen_at, withheld_events)
    SELECT $1, md5(n::text) || repeat('😀', n % 68), n, n, n / 2, 120000, 0, 0, 0, now(),
           now() - make_interval(secs => n / 3), 0
    FROM generate_series(1, $2) n";

/// On four days, of two weeks and of two months.
const SUBJECTS: &str = "
    INSERT INTO learning_analytics
    SELECT $1, day, md5((n % 900)::text) || repeat('\"', n % 60) || n / 900, 3 + n % 5, 2, 1, 3, 2, 0, n % 2, 3000, 3,
           120000, 4, 1, 4, n % 2, 0, 0, 0
    FROM unnest('{2026-02-25,2026-02-28,2026-03-01,2026-03-02}'::date[]) WITH ORDINALITY AS d (day, number),
         generate_series(1, $2) n
    WHERE n % number = 0";

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn days_come_in_pages_and_a_usual_year_in_one() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    let days: Vec<_> = day("2025-03-01").iter_days().take(366).collect();
    let family = api.family(&days).await;
    let path = format!(
        "/v1/children/{}/daily?from=2025-03-01&to=2026-03-01",
        family.child
    );
    let dates = |pages: &[(Value, usize)]| -> Vec<NaiveDate> {
        let date = |row: &Value| serde_json::from_value(row["local_date"].clone()).unwrap();
        rows(pages, "days").iter().map(date).collect()
    };
    let year = pages(&api, &api.key, &path, async || ()).await;
    assert_eq!(year.len(), 1, "a usual year");
    assert_eq!(dates(&year), days);

    // The last thirty days name as much as days can.
    run(pool, FULL_SETS, family.child, 30).await;
    for credential in [&api.key, &family.token] {
        let full = pages(&api, credential, &path, async || ()).await;
        assert!(full.len() > 10, "{}", full.len());
        for (page, bytes) in &full {
            assert!(*bytes <= BYTES + FRAME, "{bytes}");
            assert!(!page["days"].as_array().unwrap().is_empty());
        }
        assert_eq!(dates(&full), days, "each day once");
        let last = rows(&full, "days").pop().unwrap();
        assert_eq!(last["topics"].as_array().unwrap().len(), 256);
        assert_eq!(last["topics_more"], true);
    }

    // What is written meanwhile is told where it is still to come, and no row comes twice.
    let gone = day("2026-02-28");
    let changed = pages(&api, &api.key, &path, async || {
        sqlx::query("DELETE FROM daily_child_metrics WHERE child_id = $1 AND local_date = $2")
            .bind(family.child)
            .bind(gone)
            .execute(pool)
            .await
            .unwrap();
        sqlx::query("UPDATE daily_child_metrics SET events = 77 WHERE child_id = $1 AND local_date = '2026-03-01'")
            .bind(family.child)
            .execute(pool)
            .await
            .unwrap();
    })
    .await;
    let left: Vec<_> = days.into_iter().filter(|day| *day != gone).collect();
    assert_eq!(dates(&changed), left);
    assert_eq!(rows(&changed, "days").pop().unwrap()["events"], 77);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_come_in_pages_the_latest_first_while_they_can_be_sorted() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    let family = api.family(&[]).await;
    let path = format!("/v1/children/{}/topics", family.child);
    let names = |pages: &[(Value, usize)]| -> Vec<String> {
        let name = |row: &Value| row["topic"].as_str().unwrap().to_owned();
        rows(pages, "topics").iter().map(name).collect()
    };
    let in_order = async |order: &str| -> Vec<String> {
        let sql = format!("SELECT topic FROM topic_progress WHERE child_id = $1 ORDER BY {order}");
        let names = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(family.child);
        names.fetch_all(pool).await.unwrap()
    };
    let is_bounded = |pages: &[(Value, usize)]| {
        for (page, bytes) in pages {
            assert!(*bytes <= 190_000 + FRAME, "{bytes}");
            let rows = page["topics"].as_array().unwrap().len();
            assert!((1..=500).contains(&rows));
            assert_eq!(page["more"], !page["next"].is_null());
        }
    };

    run(pool, TOPICS, family.child, 1_500).await;
    let latest = in_order("last_seen_at DESC, topic").await;
    for credential in [&api.key, &family.token] {
        let all = pages(&api, credential, &path, async || ()).await;
        is_bounded(&all);
        assert_eq!(
            (&all[0].0["order"], &all[0].0["total"]),
            (&json!("latest"), &json!(1_500))
        );
        assert_eq!(names(&all), latest);
    }
    // One that was told already is met again: it does not come twice, and the others come.
    let all = pages(&api, &api.key, &path, async || {
        run(
            pool,
            "UPDATE topic_progress SET last_seen_at = now() WHERE child_id = $1 AND interactions = $2",
            family.child,
            7,
        )
        .await;
    })
    .await;
    assert_eq!(names(&all), latest);

    // Another five hundred and more, and they are told by name: who was at the latest begins anew.
    let first = api.json(&api.key, &path).await;
    run(pool, &TOPICS.replace("(1,", "(1501,"), family.child, 3_000).await;
    let next = format!("{path}?after={}", first["next"].as_str().unwrap());
    let refused = api.refusal(&api.key, &next).await;
    assert_eq!(refused, (400, "invalid_parameter".to_owned()));
    for credential in [&api.key, &family.token] {
        let all = pages(&api, credential, &path, async || ()).await;
        is_bounded(&all);
        assert_eq!(
            (&all[0].0["order"], &all[0].0["total"]),
            (&json!("topic"), &Value::Null)
        );
        assert_eq!(names(&all), in_order("topic").await);
    }
    // What is met for the first time meanwhile comes where it is still to come.
    let all = pages(&api, &api.key, &path, async || {
        let new = "'{!,~}'::text[])[n]";
        let sql = TOPICS.replace("md5(n::text) || repeat('😀', n % 68)", &format!("({new}"));
        run(pool, &sql, family.child, 2).await;
    })
    .await;
    let mut by_name = in_order("topic").await;
    assert_eq!(by_name.remove(0), "!");
    assert_eq!(by_name.last().unwrap(), "~");
    assert_eq!(names(&all), by_name);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn learning_comes_in_pages_that_are_the_view() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    for month in ["2026-02-01", "2026-03-01"] {
        make_month(pool, day(month)).await;
    }
    let family = api.family(&[]).await;
    let path = format!("/v1/children/{}/learning", family.child);
    run(pool, SUBJECTS, family.child, 1_500).await;
    for period in ["daily", "weekly", "monthly"] {
        let path = format!("{path}?from=2026-02-26&to=2026-03-02&period={period}");
        // By the database's own view, of every period that one of the days is in.
        let expected: Vec<Value> = sqlx::query_scalar(
            "SELECT to_jsonb(m) - 'child_id' - 'period' FROM learning_metrics m
             WHERE child_id = $1 AND period = $2
                 AND period_start BETWEEN CASE period WHEN 'monthly' THEN '2026-02-01'::date
                     WHEN 'weekly' THEN '2026-02-23' ELSE '2026-02-26' END AND '2026-03-02'
             ORDER BY period_start, subject, metric_type COLLATE \"C\"",
        )
        .bind(family.child)
        .bind(period)
        .fetch_all(pool)
        .await
        .unwrap();
        assert!(expected.len() > 6_000, "{}", expected.len());
        for credential in [&api.key, &family.token] {
            let all = pages(&api, credential, &path, async || ()).await;
            for (_, bytes) in &all {
                assert!(*bytes <= BYTES + FRAME, "{bytes}");
            }
            let told = rows(&all, "metrics");
            assert_eq!(told.len(), expected.len(), "{period}");
            for (told, expected) in told.iter().zip(&expected) {
                for (column, value) in told.as_object().unwrap() {
                    // A whole number is written in two ways.
                    let expected = &expected[column];
                    let is_number = value
                        .as_f64()
                        .is_some_and(|value| Some(value) == expected.as_f64());
                    assert!(value == expected || is_number, "{told} {expected}");
                }
            }
            let ends: Vec<_> = all.iter().map(|(page, _)| &page["metrics"]).collect();
            for two in ends.windows(2) {
                let key =
                    |metric: &Value| (metric["period_start"].clone(), metric["subject"].clone());
                let [one, other] = two else { continue };
                assert!(key(one.as_array().unwrap().last().unwrap()) != key(&other[0]));
            }
        }
    }
    // A subject that is new comes where it is still to come, and a page's place holds though its row is gone.
    let path = format!("{path}?from=2026-02-25&to=2026-02-25");
    let subjects = |pages: &[(Value, usize)]| -> Vec<String> {
        let subject = |row: &Value| row["subject"].as_str().unwrap().to_owned();
        let mut subjects: Vec<_> = rows(pages, "metrics").iter().map(subject).collect();
        subjects.dedup();
        subjects
    };
    let before = subjects(&pages(&api, &api.key, &path, async || ()).await);
    let after = subjects(
        &pages(&api, &api.key, &path, async || {
            run(
                pool,
                "UPDATE learning_analytics SET subject = '~' WHERE child_id = $1 AND local_date = '2026-02-25'
                 AND subject = (SELECT subject FROM learning_analytics WHERE child_id = $1
                     AND local_date = '2026-02-25' AND $2 > 0 ORDER BY subject DESC LIMIT 1)",
                family.child,
                1,
            )
            .await;
        })
        .await,
    );
    assert_eq!(after.last().unwrap(), "~");
    assert_eq!(after[..after.len() - 1], before[..before.len() - 1]);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_family_comes_in_pages() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    let now = today();
    let family = api.family(&[now - Days::new(7), now]).await;
    sqlx::query(
        "INSERT INTO children (id, parent_id, age_group, created_at)
         SELECT gen_random_uuid(), $1, 'wonder_cubs', now() + make_interval(secs => n / 10)
         FROM generate_series(1, 230) n",
    )
    .bind(family.parent)
    .execute(pool)
    .await
    .unwrap();
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM children WHERE parent_id = $1 ORDER BY created_at, id")
            .bind(family.parent)
            .fetch_all(pool)
            .await
            .unwrap();
    // Every tenth names as much as it can.
    for child in ids.iter().skip(3).step_by(10) {
        for day in [now - Days::new(7), now] {
            insert_day(pool, *child, day).await;
        }
        run(
            pool,
            &FULL_SETS.replace("'2026-03-01'::date", "now()::date"),
            *child,
            30,
        )
        .await;
    }
    let path = format!("/v1/families/{}", family.parent);
    for credential in [&api.key, &family.token] {
        let all = pages(&api, credential, &path, async || ()).await;
        assert!(all.len() > 10, "{}", all.len());
        for (page, bytes) in &all {
            let children = page["children"].as_array().unwrap();
            assert!((1..=100).contains(&children.len()));
            assert!(*bytes <= BYTES + FRAME || children.len() == 1, "{bytes}");
        }
        let seen: Vec<Uuid> = rows(&all, "children")
            .iter()
            .map(|child| serde_json::from_value(child["child_id"].clone()).unwrap())
            .collect();
        assert_eq!(seen, ids);
        let full = &rows(&all, "children")[3];
        assert_eq!(full["this_week"]["topics"].as_array().unwrap().len(), 256);
        assert_eq!(full["this_week"]["topics_more"], true);
        assert_eq!(full["streak_today"], 1);
        assert_eq!(rows(&all, "children")[4]["last_week"], Value::Null);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_no_answer_named_is_refused() {
    let api = Api::start().await;
    let family = api.family(&[today()]).await;
    let other = api.family(&[]).await;
    let child = format!("/v1/children/{}", family.child);
    run(&api.bed.pool, TOPICS, family.child, 600).await;
    let topics = api.json(&api.key, &format!("{child}/topics")).await;
    let next = topics["next"].as_str().unwrap().to_owned();
    let paths = [
        format!("{child}/daily"),
        format!("{child}/learning"),
        format!("{child}/topics"),
        format!("/v1/families/{}", family.parent),
    ];
    let invalid = (400, "invalid_parameter".to_owned());
    for path in &paths {
        // {"topic":"\u0000"} and {"day":"0000-01-01"}.
        for after in [
            "",
            "x",
            "e30",
            "%FF",
            "eyJ0b3BpYyI6Ilx1MDAwMCJ9",
            "eyJkYXkiOiIwMDAwLTAxLTAxIn0",
        ] {
            let refused = api
                .refusal(&api.key, &format!("{path}?after={after}"))
                .await;
            assert_eq!(refused, invalid, "{path} {after}");
        }
        let foreign = format!("{path}?after={next}");
        match path.ends_with("topics") {
            true => drop(api.json(&family.token, &foreign).await),
            false => assert_eq!(
                api.refusal(&family.token, &foreign).await,
                invalid,
                "{path}"
            ),
        }
        // Nor does a place open what is somebody else's.
        let (status, _) = api.refusal(&other.token, &foreign).await;
        assert!([400, 404].contains(&status), "{path}: {status}");
        assert_eq!(api.refusal("rvk_none", &foreign).await.0, 401, "{path}");
    }
    let streak = format!("{child}/streak?after={next}");
    assert_eq!(api.refusal(&api.key, &streak).await, invalid);
    api.stop().await;
}

/// Rows of the tables of that name that PostgreSQL has read for others than this test.
async fn read(pool: &PgPool, table: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables
         WHERE relname LIKE $1 || '%'",
    )
    .bind(table)
    .fetch_one(pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_the_same_however_much_there_is() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    for month in ["2026-02-01", "2026-03-01"] {
        make_month(pool, day(month)).await;
    }
    let family = api.family(&[]).await;
    run(pool, TOPICS, family.child, 40_000).await;
    run(
        pool,
        &SUBJECTS.replace("% 900", "% 90000"),
        family.child,
        40_000,
    )
    .await;
    let child = format!("/v1/children/{}", family.child);
    for (table, path, most) in [
        // Two thousand and one to count, and five hundred and one of each of the two pages.
        ("topic_progress", format!("{child}/topics"), 6_000),
        // Five hundred and one of each day, and of the next page after that.
        (
            "learning_analytics",
            format!("{child}/learning?period=monthly&from=2026-02-01&to=2026-03-31"),
            5_000,
        ),
    ] {
        let mut before = read(pool, table).await;
        // What inserting read comes late to the statistics too.
        loop {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            sqlx::query("SELECT 1").execute(pool).await.unwrap();
            let now = read(pool, table).await;
            if now == before {
                break;
            }
            before = now;
        }
        let first = api.json(&family.token, &path).await;
        let more = if path.contains('?') { '&' } else { '?' };
        let next = first["next"].as_str().unwrap();
        api.json(&family.token, &format!("{path}{more}after={next}"))
            .await;
        // Told by whichever connection it was, with its next transaction.
        let mut rows = 0;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            api.json(&api.key, &format!("{child}/streak")).await;
            let now = read(pool, table).await - before;
            if now > 0 && now == rows {
                break;
            }
            rows = now;
        }
        assert!((1..=most).contains(&rows), "{table}: {rows} rows read");
    }
    api.stop().await;
}

/// Queries of the role that wait for a table.
async fn waiting(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_the_database_work_long_waits_for_themselves() {
    let api = Api::with(Config {
        token_rate: 1_000,
        ..Config::default()
    })
    .await;
    let [greedy, other] = [api.family(&[today()]).await, api.family(&[today()]).await];
    // A query that takes for ever.
    let mut lock = api.bed.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE topic_progress IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let slow = format!("{}/v1/children/{}/topics", api.url, greedy.child);
    let ask = || api.client.get(&slow).bearer_auth(&greedy.token).send();
    let asked: Vec<_> = (0..8).map(|_| tokio::spawn(ask())).collect();
    // And one who asks and does not wait for the answer.
    let gone = tokio::spawn(ask());
    while waiting(&api.bed.pool).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gone.abort();
    for _ in 0..20 {
        let daily = format!("/v1/children/{}/daily", other.child);
        api.json(&other.token, &daily).await;
        api.json(&api.key, &daily).await;
        // Of the pool's three.
        assert!(waiting(&api.bed.pool).await <= 1);
    }
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "unavailable");
    }
    lock.rollback().await.unwrap();
    let topics = format!("/v1/children/{}/topics", greedy.child);
    let answer = api.json(&greedy.token, &topics).await;
    assert_eq!(answer["total"], 1);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reads_of_wordy_days_what_it_tells_and_in_the_end_tells_all() {
    let api = Api::start().await;
    let pool = &api.bed.pool;
    // Too old for whoever comes.
    let old: BTreeSet<NaiveDate> = (40..50).map(|ago| today() - Days::new(ago)).collect();
    let days: Vec<_> = old.iter().copied().chain([today()]).collect();
    let family = api.family(&days).await;
    let wordy = "UPDATE daily_child_metrics SET events = events + $2, badges = topics,
                     topics = ARRAY(SELECT md5(n::text || local_date) || repeat('ü', 68) FROM generate_series(1, 256) n)
                 WHERE child_id = $1";
    run(pool, wordy, family.child, 1).await;
    run(pool, wordy, family.child, 1).await;
    let read: i64 = sqlx::query_scalar("SELECT count(*) FROM newest_days_within($1, $2, 196608)")
        .bind(family.child)
        .bind(&days)
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(
        read, 4,
        "two of 86 kB fit, or so it seems of three; and one more"
    );

    let mut stream = Stream::of(&api, &family).await;
    let (_, update) = stream.update().await;
    assert_eq!(update["days"].as_array().unwrap().len(), 1);
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("UPDATE daily_child_metrics SET events = 77 WHERE child_id = $1")
        .bind(family.child)
        .execute(&mut *tx)
        .await
        .unwrap();
    let child = ChildId::new(family.child);
    for payload in changes::payloads(days.iter().map(|day| (child, *day))) {
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(changes::CHANNEL);
        notify.bind(payload).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut told = BTreeSet::new();
    while !told.is_superset(&old) {
        let (_, update) = stream.update().await;
        assert_eq!(update["empty"], json!([]));
        for row in update["days"].as_array().unwrap() {
            assert_eq!(row["events"], 77);
            told.insert(row["local_date"].as_str().unwrap().parse().unwrap());
        }
    }
    api.stop().await;
}
