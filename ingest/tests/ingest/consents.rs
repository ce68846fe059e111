//! Consents with their evidence: how they are told, and what of them travels with a record.

use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    common::{Server, eventually, outcomes, stored},
    families::refused,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_family_consented_to_is_told_from_the_beginning() {
    let server = Server::start().await;
    let parent = Uuid::new_v4();
    let path = format!("parents/{parent}/consents");
    refused(server.admin_get(&path).await, 404, "not_found").await;
    let form = json!({"granted": true, "version": "2026-01", "method": "form"});
    for consents in [
        json!({"coppa": form, "audio": true}),
        json!({"coppa": form, "audio": true}),
        json!({"coppa": {"granted": true, "version": "2026-02", "method": null}}),
        json!({"audio": {"granted": false, "version": null}}),
    ] {
        server.consent(parent, consents).await;
    }
    let history = async || {
        let answer = server.admin_get(&path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        answer.json::<Value>().await.unwrap()
    };
    let told = history().await;
    let expected = [
        json!({"consent": "coppa", "granted": true, "version": "2026-01", "method": "form"}),
        json!({"consent": "audio", "granted": true, "version": null, "method": "other"}),
        json!({"consent": "coppa", "granted": true, "version": "2026-02", "method": "other"}),
        json!({"consent": "audio", "granted": false, "version": null, "method": "other"}),
    ];
    let mut last = String::new();
    let expected: Vec<_> = (0..)
        .zip(expected)
        .map(|(place, mut change): (usize, _)| {
            let changed_at = told["consents"][place]["changed_at"].as_str().unwrap();
            assert!(changed_at >= last.as_str(), "{told}");
            last = changed_at.to_owned();
            change["changed_at"] = json!(changed_at);
            change
        })
        .collect();
    assert_eq!(
        told,
        json!({"parent_id": parent, "consents": expected, "next": null})
    );
    for after in ["x", "-1", "1.5", "99999999999999999999"] {
        let asked = server.admin_get(&format!("{path}?after={after}")).await;
        refused(asked, 422, "invalid_field").await;
    }
    let later = server
        .admin_get(&format!("{path}?after={}", i64::MAX))
        .await;
    let later: Value = later.json().await.unwrap();
    assert_eq!(
        (&later["consents"], &later["next"]),
        (&json!([]), &Value::Null)
    );

    // What was deleted is still told; and for admins alone.
    server.admin_delete(&format!("parents/{parent}")).await;
    assert_eq!(history().await, told);
    let url = server.url(&format!("/v1/admin/{path}"));
    let asked = server.client.get(&url).send().await.unwrap();
    refused(asked, 401, "unauthorized").await;
    let asked = server.client.get(&url).bearer_auth(&server.ingest_key);
    refused(asked.send().await.unwrap(), 403, "forbidden").await;
    refused(
        server.admin_get("parents/seven/consents").await,
        404,
        "not_found",
    )
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_name_the_version_under_which_they_were_taken() {
    let server = Server::start().await;
    let speech = || {
        let mut event = server.event();
        event["type"] = json!("speech");
        event["data"] = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1});
        event
    };
    let versions = async |event: &dyn Fn() -> Value| {
        let event = event();
        assert_eq!(
            outcomes(&server.send(std::slice::from_ref(&event)).await),
            ["accepted"]
        );
        let records = stored(&server.cluster);
        let record = records.iter().map(|record| record.json());
        let mut record = record.filter(|record| record["id"] == event["id"]);
        record.next().unwrap()["consent_version"].clone()
    };
    let interaction = || server.event();
    assert_eq!(versions(&interaction).await, Value::Null);
    let evidence = |version: &str| json!({"granted": true, "version": version, "method": "card"});
    server
        .consent(server.parent, json!({"coppa": evidence("2026-01")}))
        .await;
    eventually("records name the version of coppa", async || {
        versions(&interaction).await == "2026-01"
    })
    .await;
    assert_eq!(versions(&speech).await, "2026-01", "audio has none");
    server
        .consent(server.parent, json!({"audio": evidence("audio-3")}))
        .await;
    eventually("speech names the version of audio", async || {
        versions(&speech).await == "audio-3"
    })
    .await;
    assert_eq!(versions(&interaction).await, "2026-01");
    server.stop().await.unwrap();
}
