//! Each request below /v1/admin leaves its row.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rivulet_ingest::Config;
use rivulet_registry::keys::{self, Scope};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, config, eventually};

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Row {
    action: String,
    outcome: String,
    actor_kind: String,
    actor: Option<String>,
    subject_kind: Option<String>,
    subjects: Vec<String>,
    times: i64,
    request_id: Option<String>,
}

async fn rows_after(server: &Server, seq: i64) -> Vec<Row> {
    sqlx::query_as(
        "SELECT action, outcome, actor_kind, actor, subject_kind, subjects, times, request_id FROM audit_log
         WHERE seq > $1 ORDER BY seq",
    )
    .bind(seq)
    .fetch_all(&server.bed.pool)
    .await
    .unwrap()
}

async fn head(server: &Server) -> i64 {
    rivulet_auditlog::head(&server.bed.pool).await.unwrap().seq
}

fn written_at_once() -> Config {
    Config {
        audit_every: Duration::from_millis(50),
        inspect: true,
        ..config()
    }
}

fn hash(id: Uuid) -> Vec<String> {
    vec![rivulet_auditlog::hex_hash(id)]
}

/// Every route of the document must have a case, whoever adds one.
#[tokio::test]
async fn each_route_below_admin_leaves_one_row() {
    let server = Server::with(written_at_once()).await;
    let name = "the backend";
    let key = keys::create(&server.bed.pool, name, Scope::Admin)
        .await
        .unwrap();
    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    let family = json!({"timezone": "Europe/Rome", "consents": {"coppa": true}});
    let of_parent = json!({"parent_id": parent, "age_group": "wonder_cubs"});
    let parents = format!("parents/{parent}");
    let children = format!("children/{child}");
    let erase = format!("{children}?erase=true");
    // Method, route of the document, path, body; status, action, subject.
    let mut cases = vec![
        (
            "PUT",
            "parents/{id}",
            parents.clone(),
            Some(family),
            204,
            "registry.put_parent",
            Some(("parent", parent)),
        ),
        (
            "PUT",
            "children/{id}",
            children.clone(),
            Some(of_parent),
            204,
            "registry.put_child",
            Some(("child", child)),
        ),
        (
            "GET",
            "parents/{id}",
            parents.clone(),
            None,
            200,
            "read",
            Some(("parent", parent)),
        ),
        (
            "GET",
            "parents/{id}/consents",
            format!("{parents}/consents"),
            None,
            200,
            "read",
            Some(("parent", parent)),
        ),
        (
            "GET",
            "children/{id}",
            children.clone(),
            None,
            200,
            "read",
            Some(("child", child)),
        ),
        (
            "GET",
            "tail",
            format!("tail?child={child}"),
            None,
            200,
            "read",
            Some(("child", child)),
        ),
        (
            "DELETE",
            "children/{id}",
            children.clone(),
            None,
            204,
            "registry.delete_child",
            Some(("child", child)),
        ),
        (
            "DELETE",
            "children/{id}",
            erase.clone(),
            None,
            202,
            "erase",
            Some(("child", child)),
        ),
        // Asked again, it is the same erasure, and somebody asked.
        (
            "DELETE",
            "children/{id}",
            erase,
            None,
            202,
            "erase",
            Some(("child", child)),
        ),
        (
            "DELETE",
            "parents/{id}",
            parents.clone(),
            None,
            204,
            "registry.delete_parent",
            Some(("parent", parent)),
        ),
        (
            "DELETE",
            "parents/{id}",
            format!("{parents}?erase=true"),
            None,
            202,
            "erase",
            Some(("parent", parent)),
        ),
    ];
    let mut asked = Vec::new();
    let mut erasure = Value::Null;
    let mut done = 0;
    while done < cases.len() {
        let (method, route, path, body, status, action, subject) = cases[done].clone();
        done += 1;
        asked.push((method.to_lowercase(), format!("/v1/admin/{route}")));
        let before = head(&server).await;
        let url = server.url(&format!("/v1/admin/{path}"));
        let mut request = server
            .client
            .request(Method::from_bytes(method.as_bytes()).unwrap(), url)
            .bearer_auth(&key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let request_id = answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        if status == 202 {
            erasure = answer.json().await.unwrap();
            let id = erasure["erasure_id"].as_str().unwrap();
            if done == cases.len() {
                cases.push((
                    "GET",
                    "erasures/{id}",
                    format!("erasures/{id}"),
                    None,
                    200,
                    "read",
                    None,
                ));
            }
        }
        eventually("the row is there", async || head(&server).await > before).await;
        // A second one would come with the next writing.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let wanted = Row {
            action: action.to_owned(),
            outcome: "done".to_owned(),
            actor_kind: "key".to_owned(),
            actor: Some(name.to_owned()),
            subject_kind: subject.map(|(kind, _)| kind.to_owned()),
            subjects: subject.map_or_else(Vec::new, |(_, id)| hash(id)),
            times: 1,
            request_id: Some(request_id),
        };
        assert_eq!(
            rows_after(&server, before).await,
            [wanted],
            "{method} {path}"
        );
    }
    assert!(erasure.is_object());

    let document = serde_json::to_value(rivulet_ingest::openapi()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let route = (method.clone(), path.clone());
            let is_admin = path.starts_with("/v1/admin/") && method != "parameters";
            assert!(
                !is_admin || asked.contains(&route),
                "{route:?} has no case here: what does it leave in the audit log?"
            );
        }
    }
    let log: String = sqlx::query_scalar("SELECT string_agg(l::text, ' ') FROM audit_log l")
        .fetch_one(&server.bed.pool)
        .await
        .unwrap();
    for id in [parent, child, server.parent, server.child] {
        assert!(!log.contains(&id.to_string()), "an id is in the audit log");
        assert!(
            !log.contains(&id.simple().to_string()),
            "an id is in the audit log"
        );
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn refusals_are_told_in_groups_and_a_flood_of_them_stays_small() {
    // Written once, at the end.
    let mut server = Server::with(Config {
        audit_every: Duration::from_secs(3_600),
        ..config()
    })
    .await;
    let nobody = Uuid::new_v4();
    let before = head(&server).await;
    let put = |key: String| {
        let url = server.url(&format!("/v1/admin/parents/{}", Uuid::new_v4()));
        let put = server.client.put(url).bearer_auth(key);
        put.json(&json!({"timezone": "Europe/Rome"})).send()
    };
    for _ in 0..100 {
        assert_eq!(
            put(server.ingest_key.clone()).await.unwrap().status(),
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            put("rvk_forged".to_owned()).await.unwrap().status(),
            StatusCode::UNAUTHORIZED
        );
    }
    // The admin's own, of somebody who is not there. The client's id for the request is as good as any text.
    let url = server.url(&format!("/v1/admin/children/{nobody}"));
    let get = server.client.get(url).bearer_auth(&server.admin_key);
    let get = get
        .header("x-request-id", nobody.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(get.status(), StatusCode::NOT_FOUND);
    server.shutdown.cancel();
    (&mut server.running).await.unwrap().unwrap();
    let rows = rows_after(&server, before).await;
    assert!(rows.iter().all(|row| row.outcome == "refused"), "{rows:?}");
    // Of each flood 16 of whom are named, and the others counted.
    assert_eq!(rows.len(), 5, "{rows:?}");
    let told: usize = rows.iter().map(|row| row.subjects.len()).sum();
    assert_eq!(told, 16 + 16 + 1);
    let of = |kind: &str, actor: Option<&str>| -> i64 {
        let mine = rows
            .iter()
            .filter(|row| row.actor_kind == kind && row.actor.as_deref() == actor);
        mine.map(|row| row.times).sum()
    };
    assert_eq!(of("key", Some(&server.ingest_key_name)), 100);
    assert_eq!(of("unknown", None), 100);
    let last = rows
        .iter()
        .find(|row| row.subjects == hash(nobody))
        .unwrap();
    assert_eq!(
        (&*last.action, last.subject_kind.as_deref()),
        ("read", Some("child"))
    );
    assert!(last.request_id.as_deref().unwrap().starts_with("sha256:"));
    assert!(
        rivulet_auditlog::verify(&server.bed.pool, &[])
            .await
            .unwrap()
            .is_whole()
    );
}
