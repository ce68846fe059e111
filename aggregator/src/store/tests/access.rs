//! Row-level security: what the role `rivulet_parent` can reach at all.

use rivulet_events::InteractionAction;
use rivulet_sandbox::TestBed;
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use uuid::Uuid;

use super::{Store, commit, database};
use crate::common::{child, event, interaction, parts, speech};

/// Everything a parent may read.
const READABLE: [&str; 9] = [
    "children",
    "daily_child_metrics",
    "learning_analytics",
    "learning_metrics",
    "speech_patterns",
    "streaks",
    "topic_progress",
    "vocabulary",
    "weekly_summaries",
];

/// Two families with a child each, who did the same.
async fn families() -> (TestBed, [Uuid; 2]) {
    let bed = database().await;
    let parents = [Uuid::new_v4(), Uuid::new_v4()];
    for (parent, number) in parents.iter().zip([1, 2]) {
        sqlx::query("INSERT INTO parents (id, timezone) VALUES ($1, 'Europe/Rome')")
            .bind(parent)
            .execute(&bed.pool)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $2, 'wonder_cubs')",
        )
        .bind(child(number).uuid())
        .bind(parent)
        .execute(&bed.pool)
        .await
        .unwrap();
    }
    let mut events = Vec::new();
    for number in [1, 2] {
        let mut answer = interaction(InteractionAction::Answer);
        if let rivulet_events::Data::Interaction(data) = &mut answer {
            data.topic = Some("fractions".into());
        }
        let mut talk = speech(2);
        if let rivulet_events::Data::Speech(data) = &mut talk {
            data.window_ms = 600_000;
        }
        events.extend([event(number, 0, answer), event(number, 0, talk)]);
    }
    commit(&mut Store::new(bed.pool.clone()), parts(&events))
        .await
        .unwrap();
    (bed, parents)
}

/// A transaction as the role, with the setting given.
async fn as_parent(bed: &TestBed, setting: Option<&str>) -> Transaction<'static, Postgres> {
    let mut tx = bed.pool.begin().await.unwrap();
    sqlx::query("SET LOCAL ROLE rivulet_parent")
        .execute(&mut *tx)
        .await
        .unwrap();
    if let Some(setting) = setting {
        sqlx::query("SELECT set_config('rivulet.parent_id', $1, true)")
            .bind(setting)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx
}

async fn streak_of_child(tx: &mut Transaction<'static, Postgres>, number: u8) -> i64 {
    sqlx::query_scalar("SELECT streak_as_of($1, '2025-11-03')")
        .bind(child(number).uuid())
        .fetch_one(&mut **tx)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_parent_sees_the_own_children_and_nothing_else() {
    let (bed, parents) = families().await;
    for (parent, own, other) in [(parents[0], 1, 2), (parents[1], 2, 1)] {
        let mut tx = as_parent(&bed, Some(&parent.to_string())).await;
        for relation in READABLE {
            let id = if relation == "children" {
                "id"
            } else {
                "child_id"
            };
            let sql = format!("SELECT DISTINCT {id} FROM {relation}");
            let seen: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_all(&mut *tx)
                .await
                .unwrap();
            assert_eq!(seen, [child(own).uuid()], "{relation}");
        }
        assert_eq!(streak_of_child(&mut tx, own).await, 1);
        assert_eq!(streak_of_child(&mut tx, other).await, 0);
    }
}

#[tokio::test]
async fn without_a_parent_nothing_is_seen() {
    let (bed, parents) = families().await;
    let stranger = Uuid::new_v4().to_string();
    for setting in [None, Some(""), Some(stranger.as_str())] {
        let mut tx = as_parent(&bed, setting).await;
        for relation in READABLE {
            let column = if relation == "children" {
                "id"
            } else {
                "child_id"
            };
            let sql = format!("SELECT count({column}) FROM {relation}");
            let seen: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            assert_eq!(seen, 0, "{relation} with {setting:?}");
        }
        assert_eq!(streak_of_child(&mut tx, 1).await, 0);
    }
    // A pooled connection after a SET LOCAL has the setting, empty.
    let mut conn = bed.pool.acquire().await.unwrap();
    let set = format!(
        "BEGIN; SET LOCAL rivulet.parent_id = '{}'; COMMIT; SET ROLE rivulet_parent",
        parents[0]
    );
    sqlx::raw_sql(AssertSqlSafe(set))
        .execute(&mut *conn)
        .await
        .unwrap();
    let (setting, seen): (Option<String>, i64) = sqlx::query_as(
        "SELECT current_setting('rivulet.parent_id', true), count(*) FROM daily_child_metrics",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    assert_eq!((setting.as_deref(), seen), (Some(""), 0));
    sqlx::query("RESET ROLE").execute(&mut *conn).await.unwrap();
}

#[tokio::test]
async fn a_parent_has_no_other_privilege_on_anything() {
    let (bed, parents) = families().await;
    let reachable: Vec<(String, String)> = sqlx::query_as(
        "SELECT relname::text, privilege FROM pg_class,
             unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
             AND has_any_column_privilege('rivulet_parent', oid, privilege)
         UNION ALL
         SELECT relname::text, privilege FROM pg_class,
             unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) privilege
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
             AND has_table_privilege('rivulet_parent', oid, privilege)
         ORDER BY 1",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let expected: Vec<_> = READABLE
        .iter()
        .map(|name| ((*name).to_owned(), "SELECT".to_owned()))
        .collect();
    assert_eq!(reachable, expected);
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'children'::regclass AND attnum > 0
             AND has_column_privilege('rivulet_parent', attrelid, attnum, 'SELECT') ORDER BY attnum",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    assert_eq!(columns, ["id", "parent_id"]);

    // Each partition is locked twice: without a grant, and with one there is no policy.
    let partitions: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    assert!(
        partitions.contains(&"daily_child_metrics_202511".to_owned()),
        "{partitions:?}"
    );
    for partition in partitions {
        let select = format!("SELECT count(*) FROM {partition}");
        let mut tx = as_parent(&bed, Some(&parents[0].to_string())).await;
        let refused = sqlx::query(AssertSqlSafe(select.clone()))
            .execute(&mut *tx)
            .await
            .unwrap_err();
        let code = refused
            .as_database_error()
            .and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{partition}");
        drop(tx);

        let mut tx = bed.pool.begin().await.unwrap();
        let grant = format!("GRANT SELECT ON {partition} TO rivulet_parent");
        sqlx::query(AssertSqlSafe(grant))
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!(
            "SET LOCAL ROLE rivulet_parent; SET LOCAL rivulet.parent_id = '{}'",
            parents[0]
        )))
        .execute(&mut *tx)
        .await
        .unwrap();
        let seen: i64 = sqlx::query_scalar(AssertSqlSafe(select))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(seen, 0, "{partition}");
    }
}

#[tokio::test]
async fn the_role_may_be_there_already() {
    // Every other test of this cluster makes it too, some of them at this moment.
    let beds = tokio::join!(TestBed::new(), TestBed::new());
    let (one, other) = tokio::join!(
        rivulet_migrations::postgres(&beds.0.pool),
        rivulet_migrations::postgres(&beds.1.pool),
    );
    one.and(other).unwrap();
}
