//! What an app's maker sees of their events: each with its answer, and with where it went.

use std::process::Stdio;

use chrono::Utc;
use reqwest::Client;
use rivulet_sandbox::tools;
use rivulet_tests::{Rivulet, Role};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use uuid::Uuid;

struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(rivulet: &Rivulet, args: &[&str]) -> Self {
        let key = ("RIVULET_ADMIN_KEY", rivulet.admin_key.clone());
        let args = [&["tail", "--json"], args].concat();
        let mut child = rivulet.spawn(&args, &[key]).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn next(&mut self) -> Value {
        let line = self.lines.next_line().await.unwrap();
        serde_json::from_str(&line.unwrap()).unwrap()
    }
}

async fn post(rivulet: &Rivulet, ingest: &Role, query: &str, events: &[Value]) -> Value {
    let client = Client::builder().no_proxy().build().unwrap();
    let post = client
        .post(format!("http://{}/v1/events{query}", ingest.address))
        .bearer_auth(&rivulet.ingest_key)
        .json(&json!({"events": events}));
    post.send().await.unwrap().json().await.unwrap()
}

async fn register(rivulet: &Rivulet, ingest: &Role, analytics: bool) -> Uuid {
    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    let consents = json!({"coppa": true, "audio": true, "analytics": analytics});
    let client = Client::builder().no_proxy().build().unwrap();
    for (path, body) in [
        (
            format!("parents/{parent}"),
            json!({"timezone": "Europe/Rome", "consents": consents}),
        ),
        (
            format!("children/{child}"),
            json!({"parent_id": parent, "age_group": "wonder_cubs"}),
        ),
    ] {
        let put = client
            .put(format!("http://{}/v1/admin/{path}", ingest.address))
            .bearer_auth(&rivulet.admin_key)
            .json(&body);
        assert!(put.send().await.unwrap().status().is_success());
    }
    child
}

fn event(child: Uuid) -> Value {
    json!({"id": Uuid::now_v7(), "type": "interaction", "child_id": child, "occurred_at": Utc::now().to_rfc3339(),
           "data": {"action": "answer", "is_correct": true, "topic": "fractions"}})
}

/// Sends events until the watcher shows one: it watches from then on.
async fn begun(rivulet: &Rivulet, ingest: &Role, tail: &mut Tail) {
    let stranger = event(Uuid::new_v4());
    let seen = loop {
        post(
            rivulet,
            ingest,
            "?dry_run=true",
            std::slice::from_ref(&stranger),
        )
        .await;
        let pause = tokio::time::sleep(std::time::Duration::from_millis(200));
        tokio::select! {
            seen = tail.next() => break seen,
            () = pause => {}
        }
    };
    assert_eq!(seen["code"], "unknown_child");
    // Those that were sent before it was shown come too: this one is the last of them.
    let last = event(Uuid::new_v4());
    post(
        rivulet,
        ingest,
        "?dry_run=true",
        std::slice::from_ref(&last),
    )
    .await;
    while tail.next().await["id"] != last["id"] {}
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_shown_with_its_answer_and_its_fate() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, aggregate, sink]) = Rivulet::running(
        &[("RIVULET_INSPECT", "on")],
        ["ingest", "aggregate", "sink"],
    )
    .await
    .unwrap();
    // A node without Kafka, which keeps what it takes on its disk.
    let spill = rivulet.path("spill").to_str().unwrap().to_owned();
    let cut_off = rivulet
        .start_with(
            "ingest",
            &[
                ("KAFKA_BROKERS", "127.0.0.1:1".to_owned()),
                ("RIVULET_SPILL_DIR", spill.clone()),
            ],
        )
        .await
        .unwrap();
    let (child, private) = (
        register(&rivulet, &ingest, true).await,
        register(&rivulet, &ingest, false).await,
    );
    let urls = format!("http://{},http://{}", ingest.address, cut_off.address);
    // However long this machine takes.
    let args = ["--url", &urls, "--wait", "600", "--curl"];
    let mut tail = Tail::start(&rivulet, &args);
    begun(&rivulet, &ingest, &mut tail).await;
    begun(&rivulet, &cut_off, &mut tail).await;

    let good = event(child);
    let mut bad = event(child);
    bad["data"]["rating"] = json!(9);
    let withheld = event(private);
    let stranger = event(Uuid::new_v4());
    post(&rivulet, &ingest, "", std::slice::from_ref(&good)).await;
    let copy = good.clone();
    post(
        &rivulet,
        &ingest,
        "",
        &[bad.clone(), copy, withheld.clone(), stranger.clone()],
    )
    .await;
    let dry = event(child);
    post(
        &rivulet,
        &ingest,
        "?dry_run=true",
        std::slice::from_ref(&dry),
    )
    .await;
    let spilled = event(child);
    let answer = post(&rivulet, &cut_off, "", std::slice::from_ref(&spilled)).await;
    assert_eq!(answer["results"][0]["durability"], "spilled", "{answer}");
    // Whoever comes after it with the same directory brings it to Kafka.
    cut_off.stop().await.unwrap();
    let back = rivulet
        .start_with("ingest", &[("RIVULET_SPILL_DIR", spill)])
        .await
        .unwrap();

    let first = tail.next().await;
    assert_eq!(first["id"], good["id"]);
    assert_eq!(
        (&first["outcome"], &first["key"]),
        (&json!("accepted"), &json!("ingest"))
    );
    assert_eq!(
        (&first["rollups"], &first["history"]),
        (&json!("counted"), &json!("stored"))
    );
    assert!(first["history_after_ms"].as_i64().is_some(), "{first}");
    assert!(
        first["topic"].as_str().unwrap().ends_with(".interaction"),
        "{first}"
    );
    let rejected = tail.next().await;
    assert_eq!(
        (&rejected["id"], &rejected["code"], &rejected["pointer"]),
        (&bad["id"], &json!("invalid_field"), &json!("/data/rating"))
    );
    assert_eq!(rejected.get("rollups"), None);
    let copy = tail.next().await;
    assert_eq!(copy["id"], good["id"]);
    assert_eq!(
        (&copy["rollups"], &copy["duplicate_of"]),
        (&json!("duplicate"), &first["offset"])
    );
    assert_eq!(copy["history"], "duplicate");
    let kept_out = tail.next().await;
    assert_eq!(kept_out["id"], withheld["id"]);
    assert_eq!(
        (&kept_out["rollups"], &kept_out["history"]),
        (&json!("counted"), &json!("withheld"))
    );
    let unknown = tail.next().await;
    assert_eq!(
        (&unknown["id"], &unknown["code"]),
        (&stranger["id"], &json!("unknown_child"))
    );
    let tried = tail.next().await;
    assert_eq!(
        (&tried["id"], &tried["dry_run"]),
        (&dry["id"], &json!(true))
    );
    assert_eq!(tried.get("rollups"), None);
    let late = tail.next().await;
    assert_eq!(
        (&late["id"], &late["durability"]),
        (&spilled["id"], &json!("spilled"))
    );
    assert_eq!(
        (&late["rollups"], &late["history"]),
        (&json!("counted"), &json!("stored"))
    );

    // What it says to paste is answered alike, and stores nothing.
    for (seen, code) in [
        (&first, None),
        (&rejected, Some("invalid_field")),
        (&unknown, Some("unknown_child")),
    ] {
        let answer = paste(&rivulet, &ingest, seen["curl"].as_str().unwrap()).await;
        let Some(answer) = answer else { break };
        assert_eq!(answer["dry_run"], true, "{answer}");
        let result = &answer["results"][0];
        assert_eq!(result["code"].as_str(), code, "{answer}");
        assert_eq!(result.get("pointer"), seen.get("pointer"), "{answer}");
        assert_eq!(result["id"], seen["id"]);
    }

    let told: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit_log WHERE action = 'read' AND actor_kind = 'user' AND details::text LIKE '%tail%'",
    )
    .fetch_one(&rivulet.bed.pool)
    .await
    .unwrap();
    assert!(told > 0, "that it asked what became of a child's events");
    let pid = Pid::from_raw(tail.child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(tail.child.wait().await.unwrap().success());
    for role in [ingest, aggregate, sink, back] {
        role.stop().await.unwrap();
    }
}

async fn paste(rivulet: &Rivulet, ingest: &Role, curl: &str) -> Option<Value> {
    if tools::program(&["curl"]).is_none() {
        tools::missing(
            "the pasted command",
            "there is no curl. As root on Debian: apt-get install curl",
        );
        return None;
    }
    let output = Command::new("sh")
        .args(["-c", curl])
        .env("RIVULET_INGEST_URL", format!("http://{}", ingest.address))
        .env("RIVULET_INGEST_KEY", &rivulet.ingest_key)
        .env("NO_PROXY", "127.0.0.1")
        .stderr(Stdio::inherit())
        .output();
    Some(serde_json::from_slice(&output.await.unwrap().stdout).unwrap())
}
