//! Who reads what of whom is in the audit log.

use std::time::Duration;

use rivulet_auditlog::hex_hash;
use rivulet_dashboards::Config;
use uuid::Uuid;

use crate::common::{Api, today};

type Row = (
    String,
    String,
    Option<String>,
    Vec<String>,
    i64,
    String,
    String,
);

async fn rows(api: &Api) -> Vec<Row> {
    sqlx::query_as(
        "SELECT outcome, actor_kind, actor, subjects, times, subject_kind, details::text FROM audit_log
         WHERE action = 'read' ORDER BY actor_kind, actor, outcome, times",
    )
    .fetch_all(&api.bed.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn reads_are_told_by_viewer_kind_and_child() {
    let api = Api::with(Config {
        audit_every: Duration::from_secs(3_600),
        ..Config::default()
    })
    .await;
    let (mine, other) = (api.family(&[today()]).await, api.family(&[today()]).await);
    let child = |id: Uuid, what: &str| format!("/v1/children/{id}/{what}");
    for _ in 0..2 {
        for what in ["daily", "streak"] {
            api.json(&mine.token, &child(mine.child, what)).await;
        }
        api.json(&api.key, &child(other.child, "topics")).await;
        api.json(&api.key, &child(mine.child, "topics")).await;
    }
    api.json(&mine.token, &format!("/v1/families/{}", mine.parent))
        .await;
    assert_eq!(
        api.refusal(&mine.token, &child(other.child, "daily"))
            .await
            .0,
        404
    );
    assert_eq!(
        api.refusal("rvk_forged", &child(mine.child, "daily"))
            .await
            .0,
        401
    );
    let pool = api.bed.pool.clone();
    api.shutdown_and_wait().await;

    let token = Some(hex_hash(mine.parent));
    let mut both = vec![hex_hash(mine.child), hex_hash(other.child)];
    both.sort_unstable();
    let one = |id: Uuid| vec![hex_hash(id)];
    let row = |outcome: &str,
               kind: &str,
               actor: Option<String>,
               subjects,
               times,
               of: &str,
               details: &str|
     -> Row {
        (
            outcome.into(),
            kind.into(),
            actor,
            subjects,
            times,
            of.into(),
            details.into(),
        )
    };
    assert_eq!(
        rows(&api).await,
        [
            row(
                "done",
                "key",
                Some("product".into()),
                both,
                4,
                "child",
                r#"{"kinds":["topics"]}"#
            ),
            row(
                "done",
                "token",
                token.clone(),
                one(mine.parent),
                1,
                "parent",
                r#"{"kinds":["family"]}"#
            ),
            row(
                "done",
                "token",
                token.clone(),
                one(mine.child),
                4,
                "child",
                r#"{"kinds":["daily","streak"]}"#
            ),
            row(
                "refused",
                "token",
                token,
                one(other.child),
                1,
                "child",
                r#"{"reasons":["not_found"]}"#
            ),
            row(
                "refused",
                "unknown",
                None,
                one(mine.child),
                1,
                "child",
                r#"{"reasons":["unauthorized"]}"#
            ),
        ]
    );
    let log: String = sqlx::query_scalar("SELECT string_agg(l::text, ' ') FROM audit_log l")
        .fetch_one(&pool)
        .await
        .unwrap();
    for id in [mine.parent, mine.child, other.parent, other.child] {
        assert!(!log.contains(&id.to_string()), "an id is in the audit log");
    }
    assert!(
        rivulet_auditlog::verify(&pool, &[])
            .await
            .unwrap()
            .is_whole()
    );
}
