//! The registry's tables and the rules for changing them.

use rivulet_events::{ParentId, data::AgeGroup};
use rivulet_registry::{
    ImportError, Imported,
    consents::Consents,
    families::{Error, delete_child, delete_parent, put_child, put_parent},
    import, keys,
};
use rivulet_zones::Zone;
use sqlx::PgPool;

use crate::common::{child, coppa, family, migrated, parent, rome};

async fn granted(pool: &PgPool, parent: ParentId) -> (bool, bool, bool) {
    sqlx::query_as("SELECT coppa, audio, analytics FROM parents WHERE id = $1")
        .bind(parent.uuid())
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn history(pool: &PgPool, parent: ParentId) -> Vec<(String, bool)> {
    sqlx::query_as(
        "SELECT consent, granted FROM consent_changes WHERE parent_id = $1 ORDER BY changed_at, id",
    )
    .bind(parent.uuid())
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn consents_left_out_stay_and_every_change_is_remembered() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let parent = parent();
    put_parent(pool, parent, rome(), coppa(true), None)
        .await
        .unwrap();
    assert_eq!(granted(pool, parent).await, (true, false, false));

    let audio = Consents {
        audio: Some(true.into()),
        ..Consents::default()
    };
    put_parent(
        pool,
        parent,
        Zone::named("America/New_York").unwrap(),
        audio,
        None,
    )
    .await
    .unwrap();
    assert_eq!(granted(pool, parent).await, (true, true, false));
    put_parent(
        pool,
        parent,
        Zone::named("America/New_York").unwrap(),
        audio,
        None,
    )
    .await
    .unwrap();
    put_parent(pool, parent, rome(), coppa(false), None)
        .await
        .unwrap();
    assert_eq!(granted(pool, parent).await, (false, true, false));

    let expected = [("coppa", true), ("audio", true), ("coppa", false)];
    let expected = expected.map(|(name, granted)| (name.to_owned(), granted));
    assert_eq!(history(pool, parent).await, expected);
}

#[tokio::test]
async fn children_need_a_living_parent_and_may_move() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (first, kid) = family(pool).await;
    let unknown = put_child(pool, child(), parent(), AgeGroup::MindMasters).await;
    assert!(matches!(unknown, Err(Error::UnknownParent)));

    let second = parent();
    put_parent(pool, second, rome(), coppa(true), None)
        .await
        .unwrap();
    put_child(pool, kid, second, AgeGroup::MindMasters)
        .await
        .unwrap();
    delete_parent(pool, first).await.unwrap();
    put_child(pool, kid, second, AgeGroup::WonderCubs)
        .await
        .unwrap();
    let orphan = put_child(pool, child(), first, AgeGroup::WonderCubs).await;
    assert!(matches!(orphan, Err(Error::DeletedParent)));
}

#[tokio::test]
async fn deletion_is_final_covers_the_children_and_may_be_repeated() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (first, kid) = family(pool).await;
    let (second, other) = family(pool).await;
    delete_parent(pool, first).await.unwrap();
    delete_parent(pool, first).await.unwrap();
    let again = put_parent(pool, first, rome(), coppa(true), None).await;
    assert!(matches!(again, Err(Error::Deleted)));
    // Nor can one of its children be saved by moving it.
    let moved = put_child(pool, kid, second, AgeGroup::WonderCubs).await;
    assert!(matches!(moved, Err(Error::Deleted)));

    delete_child(pool, other).await.unwrap();
    delete_child(pool, other).await.unwrap();
    let again = put_child(pool, other, second, AgeGroup::WonderCubs).await;
    assert!(matches!(again, Err(Error::Deleted)));
    assert!(matches!(
        delete_child(pool, child()).await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        delete_parent(pool, parent()).await,
        Err(Error::NotFound)
    ));
}

#[tokio::test]
async fn an_import_is_many_puts() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let parents: Vec<_> = (0..700).map(|_| parent()).collect();
    let lines: String = parents
        .iter()
        .map(|parent| {
            format!(
                "{{\"parent_id\":\"{}\",\"timezone\":\"Europe/Rome\",\"consents\":{{\"coppa\":true}},\
                 \"children\":[{{\"child_id\":\"{}\",\"age_group\":\"wonder_cubs\"}},\
                 {{\"child_id\":\"{}\",\"age_group\":\"mind_masters\"}}]}}\n\n",
                parent.uuid(), child().uuid(), child().uuid()
            )
        })
        .collect();
    let twice = format!("{lines}{lines}");
    let imported = import(twice.as_bytes(), pool).await.unwrap();
    assert_eq!(
        imported,
        Imported {
            parents: 1_400,
            children: 2_800
        }
    );
    let rows: (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM parents), (SELECT count(*) FROM children)")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!(rows, (700, 1_400));

    // A consent that the line leaves out stays.
    let line = format!(
        "{{\"parent_id\":\"{}\",\"timezone\":\"Asia/Tokyo\",\"consents\":{{\"audio\":true}}}}",
        parents[0].uuid()
    );
    // As some programs write a file.
    let marked = format!("\u{feff}\n\u{feff}{line}\n");
    let imported = import(marked.as_bytes(), pool).await.unwrap();
    assert_eq!(imported.parents, 1);
    assert_eq!(granted(pool, parents[0]).await, (true, true, false));
    let zone: String = sqlx::query_scalar("SELECT timezone FROM parents WHERE id = $1")
        .bind(parents[0].uuid())
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(zone, "Asia/Tokyo");
}

#[tokio::test]
async fn streaks_are_shown_until_they_are_switched_off_and_that_stays() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let parent = parent();
    let put = async |streaks| {
        let none = Consents::default();
        put_parent(pool, parent, rome(), none, streaks)
            .await
            .unwrap();
        shown(pool, parent).await
    };
    assert!(put(None).await);
    assert!(!put(Some(false)).await);
    assert!(!put(None).await);
    let line = |more: &str| {
        let id = parent.uuid();
        format!("{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\"{more}}}")
    };
    import(line("").as_bytes(), pool).await.unwrap();
    assert!(!shown(pool, parent).await);
    import(line(",\"streaks\":true").as_bytes(), pool)
        .await
        .unwrap();
    assert!(shown(pool, parent).await);
    let wrong = import(line(",\"streaks\":1").as_bytes(), pool).await;
    assert!(wrong.unwrap_err().to_string().contains("/streaks: must be"));
}

async fn shown(pool: &PgPool, parent: ParentId) -> bool {
    sqlx::query_scalar("SELECT streaks FROM parents WHERE id = $1")
        .bind(parent.uuid())
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_import_names_the_line_and_undoes_its_chunk() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let (dead, kid) = family(pool).await;
    let good = |id: ParentId| {
        format!(
            "{{\"parent_id\":\"{}\",\"timezone\":\"Europe/Rome\"}}\n",
            id.uuid()
        )
    };
    let failure = async |last: &str| -> ImportError {
        let text = format!("{}{}{last}", good(parent()), good(parent()));
        import(text.as_bytes(), pool).await.unwrap_err()
    };
    let before: i64 = sqlx::query_scalar("SELECT count(*) FROM parents")
        .fetch_one(pool)
        .await
        .unwrap();
    let id = parent().uuid();
    for (line, expected) in [
        ("nonsense".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "/parent_id: must be a UUID"),
        (
            format!(
                "{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"consents\":{{\"coppa\":false,\"coppa\":true}}}}"
            ),
            "a key is given twice",
        ),
        (
            format!(
                "{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"children\":[],\"children\":null}}"
            ),
            "a key is given twice",
        ),
        (
            format!("{{\"parent_id\":\"{id}\",\"timezone\":\"Mars/Base\"}}"),
            "/timezone: must be",
        ),
        (
            format!(
                "{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"consents\":{{\"adio\":true}}}}"
            ),
            "/consents/adio: unknown consent",
        ),
        (
            format!(
                "{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"children\":[{{\"child_id\":\"{id}\",\"age_group\":\"teens\"}}]}}"
            ),
            "/children/0/age_group: must be one of",
        ),
        (
            format!(
                "{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"children\":[\
                 {{\"child_id\":\"{id}\",\"age_group\":\"wonder_cubs\"}},\
                 {{\"child_id\":\"{id}\",\"age_group\":\"mind_masters\"}}]}}"
            ),
            "/children/1/child_id: is given twice",
        ),
    ] {
        let error = failure(&line).await;
        assert_eq!(error.line, 3, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    delete_parent(pool, dead).await.unwrap();
    let error = failure(&good(dead)).await;
    assert!(
        error.to_string().contains("line 3: the parent was deleted"),
        "{error}"
    );
    let line = format!(
        "{{\"parent_id\":\"{id}\",\"timezone\":\"Europe/Rome\",\"children\":[{{\"child_id\":\"{}\",\"age_group\":\"wonder_cubs\"}}]}}",
        kid.uuid()
    );
    let error = failure(&line).await;
    assert!(
        error
            .to_string()
            .contains("line 3: /children/0 was deleted"),
        "{error}"
    );

    let after: i64 = sqlx::query_scalar("SELECT count(*) FROM parents")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let key = keys::create(pool, "backend", keys::Scope::Admin)
        .await
        .unwrap();
    let other = keys::create(pool, "tablet", keys::Scope::Ingest)
        .await
        .unwrap();
    assert!(key.starts_with("rvk_") && key.len() == 47 && key != other);
    let taken = keys::create(pool, "backend", keys::Scope::Ingest).await;
    assert!(taken.unwrap_err().to_string().contains("`backend` already"));
    for name in ["", "  ", "a\nb", &"x".repeat(101)] {
        let bad = keys::create(pool, name, keys::Scope::Ingest).await;
        assert!(matches!(bad, Err(keys::Error::BadName)), "{name:?}");
    }
    let everything: String = sqlx::query_scalar("SELECT string_agg(k::text, ' ') FROM api_keys k")
        .fetch_one(pool)
        .await
        .unwrap();
    assert!(!everything.contains(&key));

    keys::revoke(pool, "tablet").await.unwrap();
    keys::revoke(pool, "tablet").await.unwrap();
    let unknown = keys::revoke(pool, "phone").await.unwrap_err();
    assert!(unknown.to_string().contains("no key named `phone`"));
    let listed: Vec<_> = keys::list(pool).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|key| (key.name.as_str(), key.grant.scope, key.revoked_at.is_some()))
        .collect();
    assert_eq!(
        listed,
        [
            ("backend", keys::Scope::Admin, false),
            ("tablet", keys::Scope::Ingest, true)
        ]
    );
}
