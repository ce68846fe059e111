//! The read API on a real PostgreSQL.

use std::collections::BTreeSet;

use chrono::{Datelike as _, Days, NaiveDate};
use reqwest::StatusCode;
use rivulet_dashboards::Config;
use rivulet_registry::keys::{self, Scope};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Api, Family, PARTS_OF_SPEECH, insert_day, make_month, today};

fn monday(day: NaiveDate) -> NaiveDate {
    day - Days::new(day.weekday().num_days_from_monday().into())
}

fn paths(family: &Family) -> [String; 5] {
    let child = format!("/v1/children/{}", family.child);
    [
        format!("{child}/daily"),
        format!("{child}/learning"),
        format!("{child}/streak"),
        format!("{child}/topics"),
        format!("/v1/families/{}", family.parent),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_rows_of_the_days_asked_for() {
    let api = Api::start().await;
    let today = today();
    let yesterday = today - Days::new(1);
    let long_ago = today - Days::new(200);
    let family = api.family(&[long_ago, yesterday, today]).await;
    let child = format!("/v1/children/{}", family.child);

    let daily = api.json(&api.key, &format!("{child}/daily")).await;
    assert_eq!(daily["timezone"], "Pacific/Auckland");
    assert_eq!(daily["to"], json!(today));
    let days = daily["days"].as_array().unwrap();
    assert_eq!(days.len(), 2, "the last thirty days");
    assert_eq!(days[0]["local_date"], json!(yesterday));
    let expected = [
        ("events", json!(4)),
        ("correct_answers", json!(2)),
        ("max_depth", Value::Null),
        ("topics", json!(["fractions"])),
        ("withheld_events", json!(0)),
    ];
    for (column, value) in expected {
        assert_eq!(days[1][column], value, "{column}");
    }
    let columns: BTreeSet<String> = sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns
         WHERE table_name = 'daily_child_metrics' AND column_name <> 'child_id' AND column_name <> ALL($1)",
    )
    .bind(PARTS_OF_SPEECH)
    .fetch_all(&api.bed.pool)
    .await
    .unwrap()
    .into_iter()
    .collect();
    let given: BTreeSet<String> = days[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(given, columns);
    let path = format!("{child}/daily?from={long_ago}&to={long_ago}");
    let then = api.json(&api.key, &path).await;
    assert_eq!(then["days"].as_array().unwrap().len(), 1);

    let path = format!("{child}/learning?period=weekly&from={today}");
    let weekly = api.json(&api.key, &path).await;
    let accuracy: Vec<_> = weekly["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|metric| metric["metric_type"] == "accuracy")
        .collect();
    assert_eq!(accuracy.len(), 1, "{weekly}");
    assert_eq!(accuracy[0]["metric_value"], json!(2.0 / 3.0));
    assert_eq!(accuracy[0]["subject"], "math");

    let streak = api.json(&api.key, &format!("{child}/streak")).await;
    assert_eq!(streak["streak_today"], 2);
    assert_eq!(
        streak["active_days"],
        json!([{"from": long_ago, "to": long_ago}, {"from": yesterday, "to": today}])
    );

    let topics = api.json(&api.key, &format!("{child}/topics")).await;
    assert_eq!(topics["topics"].as_array().unwrap().len(), 3);
    assert_eq!(topics["topics"][0]["mastery_score"], json!(60.0));
    assert_eq!(topics["more"], false);

    let path = format!("/v1/families/{}", family.parent);
    let seen = api.json(&api.key, &path).await;
    assert_eq!(seen["children"][0]["child_id"], json!(family.child));
    assert_eq!(seen["children"][0]["streak_today"], 2);
    let this_week = if monday(today) == today { 1 } else { 2 };
    assert_eq!(seen["children"][0]["this_week"]["active_days"], this_week);

    // A child of whom nothing is known yet.
    let new = api.family(&[]).await;
    let child = format!("/v1/children/{}", new.child);
    assert_eq!(
        api.json(&api.key, &format!("{child}/daily")).await["days"],
        json!([])
    );
    let streak = api.json(&api.key, &format!("{child}/streak")).await;
    assert_eq!(
        (&streak["streak_today"], &streak["active_days"]),
        (&json!(0), &json!([]))
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_sees_their_own_children_and_nothing_else() {
    let api = Api::start().await;
    let [ours, theirs] = [api.family(&[today()]).await, api.family(&[today()]).await];
    // In turn, on the same connections.
    for _ in 0..3 {
        for (seer, other) in [(&ours, &theirs), (&theirs, &ours)] {
            for path in paths(seer) {
                let seen = api.json(&seer.token, &path).await.to_string();
                assert!(seen.contains(&seer.child.to_string()), "{seen}");
                assert!(!seen.contains(&other.child.to_string()), "{seen}");
            }
            for path in paths(other) {
                let refused = api.refusal(&seer.token, &path).await;
                assert_eq!(refused, (404, "not_found".to_owned()), "{path}");
            }
        }
    }
    // What a connection is left with: what one has that no parent ever used.
    let login = "rivulet_api".to_owned();
    for _ in 0..4 {
        let left: (String, Option<String>) = sqlx::query_as(
            "SELECT current_user::text, nullif(current_setting('rivulet.parent_id', true), '')",
        )
        .fetch_one(&api.pool)
        .await
        .unwrap();
        assert_eq!(left, (login.clone(), None));
    }
    // PostgreSQL's own word, whatever the handlers ask.
    for table in [
        "daily_child_metrics",
        "learning_analytics",
        "learning_metrics",
        "topic_progress",
        "streaks",
        "weekly_summaries",
    ] {
        let mut tx = api.pool.begin().await.unwrap();
        sqlx::query("SELECT set_config('rivulet.parent_id', $1, true), set_config('role', 'rivulet_parent', true)")
            .bind(ours.parent.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let sql = format!("SELECT DISTINCT child_id FROM {table}");
        let seen: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut *tx)
            .await
            .unwrap();
        assert_eq!(seen, [ours.child], "{table}");
    }
    // Whoever left is gone for everybody.
    sqlx::query("UPDATE children SET deleted_at = now() WHERE id = $1")
        .bind(ours.child)
        .execute(&api.bed.pool)
        .await
        .unwrap();
    for credential in [&api.key, &ours.token] {
        assert_eq!(api.refusal(credential, &paths(&ours)[0]).await.0, 404);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_or_asks_for_nonsense_is_told() {
    let api = Api::start().await;
    let family = api.family(&[]).await;
    let [daily, ..] = paths(&family);
    let ingest = keys::create(&api.bed.pool, "sdk", Scope::Ingest)
        .await
        .unwrap();
    let code = |code: &str| code.to_owned();
    assert_eq!(
        api.refusal("rvk_none", &daily).await,
        (401, code("unauthorized"))
    );
    assert_eq!(
        api.refusal("a.b.c", &daily).await,
        (401, code("unauthorized"))
    );
    assert_eq!(api.refusal(&ingest, &daily).await, (403, code("forbidden")));
    let unsigned = api.client.get(format!("{}{daily}", api.url)).send().await;
    let unsigned = unsigned.unwrap();
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
    assert!(unsigned.headers().contains_key("www-authenticate"));
    // Who asks is asked first, whatever is wrong besides.
    for path in [
        &format!("{daily}?from=x"),
        &format!("{daily}?to=-5000-01-01"),
        &format!("/v1/families/{}/live?since=1", family.parent),
        "/v1/children/%FF/daily",
        "/v1/children/%FF/live",
        "/v1/families/%FF",
        "/v1/%FF",
        "/v1/children",
    ] {
        let refused = api.refusal("rvk_none", path).await;
        assert_eq!(refused, (401, code("unauthorized")), "{path}");
    }
    for query in [
        "to=-5000-01-01",
        "from=-5000-01-01&to=-5000-01-02",
        "from=0000-12-31",
        "from=0000-01-01&to=0001-01-01",
        "to=%2B10000-01-01",
        "to=%2B262142-12-31",
        "to=-262143-01-01",
        "to=%2B5874898-01-01",
        "to=99999999999999999999-01-01",
        "to=%FF",
        "from=2026-01-01&from=2026-01-02",
        "from=2026-02-30",
        "from=2026-03-01&to=2026-02-01",
        "from=2024-01-01&to=2025-06-01",
        "since=2026-01-01",
    ] {
        let refused = api.refusal(&api.key, &format!("{daily}?{query}")).await;
        assert_eq!(refused, (400, code("invalid_parameter")), "{query}");
    }
    // The first and the last days that there are.
    for query in [
        "from=0001-01-01&to=0001-01-01",
        "to=0001-01-01",
        "to=9999-12-31",
    ] {
        for path in &paths(&family)[..2] {
            let path = format!("{path}?{query}");
            api.json(&api.key, &path).await;
            for period in ["weekly", "monthly"] {
                if path.contains("learning") {
                    api.json(&api.key, &format!("{path}&period={period}")).await;
                }
            }
        }
    }
    let learning = &paths(&family)[1];
    for query in ["to=-5000-01-01", "period=monthly&to=0000-06-01"] {
        let refused = api.refusal(&api.key, &format!("{learning}?{query}")).await;
        assert_eq!(refused, (400, code("invalid_parameter")), "{query}");
    }
    let refused = api
        .refusal(&api.key, &format!("{learning}?period=yearly"))
        .await;
    assert_eq!(refused.0, 400);
    for path in [
        "/v1/children/7/daily",
        "/v1/children/%FF/daily",
        "/v1/children/%C3%28/live",
        "/v1/families/x",
        "/v1/families/%FF/live",
        "/v1/children",
        "/v1/%FF",
        "/page/none.js",
        "/page/%FF",
        "/docs/%FF",
        "/%FF",
    ] {
        assert_eq!(
            api.refusal(&api.key, path).await,
            (404, code("not_found")),
            "{path}"
        );
    }
    for (path, credential, status, known_as) in [
        (&daily, &api.key, 405, "method_not_allowed"),
        (&daily, &ingest, 403, "forbidden"),
        (&daily, &"".to_owned(), 401, "unauthorized"),
        (
            &"/page/page.js".to_owned(),
            &"".to_owned(),
            405,
            "method_not_allowed",
        ),
    ] {
        let posted = api
            .client
            .post(format!("{}{path}", api.url))
            .bearer_auth(credential);
        let posted = posted.send().await.unwrap();
        assert_eq!(posted.status(), status, "{path}");
        assert_eq!(posted.headers()["content-type"], "application/problem+json");
        if status == 405 {
            assert!(posted.headers().contains_key("allow"), "{path}");
        }
        let problem: Value = posted.json().await.unwrap();
        assert_eq!(problem["code"], known_as, "{path}");
    }

    // The same again costs nothing; a change shows.
    let answer = api.get(&api.key, &daily).await;
    let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["cache-control"], "private, no-cache");
    let with = async |tag: &str| {
        let request = api.client.get(format!("{}{daily}", api.url));
        let request = request.bearer_auth(&api.key).header("if-none-match", tag);
        request.send().await.unwrap()
    };
    let again = async || with(&tag).await;
    let strong = tag.trim_start_matches("W/");
    assert_ne!(tag, strong, "a weak one");
    for same in [
        &tag,
        strong,
        "*",
        &format!("\"x\", {strong}"),
        &format!("W/\"x\",{tag}"),
    ] {
        let same = with(same).await;
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(same.headers()["etag"], tag.as_str());
        assert_eq!(same.bytes().await.unwrap().len(), 0);
    }
    for other in ["\"x\"", strong.trim_matches('"'), ""] {
        assert_eq!(with(other).await.status(), StatusCode::OK, "{other}");
    }
    make_month(&api.bed.pool, today()).await;
    insert_day(&api.bed.pool, family.child, today()).await;
    assert_eq!(again().await.status(), StatusCode::OK);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_much_is_told_when_to_come_back() {
    let api = Api::with(Config {
        token_rate: 1,
        ..Config::default()
    })
    .await;
    let [greedy, other] = [api.family(&[]).await, api.family(&[]).await];
    let [daily, ..] = paths(&greedy);
    let answers = async || api.get(&greedy.token, &daily).await;
    let mut refused = answers().await;
    for _ in 0..100 {
        if refused.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        refused = answers().await;
    }
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(wait >= 1);
    assert_eq!(refused.headers()["ratelimit-limit"], "10");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "rate_limited");
    // Nobody else is held up, the product neither.
    api.json(&other.token, &paths(&other)[0]).await;
    api.json(&api.key, &daily).await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_with_what_it_needs_and_compressed() {
    let api = Api::start().await;
    let page = async |path: &str, header: (&str, &str)| {
        let request = api.client.get(format!("{}{path}", api.url));
        request.header(header.0, header.1).send().await.unwrap()
    };
    let index = page("/", ("accept-encoding", "gzip")).await;
    assert_eq!(index.status(), StatusCode::OK);
    assert_eq!(index.headers()["content-type"], "text/html");
    assert_eq!(index.headers()["content-encoding"], "gzip");
    let policy = index.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    let tag = index.headers()["etag"].to_str().unwrap().to_owned();
    for tag in [&tag, tag.trim_start_matches("W/")] {
        let again = page("/", ("if-none-match", tag)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
    for path in ["/openapi.json", "/docs/", "/docs/swagger-ui.css"] {
        let whole = page(path, ("accept", "*/*")).await;
        let tag = whole.headers()["etag"].to_str().unwrap();
        for tag in [tag, tag.trim_start_matches("W/")] {
            let again = page(path, ("if-none-match", tag)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
    }

    // Every file that the page names is there, and none from elsewhere.
    let text = page("/", ("accept", "*/*")).await.text().await.unwrap();
    let named: Vec<_> = text
        .split(['"', '\''])
        .filter(|part| part.starts_with("/page/"))
        .collect();
    assert!(named.len() >= 2, "{text}");
    for path in named {
        assert_eq!(
            page(path, ("accept", "*/*")).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
    let none = page("/page/../Cargo.toml", ("accept", "*/*")).await;
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_operators_origins_may_read_and_no_others() {
    const APP: &str = "https://app.example";
    let api = Api::with(Config {
        origins: vec![
            APP.parse().unwrap(),
            "https://beta.example".parse().unwrap(),
        ],
        token_rate: 1,
        ..Config::default()
    })
    .await;
    let family = api.family(&[today()]).await;
    let [daily, ..] = paths(&family);
    let live = format!("/v1/children/{}/live", family.child);
    let ask = async |origin: &str, credential: &str, path: &str| {
        let request = api.client.get(format!("{}{path}", api.url));
        let request = request.bearer_auth(credential).header("origin", origin);
        request.send().await.unwrap()
    };
    let words = |answer: &reqwest::Response, header: &str| -> Vec<String> {
        let lists = answer.headers().get_all(header).iter();
        let words = lists.flat_map(|list| list.to_str().unwrap().split(','));
        words.map(|word| word.trim().to_lowercase()).collect()
    };

    for (origin, allowed) in [
        (APP, true),
        ("https://beta.example", true),
        ("https://app.example.evil.example", false),
        ("null", false),
    ] {
        let preflight = api
            .client
            .request(reqwest::Method::OPTIONS, format!("{}{live}", api.url));
        let preflight = preflight
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header(
                "access-control-request-headers",
                "authorization,last-event-id",
            );
        let preflight = preflight.send().await.unwrap();
        assert_eq!(preflight.status(), StatusCode::OK);
        let granted = words(&preflight, "access-control-allow-origin");
        assert_eq!(granted == [origin], allowed, "{granted:?}");
        assert_eq!(words(&preflight, "access-control-allow-methods"), ["get"]);
        let headers = words(&preflight, "access-control-allow-headers");
        for header in [
            "authorization",
            "if-none-match",
            "last-event-id",
            "accept",
            "x-request-id",
            "traceparent",
            "tracestate",
            "baggage",
            "sentry-trace",
            "x-retry-count",
        ] {
            assert!(
                headers.iter().any(|one| one == header),
                "{header}: {headers:?}"
            );
        }

        // Whatever is answered, streams and refusals too; and no cache may give it to another origin.
        for (credential, path, status) in [
            (api.key.as_str(), daily.as_str(), 200),
            (&api.key, &live, 200),
            (&api.key, "/v1/children/7/daily", 404),
            (&api.key, "/v1/nothing", 404),
            (&api.key, &format!("{daily}?from=x"), 400),
            ("rvk_none", &daily, 401),
            ("rvk_none", "/v1/nothing", 401),
        ] {
            let answer = ask(origin, credential, path).await;
            assert_eq!(answer.status(), status, "{path}");
            let granted = words(&answer, "access-control-allow-origin");
            assert_eq!(granted == [origin], allowed, "{path}: {granted:?}");
            assert!(
                !answer
                    .headers()
                    .contains_key("access-control-allow-credentials")
            );
            let vary = words(&answer, "vary");
            assert!(vary.iter().any(|one| one == "origin"), "{path}: {vary:?}");
            let told = words(&answer, "access-control-expose-headers");
            for header in ["etag", "retry-after", "ratelimit-remaining", "x-request-id"] {
                assert!(told.iter().any(|one| one == header), "{header}: {told:?}");
            }
            if status == 200 {
                assert!(
                    vary.iter().any(|one| one == "authorization"),
                    "{path}: {vary:?}"
                );
            }
        }
    }
    // Nor may a cache give what was asked for without an origin to a page.
    let plain = api.get(&api.key, &daily).await;
    assert!(words(&plain, "vary").iter().any(|one| one == "origin"));
    let tag = plain.headers()["etag"].clone();
    let request = api
        .client
        .get(format!("{}{daily}", api.url))
        .bearer_auth(&api.key);
    let same = request.header("origin", APP).header("if-none-match", tag);
    let same = same.send().await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(words(&same, "access-control-allow-origin"), [APP]);
    assert!(words(&same, "vary").iter().any(|one| one == "origin"));
    let mut refused = ask(APP, &family.token, &daily).await;
    for _ in 0..100 {
        if refused.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        refused = ask(APP, &family.token, &daily).await;
    }
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(words(&refused, "access-control-allow-origin"), [APP]);
    api.stop().await;

    // By default no page but those that are served here.
    let api = Api::start().await;
    let request = api.client.get(format!("{}/v1/children/7/daily", api.url));
    let answer = request.header("origin", APP).send().await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let preflight = api.client.request(
        reqwest::Method::OPTIONS,
        format!("{}/v1/families/7", api.url),
    );
    let preflight = preflight
        .header("origin", APP)
        .header("access-control-request-method", "GET");
    let preflight = preflight.send().await.unwrap();
    assert!(
        !preflight
            .headers()
            .contains_key("access-control-allow-origin")
    );
    assert_eq!(preflight.status(), StatusCode::UNAUTHORIZED);
    api.stop().await;
}
