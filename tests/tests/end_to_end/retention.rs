//! The retention file: no role starts on stores that keep something for another time, and what went for its age is
//! missed by nobody.

use std::{fs, time::Duration};

use chrono::Utc;
use rivulet_sandbox::TestBed;
use rivulet_simulator::Config;
use rivulet_tests::Rivulet;
use tokio_util::sync::CancellationToken;

const FILE: &str = include_str!("../../../retention.toml");

/// What a command says, and its exit code. A role that does start is ended, without one.
async fn say(rivulet: &Rivulet, args: &[&str]) -> (String, Option<i32>) {
    let running = tokio::time::timeout(Duration::from_secs(90), rivulet.output(args));
    let output = running.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    (format!("{said}{complaint}"), output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_starts_only_on_stores_that_are_as_the_file_says() {
    let _turn = crate::turn::of(module_path!());
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let file = rivulet.path("retention.toml");
    let name = file.to_str().unwrap();
    let (said, code) = say(&rivulet, &["check-config"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ok      retention: "), "{said}");

    let text = FILE
        .replace(
            "[speech]\nkeep = \"3 years\"",
            "[speech]\nkeep = \"400 days\"",
        )
        .replace("[kafka]\nkeep = \"7 days\"", "[kafka]\nkeep = \"6 days\"");
    fs::write(&file, &text).unwrap();
    let speech =
        "retention of speech: the file says 400 days, PostgreSQL (retention_periods) has 1095 days";
    let events =
        "retention of speech: the file says 400 days, ClickHouse (TTL of events) has 1095 days";
    let topics = "retention of kafka: the file says 6 days, Kafka (retention.ms of ";
    for (role, differences) in [
        ("ingest", &[speech][..]),
        ("api", &[speech]),
        ("aggregate", &[speech, topics]),
        ("sink", &[speech, events, topics]),
    ] {
        let listen = match role {
            "ingest" => "--listen".to_owned(),
            other => format!("--{other}-listen"),
        };
        let (said, code) = say(
            &rivulet,
            &[role, &listen, "127.0.0.1:0", "--retention", name],
        )
        .await;
        assert_eq!(code, Some(1), "{role}: {said}");
        for difference in differences {
            assert!(
                said.contains(difference),
                "{role} does not say {difference:?}: {said}"
            );
        }
    }
    let (said, code) = say(&rivulet, &["check-config", "--retention", name]).await;
    assert_eq!(code, Some(1), "{said}");
    for difference in [speech, events, topics] {
        assert!(said.contains(difference), "{said}");
    }
    let (said, code) = say(&rivulet, &["retention", "plan", "--retention", name]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("DIFFERS {events}")), "{said}");

    let (said, _) = say(&rivulet, &["migrate", "--retention", name]).await;
    assert!(
        said.contains("retention of speech: 400 days, until now 1095"),
        "{said}"
    );
    let (said, _) = say(&rivulet, &["topics", "--retention", name]).await;
    assert!(
        said.contains("kept its records for 7 days, now for 6 days"),
        "{said}"
    );
    let env = [("RIVULET_RETENTION", name.to_owned())];
    for role in ["ingest", "aggregate", "sink", "api"] {
        rivulet.start_with(role, &env).await.unwrap();
    }
    // Now those of the default are the others.
    let (said, code) = say(&rivulet, &["check-config"]).await;
    assert!(
        code == Some(1) && said.contains("the file says 1095 days"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_and_a_flag_that_says_something_else_are_refused() {
    let _turn = crate::turn::of(module_path!());
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let file = rivulet.path("retention.toml");
    let name = file.to_str().unwrap();
    let (said, code) = say(&rivulet, &["retention", "notice", "--retention", name]).await;
    assert!(code == Some(1) && said.contains("cannot be read"), "{said}");
    fs::write(
        &file,
        FILE.replace("keep = \"3 years\"", "keep = \"for ever\""),
    )
    .unwrap();
    for command in [
        &["retention", "notice", "--retention", name][..],
        &["migrate", "--retention", name],
        &["topics", "--retention", name],
        &["check-config", "--retention", name],
        &[
            "aggregate",
            "--retention",
            name,
            "--aggregate-listen",
            "127.0.0.1:0",
        ],
    ] {
        let (said, code) = say(&rivulet, command).await;
        assert_eq!(code, Some(1), "{command:?}: {said}");
        assert!(
            said.contains("[speech] keep = \"for ever\" is refused"),
            "{command:?}: {said}"
        );
    }
    for (command, file) in [
        (
            &["topics", "--retention-days", "5"][..],
            "the file 7 ([kafka])",
        ),
        (
            &["aggregate", "--seen-retention-days", "60"],
            "the file 45 ([identities])",
        ),
        (
            &["ingest", "--spill-max-age-days", "4"],
            "the file 3 ([spill])",
        ),
    ] {
        let (said, code) = say(&rivulet, command).await;
        assert!(
            code == Some(1) && said.contains(file),
            "{command:?}: {said}"
        );
    }
    // What agrees is taken.
    let (said, code) = say(&rivulet, &["topics", "--retention-days", "7"]).await;
    assert_eq!(code, Some(0), "{said}");
    let notice = rivulet.command(&["retention", "notice"]).await.unwrap();
    assert!(
        notice.contains("| Speech events |") && notice.contains("3 years after it was received"),
        "{notice}"
    );
    let page = rivulet
        .command(&["retention", "notice", "--html"])
        .await
        .unwrap();
    assert!(
        page.starts_with("<!doctype html>")
            && page.contains("<th scope=\"row\">Speech events</th>"),
        "{page}"
    );
}

/// The past of a child: days, progress, a streak and a topic of before the history begins.
const PAST: [&str; 6] = [
    "DO $$ BEGIN
         EXECUTE format('CREATE TABLE daily_child_metrics_199901 PARTITION OF daily_child_metrics FOR VALUES FROM (%L) TO (%L)',
             CURRENT_DATE - 2100, CURRENT_DATE - 1900);
         EXECUTE format('CREATE TABLE learning_analytics_199901 PARTITION OF learning_analytics FOR VALUES FROM (%L) TO (%L)',
             CURRENT_DATE - 2100, CURRENT_DATE - 1900);
     END $$",
    "CREATE TABLE subject AS SELECT child_id FROM daily_child_metrics JOIN topic_progress USING (child_id)
         JOIN learning_analytics USING (child_id) JOIN streaks USING (child_id)
     GROUP BY child_id HAVING sum(daily_child_metrics.withheld_events + topic_progress.withheld_events) = 0 LIMIT 1",
    "INSERT INTO daily_child_metrics SELECT (jsonb_populate_record(NULL::daily_child_metrics,
         to_jsonb(d) || jsonb_build_object('local_date', CURRENT_DATE - 2000))).*
     FROM (SELECT * FROM daily_child_metrics WHERE child_id = (SELECT child_id FROM subject) AND qualifying_events > 0 LIMIT 1) AS d",
    "INSERT INTO learning_analytics SELECT (jsonb_populate_record(NULL::learning_analytics,
         to_jsonb(d) || jsonb_build_object('local_date', CURRENT_DATE - 2000))).*
     FROM (SELECT * FROM learning_analytics WHERE child_id = (SELECT child_id FROM subject) LIMIT 1) AS d",
    "UPDATE streaks SET (current_streak, longest_streak, streak_started_on, last_active_date, freezes_available) =
             (SELECT s.* FROM streak_of(active_days + datemultirange(daterange(CURRENT_DATE - 2000, CURRENT_DATE - 1999))) AS s),
         active_days = active_days + datemultirange(daterange(CURRENT_DATE - 2000, CURRENT_DATE - 1999))
     WHERE child_id = (SELECT child_id FROM subject)",
    "UPDATE topic_progress SET interactions = interactions + 5, first_seen_at = now() - interval '2000 days'
     WHERE (child_id, topic) = (SELECT child_id, topic FROM topic_progress
                                WHERE child_id = (SELECT child_id FROM subject) LIMIT 1)",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_went_for_its_age_is_no_difference() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, mut aggregate, _sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    let config = Config {
        children: 30,
        history_days: 8,
        rate: 100.0,
        duration: Some(Duration::from_secs(2)),
        ..rivulet.simulator(&ingest, 21)
    };
    let never = CancellationToken::new();
    rivulet_simulator::run(&config, Utc::now(), |_| (), &never)
        .await
        .unwrap();
    rivulet.settle().await.unwrap();
    let pool = &rivulet.bed.pool;
    for statement in PAST {
        sqlx::raw_sql(statement).execute(pool).await.unwrap();
    }
    let agree = async |when: &str| {
        let (said, code) = say(&rivulet, &["rebuild", "--all"]).await;
        assert_eq!(code, Some(0), "{when}: {said}");
        assert!(said.contains(" 0 differ"), "{when}: {said}");
        let (said, code) = say(&rivulet, &["verify", "--hours", "3"]).await;
        assert_eq!(code, Some(0), "{when}: {said}");
    };
    // The history has lost those events, and the rollups are still to.
    agree("before").await;
    let plan = rivulet
        .command(&["retention", "plan", "--json"])
        .await
        .unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let part = |place: &str| {
        let parts = plan["parts"].as_array().unwrap();
        parts
            .iter()
            .find(|part| part["place"] == place)
            .unwrap_or_else(|| panic!("no {place}: {plan}"))
            .clone()
    };
    for table in ["daily_child_metrics", "learning_analytics"] {
        let part = part(&format!("PostgreSQL {table}"));
        assert_eq!(
            (&part["rows"], &part["partitions"]),
            (&1.into(), &1.into()),
            "{part}"
        );
        assert!(part["bytes"].as_u64().unwrap() > 0, "{part}");
        let oldest = Utc::now().date_naive() - chrono::Days::new(2_000);
        assert_eq!(part["oldest"], oldest.to_string(), "{part}");
        assert_eq!(
            part["next"],
            (oldest + chrono::Days::new(1_826)).to_string(),
            "{part}"
        );
    }
    assert_eq!(part("PostgreSQL streaks")["rows"], 1);
    assert_eq!(part("PostgreSQL topic_progress")["rows"], 0);
    assert_eq!(plan["inactive_children"], 0);
    assert_eq!(plan["drifts"], serde_json::json!([]));

    // A new day: whoever aggregates looks when it starts.
    sqlx::raw_sql("UPDATE retention_periods SET swept_until = NULL")
        .execute(pool)
        .await
        .unwrap();
    aggregate.restart().await.unwrap();
    let swept = async || -> i64 {
        sqlx::query_scalar(
            "SELECT count(swept_until) FROM retention_periods WHERE class IN ('daily', 'learning')",
        )
        .fetch_one(pool)
        .await
        .unwrap()
    };
    for _ in 0..600 {
        if swept().await == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let old: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM daily_child_metrics WHERE local_date < CURRENT_DATE - 1825)
              + (SELECT count(*) FROM learning_analytics WHERE local_date < CURRENT_DATE - 1825)
              + (SELECT count(*) FROM streaks WHERE lower(active_days) < CURRENT_DATE - 1825)
              + (SELECT count(*) FROM partitions_before('daily_child_metrics', CURRENT_DATE - 1825))",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(old, 0);
    agree("after").await;
}
