//! Consents with their evidence, and the history of them.

use rivulet_events::{ConsentVersion, ParentId};
use rivulet_registry::{
    consents::{self, Consent, Consents, Method},
    families::{Error, put_parent},
    import,
};
use serde_json::Value;
use sqlx::PgPool;

use crate::common::{family, migrated, parent, rome};

fn consent(granted: bool, version: &str, method: Method) -> Option<Consent> {
    let version = ConsentVersion::new(version);
    Some(Consent {
        granted,
        version,
        method,
    })
}

/// Consent, granted, version and method, as they were told; all of them on one page.
async fn told(pool: &PgPool, parent: ParentId) -> Vec<String> {
    let page = consents::history(pool, parent, 0).await.unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["next"], Value::Null);
    let mut last = String::new();
    let changes = page["consents"].as_array().unwrap().iter();
    changes
        .map(|change| {
            let changed_at = change["changed_at"].as_str().unwrap().to_owned();
            assert!(changed_at >= last, "{page}");
            last = changed_at;
            ["consent", "granted", "version", "method"]
                .map(|key| change[key].to_string().replace('"', ""))
                .join(" ")
        })
        .collect()
}

#[tokio::test]
async fn the_evidence_of_a_consent_is_kept_and_the_same_again_is_no_change() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let parent = parent();
    let put = async |consents| {
        put_parent(pool, parent, rome(), consents, None)
            .await
            .unwrap();
        told(pool, parent).await
    };
    let of = |coppa| Consents {
        coppa,
        ..Consents::default()
    };
    let form = of(consent(true, "2026-01", Method::Form));
    assert_eq!(put(form).await, ["coppa true 2026-01 form"]);
    assert_eq!(put(form).await.len(), 1);
    // What is left out stays, with its evidence.
    assert_eq!(put(Consents::default()).await.len(), 1);
    let all = put(of(consent(true, "2026-02", Method::Form))).await;
    assert_eq!(all[1..], ["coppa true 2026-02 form"]);
    let all = put(of(consent(true, "2026-02", Method::TextPlus))).await;
    assert_eq!(all[2..], ["coppa true 2026-02 text-plus"]);
    let all = put(of(consent(false, "2026-02", Method::TextPlus))).await;
    assert_eq!(all[3..], ["coppa false 2026-02 text-plus"]);
    // A plain boolean has no evidence, and says so.
    let all = put(of(Some(true.into()))).await;
    assert_eq!(all[4..], ["coppa true null other"]);
    assert_eq!(put(of(Some(true.into()))).await.len(), 5);
    // What nobody was asked for is no change; what was asked for and not given is one.
    let both = Consents {
        coppa: None,
        audio: Some(false.into()),
        analytics: consent(false, "2026-02", Method::Card),
    };
    assert_eq!(put(both).await[5..], ["analytics false 2026-02 card"]);

    let line = |consents: &str| {
        let id = parent.uuid();
        format!("{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"consents\":{consents}}}")
    };
    let audio = line(
        r#"{"audio": {"granted": true, "version": "a/1", "method": "knowledge"}, "analytics": null}"#,
    );
    for _ in 0..2 {
        import(audio.as_bytes(), pool).await.unwrap();
        assert_eq!(told(pool, parent).await[6..], ["audio true a/1 knowledge"]);
    }
    import(line(r#"{"audio": true}"#).as_bytes(), pool)
        .await
        .unwrap();
    assert_eq!(told(pool, parent).await[7..], ["audio true null other"]);
    for (consent, expected) in [
        (r#"{"version": "1"}"#, "/consents/audio/granted: must be"),
        (
            r#"{"granted": true, "method": "fax"}"#,
            "/consents/audio/method: must be one of form",
        ),
        (
            r#"{"granted": true, "version": "a b"}"#,
            "/consents/audio/version: must be 1 to 64",
        ),
    ] {
        let line = line(&format!("{{\"audio\": {consent}}}"));
        let error = import(line.as_bytes(), pool).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let nobody = consents::history(pool, crate::common::parent(), 0).await;
    assert!(matches!(nobody, Err(Error::NotFound)));
}

/// As a release of before writes it, and as a hand does.
#[tokio::test]
async fn a_parent_without_evidence_has_no_version_and_another_method() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let parent = parent();
    sqlx::query("INSERT INTO parents (id, timezone, coppa, analytics) VALUES ($1, 'Europe/Rome', true, false)")
        .bind(parent.uuid())
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(told(pool, parent).await, ["coppa true null other"]);
}

#[tokio::test]
async fn the_history_of_consents_only_grows() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (kept, _) = family(pool).await;
    let (erased, _) = family(pool).await;
    for statement in [
        "UPDATE consent_changes SET changed_at = now() WHERE parent_id = $1",
        "UPDATE consent_changes SET granted = granted WHERE parent_id = $1",
        "DELETE FROM consent_changes WHERE parent_id = $1",
        "WITH of AS (SELECT $1::uuid) INSERT INTO consent_changes (parent_id, consent, granted, version, changed_at)
         SELECT *, 'coppa', true, 'no version', now() FROM of",
    ] {
        let done = sqlx::query(statement)
            .bind(kept.uuid())
            .execute(pool)
            .await;
        assert!(done.is_err(), "{statement}");
    }
    let emptied = sqlx::query("TRUNCATE consent_changes").execute(pool).await;
    let error = emptied.unwrap_err().to_string();
    assert!(error.contains("consent_changes only grows"), "{error}");

    // Only an erasure takes it away, whose tombstone comes first.
    let tombstone = "INSERT INTO tombstones (number, sha256, kind, erasure_id)
                     VALUES (1, tombstone_hash($1), 'parent', gen_random_uuid())";
    sqlx::query(tombstone)
        .bind(erased.uuid())
        .execute(pool)
        .await
        .unwrap();
    for parent in [erased, kept] {
        let gone = sqlx::query("DELETE FROM consent_changes WHERE parent_id = $1")
            .bind(parent.uuid())
            .execute(pool)
            .await;
        assert_eq!(gone.is_ok(), parent == erased);
    }
    assert_eq!(told(pool, kept).await, ["coppa true null other"]);
}

#[tokio::test]
async fn a_long_history_is_told_by_the_page() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (parent, _) = family(pool).await;
    // With the first: two pages and a bit.
    let changes = 2 * consents::PAGE + 5;
    sqlx::query(
        "DO $$ BEGIN FOR number IN 2..2005 LOOP UPDATE parents SET coppa_version = number::text; END LOOP; END $$",
    )
    .execute(pool)
    .await
    .unwrap();
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = consents::history(pool, parent, after).await.unwrap();
        let page: Value = serde_json::from_str(&page).unwrap();
        let versions = page["consents"].as_array().unwrap().iter();
        seen.extend(versions.map(|change| change["version"].as_str().unwrap_or("1").to_owned()));
        match page["next"].as_i64() {
            Some(next) => after = next,
            None => break,
        }
    }
    let expected: Vec<_> = (1..=changes).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
}
