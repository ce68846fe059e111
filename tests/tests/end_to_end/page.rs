//! The parents' page, and that of what arrives, in a real browser: families with and without a past, a whole Rivulet behind them, and
//! Playwright's tests in tests/page in front.

use reqwest::Client;
use rivulet_sandbox::tools;
use rivulet_tests::{Rivulet, Role, npm_packages};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::process::Command;
use uuid::Uuid;

const SECRET: &str = "a secret of more than thirty-two bytes, for this test alone";
const AUDIENCE: &str = "parents";

struct Family {
    name: &'static str,
    timezone: &'static str,
    /// Of each child: how many days of history, and every how many days one of them is missing.
    children: &'static [(i32, i32)],
    streaks: bool,
    /// What the app sends for its topics, subjects and badges: as long as it may be, and unbroken.
    is_wordy: bool,
    /// Of those more than a page shows.
    has_many: bool,
}

const fn family(
    name: &'static str,
    timezone: &'static str,
    children: &'static [(i32, i32)],
) -> Family {
    Family {
        name,
        timezone,
        children,
        streaks: true,
        is_wordy: false,
        has_many: false,
    }
}

/// Nobody here lives where the browser is.
const FAMILIES: [Family; 12] = [
    // The first child missed one day of the year: a freeze kept it.
    family(
        "four",
        "Pacific/Auckland",
        &[(366, 1000), (366, 6), (366, 4), (366, 2)],
    ),
    family("moving", "Europe/Rome", &[(0, 1)]),
    family("first", "Asia/Kathmandu", &[(0, 1)]),
    family("new", "Pacific/Pago_Pago", &[(0, 1)]),
    family("spoken", "Europe/Rome", &[(0, 1)]),
    family("none", "Europe/Rome", &[]),
    family("long", "America/St_Johns", &[(3 * 365 + 1, 5)]),
    family("other", "Europe/Rome", &[(60, 7)]),
    family("switching", "Europe/Rome", &[(30, 6)]),
    Family {
        streaks: false,
        ..family("off", "Asia/Kolkata", &[(90, 6)])
    },
    Family {
        is_wordy: true,
        ..family("wordy", "Asia/Jerusalem", &[(366, 4), (366, 2)])
    },
    Family {
        has_many: true,
        ..family("many", "Asia/Jerusalem", &[(20, 4), (366, 2)])
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_and_a_browser() {
    let _turn = crate::turn::of(module_path!());
    const WHAT: &str = "the parents' page";
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let Some(chromium) = tools::program(&browsers) else {
        let why = "there is no Chromium. As root on Debian: apt-get install chromium";
        return tools::missing(WHAT, why);
    };
    let Some(tests) = npm_packages("tests/page", "page-tests").await else {
        let why =
            "npm cannot install what tests/page needs. As root on Debian: apt-get install npm";
        return tools::missing(WHAT, why);
    };
    let env = [
        ("RIVULET_TOKEN_SECRET", SECRET),
        ("RIVULET_TOKEN_AUDIENCE", AUDIENCE),
        ("RIVULET_INSPECT", "on"),
    ];
    let (rivulet, [ingest]) = Rivulet::running(&env, ["ingest"]).await.unwrap();
    let mut families = serde_json::Map::new();
    for family in &FAMILIES {
        families.insert(
            family.name.to_owned(),
            register(&rivulet, &ingest, family).await,
        );
    }
    let [_aggregate] = rivulet.start(["aggregate"]).await.unwrap();
    let inspected = (
        "RIVULET_INSPECT_INGEST",
        format!("http://{}", ingest.address),
    );
    let api = rivulet.start_with("api", &[inspected]).await.unwrap();

    let given = json!({
        "api": api.address, "ingest": ingest.address, "ingest_key": rivulet.ingest_key,
        "admin_key": rivulet.admin_key,
        "secret": SECRET, "audience": AUDIENCE, "families": families,
    });
    let status = Command::new("npx")
        .args(["playwright", "test"])
        .args(std::env::var("RIVULET_PAGE_SPECS").iter())
        .current_dir(&tests)
        .env("CHROMIUM", chromium)
        .env("RIVULET_PAGE_TEST", given.to_string())
        .env("NO_PROXY", "127.0.0.1")
        .status()
        .await
        .unwrap();
    assert!(
        status.success(),
        "what failed is above; pictures of it in {}",
        tests.join("failures").display()
    );
}

/// Makes a family as the product's backend does, with a past that ingest would no longer take.
async fn register(rivulet: &Rivulet, ingest: &Role, family: &Family) -> Value {
    let parent = Uuid::new_v4();
    let mut body = json!({
        "timezone": family.timezone,
        "consents": {"coppa": true, "audio": true, "analytics": true},
    });
    if !family.streaks {
        body["streaks"] = json!(false);
    }
    put(rivulet, ingest, &format!("parents/{parent}"), &body).await;
    let mut children = Vec::new();
    let mut answers = 0;
    for (days, gap) in family.children {
        let child = Uuid::new_v4();
        let body = json!({"parent_id": parent, "age_group": "curious_explorers"});
        put(rivulet, ingest, &format!("children/{child}"), &body).await;
        answers += live(&rivulet.bed.pool, child, family.timezone, *days, *gap).await;
        let names = match (family.is_wordy, family.has_many) {
            (true, _) => &WORDY[..],
            (_, true) => &MANY[..],
            _ => &[],
        };
        for sql in names {
            let done = sqlx::query(*sql).bind(child).execute(&rivulet.bed.pool);
            assert!(done.await.unwrap().rows_affected() > 0, "{sql}");
        }
        children.push(child);
    }
    let token = ["keys", "token", "--parent", &parent.to_string()];
    let today: chrono::NaiveDate = sqlx::query_scalar("SELECT (now() AT TIME ZONE $1)::date")
        .bind(family.timezone)
        .fetch_one(&rivulet.bed.pool)
        .await
        .unwrap();
    json!({
        "parent": parent, "children": children, "today": today, "answers": answers,
        "timezone": family.timezone, "token": rivulet.command(&token).await.unwrap(),
    })
}

async fn put(rivulet: &Rivulet, ingest: &Role, path: &str, body: &Value) {
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client
        .put(format!("http://{}/v1/admin/{path}", ingest.address))
        .bearer_auth(&rivulet.admin_key)
        .header("Content-Type", "application/json")
        .body(body.to_string());
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert!(
        status.is_success(),
        "{status} {}",
        answer.text().await.unwrap()
    );
}

/// A child's rows of `days` days until yesterday, but for the third before today and every `gap`th before
/// that. Returns how many answers there are.
async fn live(pool: &PgPool, child: Uuid, timezone: &str, days: i32, gap: i32) -> i64 {
    let months: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT to_char(day, 'YYYYMM'), to_char(day, 'YYYY-MM-01')
         FROM generate_series(0, $1) n, LATERAL (SELECT (now() AT TIME ZONE $2)::date - n AS day) x",
    )
    .bind(days)
    .bind(timezone)
    .fetch_all(pool)
    .await
    .unwrap();
    // As the aggregator makes them.
    for (name, first) in months {
        for table in ["daily_child_metrics", "learning_analytics"] {
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table}_{name} PARTITION OF {table}
                 FOR VALUES FROM ('{first}') TO ((date '{first}' + interval '1 month')::date)"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .execute(pool)
                .await
                .unwrap();
        }
    }
    for sql in [LEARNING, DAILY, TOPICS, STREAK] {
        sqlx::query(sql)
            .bind(child)
            .bind(timezone)
            .bind(days)
            .bind(gap)
            .execute(pool)
            .await
            .unwrap();
    }
    sqlx::query_scalar(
        "SELECT coalesce(sum(answers), 0)::bigint FROM daily_child_metrics WHERE child_id = $1",
    )
    .bind(child)
    .fetch_one(pool)
    .await
    .unwrap()
}

const LEARNING: &str = "
    INSERT INTO learning_analytics
    SELECT $1, (now() AT TIME ZONE $2)::date - n, subject, a + 3, 1, 1, a, a * (50 + n % 40) / 100, 1, 0, a * 4000, a,
           a * 40000, 0, 0, 0, 0, 0, 0, 0
    FROM generate_series(1, $3) n,
         unnest('{math,reading,nature,general}'::text[]) WITH ORDINALITY AS s (subject, number),
         LATERAL (SELECT 1 + (n * 7 + number * 13) % 9 AS a) x
    WHERE n % $4 <> 3 % $4";

/// Of the day's subjects what they add up to.
const DAILY: &str = "
    INSERT INTO daily_child_metrics
    SELECT $1, local_date, 60, 2, (8 + n * 11 % 35) * 60000, sum(interactions), 4, sum(answers), sum(correct_answers),
           4, 0, 4, sum(response_time_ms), sum(response_time_count), sum(answers) * 10, n % 4,
           n * 5 % 12, n * 5 % 12, n * 3 % 7, 1, n % 9 / 8, n % 50 / 49, 900, 1 + n * 3 % 8,
           4, 900000, 200 + n * 37 % 600, 500 + n * 53 % 900, 40 + n % 60, 30, 90, n % 12, 120,
           '{animals,fractions}', CASE WHEN n % 40 = 1 THEN '{bee-friend}' ELSE '{}' END::text[],
           12, local_date + time '15:00', local_date + time '16:00', 0
    FROM learning_analytics, LATERAL (SELECT (now() AT TIME ZONE $2)::date - local_date AS n) x
    WHERE child_id = $1 AND $3 > 0 AND $4 > 0
    GROUP BY local_date, n";

const TOPICS: &str = "
    INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms, messages,
                                questions_asked, conversations, max_depth, first_seen_at, last_seen_at, withheld_events)
    SELECT $1, topic, 90, 60, 40, 3600000, 30, 12, 8, 6, now() - make_interval(days => $3), now() - interval '1 day', 0
    FROM unnest('{animals,Brüche,bees,colours,forests,fractions,planets,rhythm,rivers,shapes,songs,água}'::text[]) topic
    WHERE $3 > 0 AND $2 <> '' AND $4 > 0";

const STREAK: &str = "
    INSERT INTO streaks
    SELECT $1, s.*, days, 1
    FROM (SELECT range_agg(daterange(local_date, local_date, '[]')) AS days
          FROM daily_child_metrics WHERE child_id = $1 AND $2 <> '' AND $3 > 0 AND $4 > 0) d, streak_of(days) s
    WHERE days IS NOT NULL";

/// Names of a hundred characters without a place to break them, and numbers as wide as they get.
const WORDY: [&str; 4] = [
    "UPDATE learning_analytics SET subject = rpad(subject, 100, 'Wm') WHERE child_id = $1 AND subject <> 'general'",
    "UPDATE topic_progress SET topic = rpad(topic, 100, 'Wm'), answers = 1234567, correct_answers = 1234567
     WHERE child_id = $1",
    // Of some only that they were met: there is no number to show.
    "UPDATE topic_progress SET answers = 0, correct_answers = 0, max_depth = NULL
     WHERE child_id = $1 AND topic > 'b' AND topic < 'p'",
    "UPDATE daily_child_metrics SET active_ms = 86400000, child_words = 1234567, adult_words = 1234567,
            badges = ARRAY[rpad(local_date::text, 100, 'Wm')]
     WHERE child_id = $1 AND (badges <> '{}' OR local_date >= now()::date - 14)",
];

/// All that days name, of which the last is today, more topics than are told by when they were last met, and
/// subjects than are listed.
const MANY: [&str; 4] = [
    "INSERT INTO daily_child_metrics
     SELECT (jsonb_populate_record(d, jsonb_build_object(
                'local_date', (now() AT TIME ZONE 'Asia/Jerusalem')::date))).*
     FROM daily_child_metrics d WHERE child_id = $1 ORDER BY local_date DESC LIMIT 1",
    "UPDATE daily_child_metrics
     SET topics_more = true, topics = ARRAY(SELECT rpad('topic-' || to_char(n, 'FM0000'), 100, 'Wm')
                                            FROM generate_series(1, 256) n),
         badges_more = true, badges = ARRAY(SELECT rpad('badge-' || to_char(n, 'FM0000'), 100, 'Wm')
                                            FROM generate_series(1, 256) n)
     WHERE child_id = $1",
    "INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms, messages,
                                 questions_asked, conversations, first_seen_at, last_seen_at, withheld_events)
     SELECT $1, rpad('topic-' || to_char(n, 'FM0000'), 100, 'Wm'), 9, 9, 7, 60000, 0, 0, 0, now(), now(), 0
     FROM generate_series(1, 2500) n",
    "INSERT INTO learning_analytics
     SELECT $1, (SELECT max(local_date) FROM daily_child_metrics WHERE child_id = $1),
            rpad('subject-' || to_char(n, 'FM0000'), 100, 'Wm'), 9, 1, 1, CASE n WHEN 1234 THEN 5000 ELSE 9 END, 7, 1, 0, 9000,
            9, 60000, 0, 0, 0, 0, 0, 0, 0
     FROM generate_series(1, 2500) n",
];
