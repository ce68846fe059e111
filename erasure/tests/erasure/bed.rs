//! The stores of an erasure, with families in them.

use std::time::Duration;

use rivulet_erasure::{Stores, status, work};
use rivulet_kafka::{TopicPlan, create_topics};
use rivulet_registry::tombstones;
use rivulet_sandbox::TestBed;
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) struct Bed {
    /// With the operator's login.
    pub(crate) stores: Stores,
    pub(crate) bed: TestBed,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let bed = TestBed::new().await;
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        let database = bed.clickhouse_database.clone();
        rivulet_migrations::clickhouse(&bed.clickhouse, &database)
            .await
            .unwrap();
        create_topics(&bed.cluster, &TopicPlan::default())
            .await
            .unwrap();
        let stores = Stores {
            pool: bed.pool_as("rivulet_operator", 8),
            clickhouse: bed.clickhouse.clone(),
            cluster: bed.cluster.clone(),
        };
        Self { stores, bed }
    }

    /// The owner's.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.bed.pool
    }

    /// A family with so many children, each with something in every table.
    pub(crate) async fn family(&self, children: usize) -> (Uuid, Vec<Uuid>) {
        let parent = Uuid::new_v4();
        let children: Vec<Uuid> = (0..children).map(|_| Uuid::new_v4()).collect();
        for statement in [
            "INSERT INTO parents (id, timezone, coppa) SELECT $1, 'UTC', true WHERE $2 IS NOT NULL",
            "INSERT INTO children (id, parent_id, age_group) SELECT unnest($2), $1, 'wonder_cubs'",
            "INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms, messages,
                 questions_asked, conversations, first_seen_at, last_seen_at, withheld_events)
             SELECT unnest($2), 'numbers', 1, 0, 0, 0, 0, 0, 0, now(), now(), 0 WHERE $1 IS NOT NULL",
            "INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record)
             SELECT 'history', 't', 0, number, 'c/' || $1, 'malformed_record', 'it is cut off',
                    convert_to('{\"child_id\": \"' || upper(id::text) || '\", ', 'UTF8') || '\\x00ff'::bytea
             FROM unnest($2) WITH ORDINALITY AS child (id, number)",
        ] {
            sqlx::query(statement)
                .bind(parent)
                .bind(&children)
                .execute(self.pool())
                .await
                .unwrap();
        }
        self.put_back_clickhouse(parent, &children).await;
        (parent, children)
    }

    /// Its rows of the history, and what ClickHouse knew before it was cleaned of them.
    pub(crate) async fn put_back_clickhouse(&self, parent: Uuid, children: &[Uuid]) {
        let list: Vec<_> = children.iter().map(|id| format!("'{id}'")).collect();
        for statement in [
            "TRUNCATE TABLE erased_to".to_owned(),
            format!(
                "INSERT INTO events (event_id, event_type, id_day, child_id, parent_id, received_at, event_time)
                 SELECT generateUUIDv4(), 'session', today(), toUUID(child), '{parent}', now(), now()
                 FROM (SELECT arrayJoin([{}]) AS child) AS children, numbers(3) AS number",
                list.join(",")
            ),
            format!(
                "INSERT INTO child_day_rollup (local_date, child_id, last_received_at)
                 SELECT today(), toUUID(arrayJoin([{}])), now()",
                list.join(",")
            ),
        ] {
            self.stores.clickhouse.query_raw(&statement).execute().await.unwrap();
        }
    }

    /// Every row of PostgreSQL that an erasure touches, by table.
    pub(crate) async fn back_up(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut tables = Vec::new();
        for table in [
            "parents",
            "children",
            "consent_changes",
            "topic_progress",
            "quarantine",
        ] {
            let rows = sqlx::AssertSqlSafe(format!("SELECT json_agg(t) FROM {table} t"));
            tables.push((
                table,
                sqlx::query_scalar(rows)
                    .fetch_one(self.pool())
                    .await
                    .unwrap(),
            ));
        }
        tables
    }

    pub(crate) async fn put_back_postgres(&self, backup: &[(&str, serde_json::Value)]) {
        // Consents only grow, but where a database is put back.
        sqlx::query("ALTER TABLE consent_changes DISABLE TRIGGER USER")
            .execute(self.pool())
            .await
            .unwrap();
        let empty = "TRUNCATE tombstones, erasures, erasure_subjects, erasure_stores, erasure_rewrites,
                     parents, children, consent_changes, topic_progress, quarantine, quarantine_actions";
        sqlx::query(empty).execute(self.pool()).await.unwrap();
        for (table, rows) in backup {
            let columns: String = sqlx::query_scalar(
                "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
                 WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            )
            .bind(table)
            .fetch_one(self.pool())
            .await
            .unwrap();
            // Consents are also noted by a trigger.
            let insert = format!(
                "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
                 SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1) ON CONFLICT DO NOTHING"
            );
            sqlx::query(sqlx::AssertSqlSafe(insert))
                .bind(rows)
                .execute(self.pool())
                .await
                .unwrap();
        }
        sqlx::query("ALTER TABLE consent_changes ENABLE TRIGGER USER")
            .execute(self.pool())
            .await
            .unwrap();
    }

    pub(crate) async fn rows(&self) -> (i64, i64, u64) {
        let rows: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM topic_progress) + (SELECT count(*) FROM children), (SELECT count(*) FROM quarantine)",
        )
        .fetch_one(self.pool())
        .await
        .unwrap();
        let query = "SELECT assumeNotNull((SELECT count() FROM events) + (SELECT count() FROM child_day_rollup))";
        let history = self
            .stores
            .clickhouse
            .query(query)
            .fetch_one()
            .await
            .unwrap();
        (rows.0, rows.1, history)
    }

    /// As a consumer's transaction does it.
    pub(crate) async fn read(&self, of: &mut tombstones::Tombstones) -> Result<(), sqlx::Error> {
        let mut conn = self.pool().acquire().await.unwrap();
        let newest = tombstones::newest(&mut conn).await?;
        of.read(&mut conn, newest).await
    }

    /// Waits until a transaction waits for another one's lock on a row.
    pub(crate) async fn wait_for_lock(&self) {
        let waits =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')";
        while !sqlx::query_scalar::<_, bool>(waits)
            .fetch_one(self.pool())
            .await
            .unwrap()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Works until it is done.
    pub(crate) async fn finish(&self, erasure: Uuid) {
        for _ in 0..100 {
            work(&self.stores).await.unwrap();
            if status(self.pool(), erasure).await.unwrap().unwrap().state == "done" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}", status(self.pool(), erasure).await);
    }
}
