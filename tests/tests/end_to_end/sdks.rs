//! What an SDK says the server has is what the parents' numbers are made of: 10 000 events of each SDK through 200 faults,
//! kill -9 of SDK among them, against a real ingest.

use std::{path::PathBuf, time::Duration};

use chrono::Utc;
use rivulet_conformance::{
    campaign::{self, Plan},
    rules,
    server::Upstream,
};
use rivulet_sandbox::{Role, sibling, tools};
use rivulet_simulator::Config;
use rivulet_tests::{Rivulet, check, copy_folder, languages, npm_packages};
use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Registers a family, and returns its children.
async fn family(rivulet: &Rivulet, ingest: &Role) -> Vec<Uuid> {
    let (parent, children) = (Uuid::new_v4(), [Uuid::new_v4(), Uuid::new_v4()]);
    let client = reqwest::Client::new();
    let put = async |path: String, body: serde_json::Value| {
        let url = format!("http://{}/v1/admin/{path}", ingest.address);
        let request = client.put(url).bearer_auth(&rivulet.admin_key).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 204);
    };
    let consents = json!({"coppa": true, "audio": true, "analytics": true});
    let family = json!({"timezone": "Europe/Rome", "consents": consents});
    put(format!("parents/{parent}"), family).await;
    for child in children {
        let body = json!({"parent_id": parent, "age_group": "wonder_cubs"});
        put(format!("children/{child}"), body).await;
    }
    children.to_vec()
}

/// Whether what PostgreSQL counted is what the SDK says was accepted.
async fn counts_what_was_accepted(name: &str, driver: Vec<String>) {
    let (rivulet, [ingest, _aggregate, _sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    let children = family(&rivulet, &ingest).await;
    let plan = Plan {
        children: children.clone(),
        ..Plan::new(7)
    };
    let upstream = Upstream::new(&format!("http://{}", ingest.address), &rivulet.ingest_key);
    let ran = tokio::task::spawn_blocking(move || campaign::run(&driver, &plan, Some(upstream)));
    let outcome = ran
        .await
        .unwrap()
        .unwrap_or_else(|why| panic!("{name}: {why:#}"));
    eprintln!("{name}: {outcome}");
    rivulet.settle().await.unwrap();
    let sql =
        "SELECT coalesce(sum(events), 0)::bigint FROM daily_child_metrics WHERE child_id = ANY($1)";
    let counted: i64 = sqlx::query_scalar(sql)
        .bind(children)
        .fetch_one(&rivulet.bed.pool)
        .await
        .unwrap();
    assert_eq!(
        u64::try_from(counted).unwrap(),
        outcome.stored,
        "{name}: {outcome}"
    );
    assert_eq!(outcome.lost, 0);
    assert!(outcome.kills > 10 && outcome.sent_again > 100, "{outcome}");
}

fn driver(name: &str) -> String {
    let path: PathBuf = sibling(name).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_core_says_is_accepted_is_counted_once() {
    let _turn = crate::turn::of(module_path!());
    counts_what_was_accepted("the core", vec![driver("rivulet-sdk-driver")]).await;
}

/// Its own tests, in Node and in a real browser; the rules of the contract; and its numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_typescript_says_is_accepted_is_counted_once() {
    let _turn = crate::turn::of(module_path!());
    const WHAT: &str = "the SDK for TypeScript";
    let Some(package) = npm_packages("sdk/typescript", "sdks/sdk/typescript").await else {
        let why = "npm cannot install what it needs. As root on Debian: apt-get install npm";
        return tools::missing(WHAT, why);
    };
    // Their programs are run by its tests.
    copy_folder("docs/quickstart", "sdks/docs/quickstart").unwrap();
    let npm = async |script: &str, chromium: Option<PathBuf>| {
        let mut command = Command::new("npm");
        command
            .args(["run", script])
            .current_dir(&package)
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("RIVULET_INGEST_URL");
        command.envs(chromium.map(|chromium| ("CHROMIUM", chromium)));
        let status = command.status().await.unwrap();
        assert!(status.success(), "`npm run {script}`: what failed is above");
    };
    npm("test", None).await;
    match tools::program(&["chromium", "chromium-browser", "google-chrome"]) {
        Some(chromium) => npm("test:browser", Some(chromium)).await,
        None => tools::missing(WHAT, "in a browser: there is no Chromium"),
    }
    let driver = package.join("conformance/driver.mjs");
    let driver = vec!["node".to_owned(), driver.to_str().unwrap().to_owned()];
    keeps_the_rules(driver.clone()).await;
    counts_what_was_accepted(WHAT, driver).await;
}

/// The simulated app with the SDK in it: the SDK makes ids and times, and every table is what it sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_simulated_app_sends_by_the_sdk_is_what_is_stored() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, _aggregate, _sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    let ledger = rivulet.ledger(1);
    let config = Config {
        sdk: true,
        children: 60,
        rate: 400.0,
        duration: Some(Duration::from_secs(10)),
        ledger: Some(ledger.clone()),
        ..rivulet.simulator(&ingest, 1)
    };
    let never = CancellationToken::new();
    let ran = rivulet_simulator::run(&config, Utc::now(), |_| {}, &never);
    let progress = ran.await.unwrap();
    println!("{progress}");
    assert!(progress.accepted > 3_000, "{progress}");
    // What badly written clients are refused for, no SDK sends.
    let of_families = ["consent_required", "unknown_child"];
    let mut refused = progress.rejected.keys();
    assert!(
        refused.all(|code| of_families.contains(&code.as_str())),
        "{progress}"
    );
    let checked = check::exact(&rivulet, &[ledger]).await.unwrap();
    assert_eq!(checked.copies, 0, "{checked:?}");
    assert_eq!(checked.events as u64, progress.accepted, "{checked:?}");
}

/// Its own tests and types, the rules of the contract, and its numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_python_says_is_accepted_is_counted_once() {
    let _turn = crate::turn::of(module_path!());
    on_the_core("the SDK for Python", languages::python_sdk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kotlin_says_is_accepted_is_counted_once() {
    let _turn = crate::turn::of(module_path!());
    on_the_core("the SDK for Kotlin", languages::kotlin_sdk).await;
}

async fn on_the_core(name: &str, tested: fn() -> Option<Vec<String>>) {
    let tested = tokio::task::spawn_blocking(tested).await.unwrap();
    let Some(driver) = tested else {
        return;
    };
    keeps_the_rules(driver.clone()).await;
    counts_what_was_accepted(name, driver).await;
}

async fn keeps_the_rules(driver: Vec<String>) {
    let kept = tokio::task::spawn_blocking(move || {
        for rule in rules::all() {
            if let Err(why) = rule.check(&driver) {
                panic!("{}: {why:#}", rule.name);
            }
        }
    });
    kept.await.unwrap();
}
