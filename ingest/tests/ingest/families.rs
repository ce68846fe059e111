//! The registry as the product backend changes it and as events meet it.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use rivulet_events::{ChildId, ParentId, data::AgeGroup};
use rivulet_ingest::Config;
use rivulet_kafka::{TopicPlan, create_topics};
use rivulet_registry::{CacheConfig, consents::Consents, families};
use rivulet_sandbox::{Mode, TestBed};
use rivulet_zones::Zone;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, config, event, eventually, outcomes, problem, stored};

pub(crate) async fn refused(response: Response, status: u16, code: &str) {
    let found = problem(response).await;
    assert_eq!((found.0, found.1.as_str()), (status, code));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_put_and_deleted() {
    let server = Server::start().await;
    let parent_path = format!("parents/{}", Uuid::new_v4());
    let child_path = format!("children/{}", Uuid::new_v4());
    let rome = json!({"timezone": "Europe/Rome"});
    let of = |parent: Uuid| json!({"parent_id": parent, "age_group": "mind_masters"});

    for zone in [
        json!("Mars/Base"),
        json!("europe/rome"),
        json!(1),
        Value::Null,
    ] {
        let put = server
            .admin_put(&parent_path, &json!({"timezone": zone}))
            .await;
        refused(put, 422, "invalid_field").await;
    }
    for consents in [
        json!({"adio": true}),
        json!({"audio": "yes"}),
        json!([]),
        json!({"audio": []}),
        json!({"audio": {}}),
        json!({"audio": {"granted": "yes"}}),
        json!({"audio": {"granted": null, "version": "1"}}),
        json!({"audio": {"granted": true, "method": "fax"}}),
        json!({"audio": {"granted": true, "method": 1}}),
        json!({"audio": {"granted": true, "version": 1}}),
        json!({"audio": {"granted": true, "version": ""}}),
        json!({"audio": {"granted": true, "version": "2026 01"}}),
        json!({"audio": {"granted": true, "version": "x".repeat(65)}}),
        json!({"audio": {"granted": true, "versoin": "2026-01"}}),
    ] {
        let body = json!({"timezone": "Europe/Rome", "consents": consents});
        refused(
            server.admin_put(&parent_path, &body).await,
            422,
            "invalid_field",
        )
        .await;
    }
    let body = json!({"timezone": "Europe/Rome", "streaks": "no"});
    let put = server.admin_put(&parent_path, &body).await;
    refused(put, 422, "invalid_field").await;
    refused(
        server.admin_put(&parent_path, &json!([])).await,
        400,
        "invalid_body",
    )
    .await;
    refused(
        server.admin_put("parents/seven", &rome).await,
        404,
        "not_found",
    )
    .await;
    refused(server.admin_delete(&parent_path).await, 404, "not_found").await;
    refused(server.admin_delete(&child_path).await, 404, "not_found").await;

    refused(
        server.admin_put(&child_path, &of(Uuid::new_v4())).await,
        409,
        "conflict",
    )
    .await;
    let teen = json!({"parent_id": server.parent, "age_group": "teens"});
    refused(
        server.admin_put(&child_path, &teen).await,
        422,
        "invalid_field",
    )
    .await;
    let nobodys = json!({"age_group": "mind_masters"});
    refused(
        server.admin_put(&child_path, &nobodys).await,
        422,
        "invalid_field",
    )
    .await;

    let put = server.admin_put(&child_path, &of(server.parent)).await;
    assert_eq!(put.status(), StatusCode::NO_CONTENT);
    for _ in 0..2 {
        let deleted = server.admin_delete(&child_path).await;
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    }
    refused(
        server.admin_put(&child_path, &of(server.parent)).await,
        409,
        "conflict",
    )
    .await;

    let deleted = server
        .admin_delete(&format!("parents/{}", server.parent))
        .await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    let put = server
        .admin_put(&format!("parents/{}", server.parent), &rome)
        .await;
    refused(put, 409, "conflict").await;
    let another = format!("children/{}", Uuid::new_v4());
    refused(
        server.admin_put(&another, &of(server.parent)).await,
        409,
        "conflict",
    )
    .await;
    eventually("its child is deleted too", async || {
        let answer: Value = server.post(&[server.event()]).await.json().await.unwrap();
        answer["results"][0]["code"] == "child_deleted"
    })
    .await;
    server.stop().await.unwrap();
}

async fn put_text(server: &Server, path: &str, body: &str) -> Response {
    let put = server.client.put(server.url(&format!("/v1/admin/{path}")));
    let put = put.bearer_auth(&server.admin_key);
    let put = put.header("content-type", "application/json");
    put.body(body.to_owned()).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_given_twice_is_refused_and_a_byte_order_mark_is_skipped() {
    let server = Server::start().await;
    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    let (parent_path, child_path) = (format!("parents/{parent}"), format!("children/{child}"));
    for body in [
        r#"{"timezone": "Europe/Rome", "consents": {"coppa": false}, "consents": {"coppa": true}}"#,
        r#"{"timezone": "Europe/Rome", "consents": {"coppa": false, "coppa": true}}"#,
        r#"{"timezone": "Europe/Rome", "consents": {"coppa": false, "c\u006fppa": true}}"#,
        r#"{"timezone": "Europe/Rome", "timezone": "Europe/Rome"}"#,
        r#"{"timezone": "Europe/Rome", "unknown": [{"deep": 1, "deep": 1}]}"#,
    ] {
        let put = put_text(&server, &parent_path, body).await;
        refused(put, 400, "invalid_body").await;
    }
    let none = server.admin_get(&parent_path).await;
    refused(none, 404, "not_found").await;
    let twice = format!(
        r#"{{"parent_id": "{}", "parent_id": "{parent}", "age_group": "wonder_cubs"}}"#,
        server.parent
    );
    refused(
        put_text(&server, &child_path, &twice).await,
        400,
        "invalid_body",
    )
    .await;

    let marked = "\u{feff}{\"timezone\": \"Europe/Rome\"}";
    let put = put_text(&server, &parent_path, marked).await;
    assert_eq!(put.status(), StatusCode::NO_CONTENT);
    let marked = format!("\u{feff}{{\"parent_id\": \"{parent}\", \"age_group\": \"wonder_cubs\"}}");
    let put = put_text(&server, &child_path, &marked).await;
    assert_eq!(put.status(), StatusCode::NO_CONTENT);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_is_told() {
    let server = Server::start().await;
    let get = async |path: String| -> Value {
        let answer = server.admin_get(&path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        answer.json().await.unwrap()
    };
    let time = |value: &Value| {
        let text = value.as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(text).unwrap()
    };
    let (parent, [first, second]) = (Uuid::new_v4(), [(); 2].map(|()| Uuid::new_v4()));
    let parent_path = format!("parents/{parent}");
    for path in [&parent_path, &format!("children/{first}")] {
        refused(server.admin_get(path).await, 404, "not_found").await;
    }
    let coppa = json!({"granted": true, "version": "2026-01", "method": "form"});
    server
        .consent(parent, json!({"coppa": coppa, "audio": true}))
        .await;
    let kept = get(parent_path.clone()).await;
    let expected = json!({
        "parent_id": parent, "timezone": "Europe/Rome", "streaks": true, "children": [],
        "consents": {
            "coppa": {
                "granted": true, "version": "2026-01", "method": "form",
                "changed_at": kept["consents"]["coppa"]["changed_at"],
            },
            "audio": {
                "granted": true, "version": null, "method": "other",
                "changed_at": kept["consents"]["audio"]["changed_at"],
            },
            "analytics": {"granted": false, "version": null, "method": "other", "changed_at": null},
        },
        "created_at": kept["created_at"], "updated_at": kept["updated_at"],
        "deleted": false, "deleted_at": null,
    });
    assert_eq!(kept, expected);
    let granted = time(&kept["consents"]["audio"]["changed_at"]);
    assert!(granted >= time(&kept["created_at"]));

    for child in [first, second] {
        let body = json!({"parent_id": parent, "age_group": "mind_masters"});
        let put = server.admin_put(&format!("children/{child}"), &body).await;
        assert_eq!(put.status(), StatusCode::NO_CONTENT);
    }
    let body = json!({"timezone": "Asia/Tokyo", "consents": {"audio": false}, "streaks": false});
    let put = server.admin_put(&parent_path, &body).await;
    assert_eq!(put.status(), StatusCode::NO_CONTENT);
    let now = get(parent_path.clone()).await;
    assert_eq!(
        (&now["timezone"], &now["streaks"]),
        (&json!("Asia/Tokyo"), &json!(false))
    );
    assert_eq!(now["children"], json!([first, second]));
    assert_eq!(now["consents"]["coppa"], kept["consents"]["coppa"]);
    assert_eq!(now["consents"]["audio"]["granted"], false);
    assert!(time(&now["consents"]["audio"]["changed_at"]) > granted);
    let child = get(format!("children/{first}")).await;
    let expected = json!({
        "child_id": first, "parent_id": parent, "age_group": "mind_masters",
        "created_at": child["created_at"], "updated_at": child["updated_at"],
        "deleted": false, "deleted_at": null,
    });
    assert_eq!(child, expected);
    time(&child["created_at"]);

    // What was deleted is still told, and says so.
    server.admin_delete(&format!("children/{first}")).await;
    let deleted = get(format!("children/{first}")).await;
    assert_eq!(deleted["deleted"], true);
    assert!(time(&deleted["deleted_at"]) >= time(&deleted["created_at"]));
    assert_eq!(get(parent_path.clone()).await["children"], json!([second]));
    server.admin_delete(&parent_path).await;
    let deleted = get(parent_path.clone()).await;
    assert_eq!(
        (&deleted["deleted"], &deleted["children"]),
        (&json!(true), &json!([]))
    );
    time(&deleted["deleted_at"]);
    assert_eq!(get(format!("children/{second}")).await["deleted"], true);

    // For admins alone.
    for path in [parent_path, format!("children/{second}")] {
        let url = server.url(&format!("/v1/admin/{path}"));
        let asked = server.client.get(&url).send().await.unwrap();
        refused(asked, 401, "unauthorized").await;
        let asked = server.client.get(&url).bearer_auth(&server.ingest_key);
        refused(asked.send().await.unwrap(), 403, "forbidden").await;
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_soon_and_travels_with_the_record() {
    let server = Server::start().await;
    assert_eq!(
        outcomes(&server.send(&[server.event()]).await),
        ["accepted"]
    );

    server
        .consent(server.parent, json!({"analytics": false}))
        .await;
    eventually("records say that analytics is withheld", async || {
        server.send(&[server.event()]).await;
        stored(&server.cluster)
            .iter()
            .any(|record| record.json()["analytics"] == false)
    })
    .await;

    server.consent(server.parent, json!({"coppa": false})).await;
    eventually("nothing is taken any more", async || {
        let answer = server.send(&[server.event()]).await;
        answer["results"][0]["code"] == "consent_required"
    })
    .await;
    // A grant is believed at once: a refusal is never from memory.
    server.consent(server.parent, json!({"coppa": true})).await;
    assert_eq!(
        outcomes(&server.send(&[server.event()]).await),
        ["accepted"]
    );
    // And so is a registration.
    let child = Uuid::new_v4();
    let answer = server.send(&[event(child)]).await;
    assert_eq!(answer["results"][0]["code"], "unknown_child");
    server.register(Uuid::new_v4(), child).await;
    assert_eq!(outcomes(&server.send(&[event(child)]).await), ["accepted"]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_known_children_are_served_for_a_while_and_nobody_is_refused() {
    let bed = TestBed::new().await;
    create_topics(&bed.cluster, &TopicPlan::default())
        .await
        .unwrap();
    // Before the server starts, so that no notice of it is still on its way at the cut.
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let child = Uuid::new_v4();
    let (parent, consents) = (
        ParentId::new(Uuid::new_v4()),
        Consents {
            coppa: Some(true.into()),
            ..Consents::default()
        },
    );
    families::put_parent(
        &bed.pool,
        parent,
        Zone::named("Europe/Rome").unwrap(),
        consents,
        None,
    )
    .await
    .unwrap();
    families::put_child(&bed.pool, ChildId::new(child), parent, AgeGroup::WonderCubs)
        .await
        .unwrap();
    let (link, pool) = bed.behind_a_link().await.unwrap();
    let (cluster, max_stale) = (bed.cluster.clone(), Duration::from_secs(12));
    let registry = CacheConfig {
        max_stale,
        ..CacheConfig::default()
    };
    let server = Server::on(
        bed,
        Config {
            registry,
            ..config()
        },
        cluster,
        pool,
    )
    .await;
    let speech = || {
        let mut event = event(child);
        event["type"] = json!("speech");
        event["data"] = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1});
        event
    };
    let answer = server.send(&[event(child), speech()]).await;
    assert_eq!(outcomes(&answer), ["accepted", "rejected"]);

    link.set(Mode::Cut);
    for path in [
        format!("parents/{}", parent.uuid()),
        format!("children/{child}"),
    ] {
        refused(server.admin_get(&path).await, 503, "unavailable").await;
    }
    let stranger = Uuid::new_v4();
    let response = server
        .post(&[event(child), speech(), event(stranger), json!({})])
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("retry-after"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(
        outcomes(&answer),
        ["accepted", "retry", "retry", "rejected"],
        "a refusal needs the registry: {answer}"
    );
    assert_eq!(answer["retry"], 2);
    refused(
        server.post(&[event(stranger), json!({})]).await,
        503,
        "unavailable",
    )
    .await;

    eventually("memory is too old for anything", async || {
        let response = server.post(&[event(child)]).await;
        response.status() == StatusCode::SERVICE_UNAVAILABLE && !server.is_ready().await
    })
    .await;
    link.set(Mode::Open);
    eventually("all is well again", async || {
        let response = server
            .post(&[event(child), speech(), event(stranger)])
            .await;
        if response.status() != StatusCode::OK {
            return false;
        }
        let answer: Value = response.json().await.unwrap();
        outcomes(&answer) == ["accepted", "rejected", "rejected"] && server.is_ready().await
    })
    .await;
    server.stop().await.unwrap();
}
