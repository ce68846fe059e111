//! Each login has what it needs and no more, on a real PostgreSQL.

use std::collections::BTreeSet;

use rivulet_migrations::{
    logins::{Login, decided, needs},
    passwords::give_password,
};
use rivulet_sandbox::TestBed;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::somebody::Somebody;

/// A database with a day and the months of partitions, and a row or two of everything.
async fn bed() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    fill(&bed).await;
    bed
}

async fn fill(bed: &TestBed) {
    let rows = "
        SELECT make_partition('event_seen', '2026-03-02'), make_partition('daily_child_metrics', '2026-03-02'),
               make_partition('learning_analytics', '2026-03-02');
        INSERT INTO parents (id, timezone, coppa) VALUES ('00000000-0000-4000-8000-000000000001', 'UTC', true);
        INSERT INTO children (id, parent_id, age_group)
            VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', 'wonder_cubs');
        INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset)
            VALUES ('aggregator', 't', 0, 'c/t', 5), ('history', 't', 0, 'c/t', 5);
        INSERT INTO consumer_ledger VALUES ('aggregator', 't', 0, 'c/t', now(), 1, 0, 0, 0),
            ('history', 't', 0, 'c/t', now(), 1, 0, 0, 0);
        INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record)
            VALUES ('history', 't', 0, 4, 'c/t', 'code', 'why', ''), ('aggregator', 't', 0, 4, 'c/t', 'code', 'why', '');
        INSERT INTO quarantine_pauses (consumer, topic, unfit, records) VALUES ('history', 't', 1, 2), ('aggregator', 't', 1, 2);
        INSERT INTO erasures (id, requested_by, subjects, tombstone)
            VALUES ('00000000-0000-4000-8000-000000000003', 'somebody', 1, 1);
        INSERT INTO erasure_stores (erasure_id, store) VALUES ('00000000-0000-4000-8000-000000000003', 'spill');
        INSERT INTO erasure_subjects VALUES
            ('00000000-0000-4000-8000-000000000003', 'parent', '00000000-0000-4000-8000-000000000001');
        INSERT INTO tombstones (number, sha256, kind, erasure_id)
            SELECT 1, tombstone_hash(id), kind, erasure_id FROM erasure_subjects;
        INSERT INTO api_keys (name, scope, sha256) VALUES ('key', 'read', sha256('key'));
        INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'unknown')";
    sqlx::raw_sql(rows).execute(&bed.pool).await.unwrap();
}

/// Role, relation, privilege, and the column where it is not of all.
type Privilege = (String, String, String, Option<String>);

fn roles() -> Vec<&'static str> {
    Login::ALL.map(Login::role).to_vec()
}

/// What the logins have of every table, view and sequence.
async fn privileges(pool: &PgPool) -> BTreeSet<Privilege> {
    let found: Vec<Privilege> = sqlx::query_as(
        "WITH relations AS (
             SELECT oid, relname::text FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
         ), whole AS (
             SELECT role, oid, relname, privilege, has_table_privilege(role, oid, privilege) AS has
             FROM relations, unnest($1::text[]) AS role,
                  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
         )
         SELECT role, relname, privilege, NULL FROM whole WHERE has
         UNION ALL
         SELECT role, relname, privilege, attname::text FROM whole JOIN pg_attribute ON attrelid = oid
         WHERE NOT has AND attnum > 0 AND NOT attisdropped AND privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
             AND has_column_privilege(role, oid, attnum, privilege)
         UNION ALL
         SELECT role, relname::text, privilege, NULL FROM pg_class, unnest($1::text[]) AS role,
                unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS privilege
         WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace AND has_sequence_privilege(role, oid, privilege)",
    )
    .bind(roles())
    .fetch_all(pool)
    .await
    .unwrap();
    found.into_iter().collect()
}

async fn names(pool: &PgPool, sql: &'static str) -> BTreeSet<String> {
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
    names.into_iter().collect()
}

#[tokio::test]
async fn each_login_has_what_it_needs_of_every_table_and_no_more() {
    let bed = bed().await;
    let pool = &bed.pool;
    let relations = names(
        pool,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
             AND relkind IN ('r', 'p', 'v', 'm', 'f') AND (NOT relispartition OR relname = 'event_seen_19700101')",
    )
    .await;
    let decided_on: BTreeSet<String> = decided().0.map(str::to_owned).collect();
    assert_eq!(
        relations, decided_on,
        "decide who needs what of a new table: in migrations/src/logins.rs, and by grants in its migration"
    );

    let mut wanted: BTreeSet<Privilege> = needs()
        .filter(|need| need.privilege != "EXECUTE")
        .map(|need| {
            let column = need.column.map(str::to_owned);
            let role = need.login.role().to_owned();
            (role, need.on.to_owned(), need.privilege.to_owned(), column)
        })
        .collect();
    // Of the other partitions nobody has anything by their own names, but who looks into the days.
    wanted.insert((
        "rivulet_aggregate".to_owned(),
        "event_seen_20260302".to_owned(),
        "SELECT".to_owned(),
        None,
    ));
    let found = privileges(pool).await;
    let (more, less): (Vec<_>, Vec<_>) = (
        found.difference(&wanted).collect(),
        wanted.difference(&found).collect(),
    );
    assert!(
        more.is_empty() && less.is_empty(),
        "too much: {more:#?}\ntoo little: {less:#?}"
    );
}

#[tokio::test]
async fn who_may_touch_a_table_is_shown_its_rows() {
    let bed = bed().await;
    // Without a policy a privilege is worth nothing, and nothing says so.
    let blind: Vec<(String, String)> = sqlx::query_as(
        "SELECT role, relname::text FROM pg_class, unnest($1::text[]) AS role
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relrowsecurity
             AND (has_any_column_privilege(role, pg_class.oid, 'SELECT, INSERT, UPDATE')
                  OR has_table_privilege(role, pg_class.oid, 'DELETE'))
             AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid
                             AND (SELECT oid FROM pg_roles WHERE rolname = role) = ANY (polroles))",
    )
    .bind(roles())
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    assert_eq!(blind, []);
}

#[tokio::test]
async fn each_login_may_call_what_it_needs_and_nothing_that_is_the_owners() {
    let bed = bed().await;
    let pool = &bed.pool;
    let closed = names(
        pool,
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND NOT has_function_privilege('public', oid, 'EXECUTE')",
    )
    .await;
    let wanted: Vec<&str> = decided().1.collect();
    let wanted: Vec<String> =
        sqlx::query_scalar("SELECT to_regprocedure(f)::text FROM unnest($1::text[]) AS f")
            .bind(wanted)
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(closed, wanted.into_iter().collect());

    let mut allowed = BTreeSet::new();
    for function in decided().1 {
        let may: Vec<String> = sqlx::query_scalar(
            "SELECT role FROM unnest($1::text[]) AS role WHERE has_function_privilege(role, $2, 'EXECUTE')",
        )
        .bind(roles())
        .bind(function)
        .fetch_all(pool)
        .await
        .unwrap();
        allowed.extend(may.into_iter().map(|role| (role, function.to_owned())));
    }
    let wanted = needs().filter(|need| need.privilege == "EXECUTE");
    let wanted: BTreeSet<_> = wanted
        .map(|need| (need.login.role().to_owned(), need.on.to_owned()))
        .collect();
    assert_eq!(allowed, wanted);

    // What runs with the owner's rights finds the owner's tables, whatever the caller has put before them.
    let open = names(
        pool,
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosecdef
             AND NOT coalesce('search_path=public, pg_temp' = ANY (proconfig), false)",
    )
    .await;
    assert_eq!(open, BTreeSet::new());
}

#[tokio::test]
async fn no_login_can_become_more_than_it_is() {
    let bed = bed().await;
    let pool = &bed.pool;
    let able: Vec<String> = sqlx::query_scalar(
        "SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1)
             AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
                  OR has_schema_privilege(oid, 'public', 'CREATE') OR NOT has_schema_privilege(oid, 'public', 'USAGE'))",
    )
    .bind(roles())
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(able, Vec::<String>::new());
    let members: Vec<(String, String)> = sqlx::query_as(
        "SELECT m.rolname::text, r.rolname::text FROM pg_auth_members
         JOIN pg_roles m ON m.oid = member JOIN pg_roles r ON r.oid = roleid WHERE m.rolname = ANY ($1)",
    )
    .bind(roles())
    .fetch_all(pool)
    .await
    .unwrap();
    let of = |member: &str, role: &str| (member.to_owned(), role.to_owned());
    assert_eq!(members, [of("rivulet_api", "rivulet_parent")]);
}

use Login::{Aggregate, Api, Auditor, Boards, Ingest, Operator, Sink};

/// What each must be able to do, with what PostgreSQL asks for behind it: triggers, locks, row-level security.
const DONE: &[(Login, &str)] = &[
    (Ingest, "SELECT name, sha256, scope FROM api_keys"),
    (
        Ingest,
        "INSERT INTO parents (id, timezone, coppa) VALUES (gen_random_uuid(), 'UTC', true)",
    ),
    (
        Ingest,
        "UPDATE parents SET coppa = false, deleted_at = now()",
    ),
    (Ingest, "SELECT FROM parents FOR UPDATE"),
    (
        Ingest,
        "INSERT INTO children SELECT gen_random_uuid(), id, 'wonder_cubs' FROM parents",
    ),
    (Ingest, "SELECT FROM consent_changes"),
    (
        Ingest,
        "INSERT INTO tombstones (number, sha256, kind, erasure_id) VALUES (9, sha256('x'), 'child', gen_random_uuid()) RETURNING number",
    ),
    (
        Ingest,
        "INSERT INTO erasures (id, requested_by, subjects, tombstone) VALUES (gen_random_uuid(), 'x', 1, 9)",
    ),
    (
        Ingest,
        "INSERT INTO erasure_subjects SELECT id, 'child', gen_random_uuid() FROM erasures",
    ),
    (
        Ingest,
        "INSERT INTO erasure_stores (erasure_id, store) SELECT id, 'kafka' FROM erasures",
    ),
    (
        Ingest,
        "INSERT INTO spills (id, host, directory) VALUES (gen_random_uuid(), 'h', 'd') ON CONFLICT (id) DO UPDATE SET host = 'h' RETURNING tombstone",
    ),
    (
        Ingest,
        "UPDATE erasure_stores SET removed = removed + 1 WHERE store = 'spill'",
    ),
    (Ingest, "SELECT days FROM retention_periods"),
    (
        Ingest,
        "INSERT INTO audit_intake (action, outcome, actor_kind, actor) SELECT 'read', 'done', 'key', name FROM api_keys",
    ),
    (Ingest, "SELECT seq FROM audit_head"),
    (
        Aggregate,
        "SELECT make_partition('event_seen', '2026-03-03'), make_partition('event_seen', '2026-03-02')",
    ),
    (
        Aggregate,
        "SELECT make_partition('learning_analytics', '2026-04-03')",
    ),
    (
        Aggregate,
        "INSERT INTO event_seen VALUES ('2026-03-02', '2026-03-02', gen_random_uuid()), ('1970-01-01', '2026-03-02', gen_random_uuid())",
    ),
    (Aggregate, "SELECT key FROM event_seen_20260302"),
    (
        Aggregate,
        "DELETE FROM event_seen_19700101 WHERE seen_on < now()",
    ),
    (Aggregate, "SELECT drop_seen_before('2026-04-01')"),
    (
        Aggregate,
        "SELECT drop_month_before('daily_child_metrics', '2026-04-01')",
    ),
    (
        Aggregate,
        "UPDATE kafka_positions SET next_offset = 6 WHERE consumer = 'aggregator' RETURNING (SELECT max(number) FROM tombstones)",
    ),
    (
        Aggregate,
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset) VALUES ('aggregator', 't', 1, 'c/t', 0) ON CONFLICT DO NOTHING",
    ),
    (
        Aggregate,
        "INSERT INTO consumer_ledger AS l VALUES ('aggregator', 't', 1, 'c/t', now(), 1, 0, 0, 0) ON CONFLICT (consumer, topic, partition, topic_incarnation, hour) DO UPDATE SET counted = l.counted + 1",
    ),
    (
        Aggregate,
        "DELETE FROM consumer_ledger WHERE consumer = 'aggregator'",
    ),
    (
        Aggregate,
        "INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record) VALUES ('aggregator', 't', 0, 4, 'c/t', 'code', 'why', '') ON CONFLICT DO NOTHING",
    ),
    (
        Aggregate,
        "INSERT INTO quarantine_pauses AS p (consumer, topic, unfit, records) VALUES ('aggregator', 't', 1, 2) ON CONFLICT (consumer, topic) DO UPDATE SET unfit = 3 RETURNING p.resumed_at",
    ),
    (
        Aggregate,
        "INSERT INTO streaks AS t SELECT gen_random_uuid(), s.*, d, 1 FROM (SELECT '{[2026-03-02,2026-03-03)}'::datemultirange) AS o (d), streak_of(d) AS s ON CONFLICT (child_id) DO UPDATE SET current_streak = t.current_streak + 1",
    ),
    (
        Aggregate,
        "SELECT FROM streaks ORDER BY child_id FOR UPDATE",
    ),
    (
        Aggregate,
        "DELETE FROM topic_progress WHERE last_seen_at < now()",
    ),
    (
        Aggregate,
        "UPDATE retention_periods SET swept_until = CURRENT_DATE WHERE class = 'daily'",
    ),
    (
        Sink,
        "UPDATE kafka_positions SET pending_end = 6 WHERE consumer = 'history' RETURNING (SELECT max(number) FROM tombstones)",
    ),
    (
        Sink,
        "INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record) VALUES ('history', 't', 0, 5, 'c/t', 'code', 'why', '') ON CONFLICT DO NOTHING",
    ),
    (
        Sink,
        "INSERT INTO withheld_seen VALUES (gen_random_uuid(), 't', 'c/t', 0, 1, CURRENT_DATE, '{}') ON CONFLICT DO NOTHING",
    ),
    (
        Sink,
        "DELETE FROM withheld_seen WHERE received_on < CURRENT_DATE",
    ),
    (
        Sink,
        "DELETE FROM consumer_ledger WHERE consumer = 'history'",
    ),
    (
        Sink,
        "DELETE FROM quarantine_pauses WHERE consumer = 'history'",
    ),
    (
        Sink,
        "SELECT min(requested_at) FROM erasures WHERE state <> 'done'",
    ),
    (
        Api,
        "SELECT p.id, p.timezone, p.streaks FROM children c JOIN parents p ON p.id = c.parent_id",
    ),
    (Api, "SELECT FROM weekly_summaries"),
    (Api, "SELECT FROM learning_metrics"),
    (Api, "SELECT FROM speech_patterns"),
    (Api, "SELECT FROM vocabulary"),
    (
        Api,
        "SELECT FROM days_within('00000000-0000-4000-8000-000000000002', '2026-01-01', '2026-12-31', 1000)",
    ),
    (
        Api,
        "SELECT FROM topic_progress; SELECT FROM consent_changes; SELECT FROM tombstones",
    ),
    (
        Api,
        "SELECT set_config('role', 'rivulet_parent', true); SELECT FROM daily_child_metrics; SELECT FROM weekly_summaries",
    ),
    (
        Api,
        "INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'unknown')",
    ),
    (
        Boards,
        "SELECT timezone, coppa FROM parents; SELECT age_group FROM children; SELECT FROM daily_child_metrics; SELECT FROM streaks",
    ),
    (
        Operator,
        "INSERT INTO api_keys (name, scope, sha256) VALUES ('another', 'read', sha256('x'))",
    ),
    (Operator, "UPDATE api_keys SET revoked_at = now()"),
    (
        Operator,
        "DELETE FROM erasure_subjects; DELETE FROM consent_changes; DELETE FROM children; DELETE FROM parents",
    ),
    (
        Operator,
        "WITH gone AS (DELETE FROM daily_child_metrics RETURNING tableoid) SELECT tableoid::regclass FROM gone",
    ),
    (
        Operator,
        "INSERT INTO erasure_rewrites VALUES ('topic_progress'::regclass), ('daily_child_metrics_202603'::regclass) ON CONFLICT DO NOTHING; SELECT rewrite_erased('topic_progress'), rewrite_erased('daily_child_metrics_202603'); DELETE FROM erasure_rewrites WHERE relation = 'topic_progress'::regclass",
    ),
    (
        Operator,
        "UPDATE erasures SET state = 'running'; UPDATE erasure_stores SET clean_at = now(); UPDATE tombstones SET is_logged = true",
    ),
    (
        Operator,
        "INSERT INTO tombstones (number, sha256, kind, erasure_id) VALUES (9, sha256('x'), 'child', gen_random_uuid())",
    ),
    (Operator, "DELETE FROM spills"),
    (
        Operator,
        "SELECT consumer, record FROM quarantine FOR UPDATE",
    ),
    (
        Operator,
        "DELETE FROM quarantine; INSERT INTO quarantine_actions (consumer, topic, partition, kafka_offset, topic_incarnation, code, action, acted_by) VALUES ('history', 't', 0, 4, 'c/t', 'code', 'dropped', 'x') ON CONFLICT (consumer, topic, partition, kafka_offset, topic_incarnation) DO UPDATE SET code = excluded.code",
    ),
    (Operator, "UPDATE quarantine_pauses SET resumed_at = now()"),
    (
        Operator,
        "UPDATE kafka_positions SET next_offset = 0; DELETE FROM consumer_ledger",
    ),
    (Operator, "SELECT FROM kafka_positions FOR UPDATE"),
    (
        Api,
        "SELECT consumer, topic, partition, next_offset FROM kafka_positions",
    ),
    (
        Api,
        "SELECT key, seen_on FROM event_seen WHERE day IN ('2026-03-02', '1970-01-01')",
    ),
    (
        Operator,
        "SELECT key FROM event_seen WHERE day = '2026-03-02'",
    ),
    (
        Operator,
        "CREATE TEMP TABLE streaks (LIKE public.streaks INCLUDING ALL) ON COMMIT DROP; CREATE TEMP TABLE topic_progress (LIKE public.topic_progress INCLUDING ALL) ON COMMIT DROP",
    ),
    (
        Operator,
        "INSERT INTO streaks SELECT gen_random_uuid(), s.*, d, 1 FROM (SELECT '{[2026-03-02,2026-03-03)}'::datemultirange) AS o (d), streak_of(d) AS s",
    ),
    (
        Operator,
        "SELECT make_partition('daily_child_metrics', '2026-05-01')",
    ),
    (
        Operator,
        "UPDATE retention_periods SET swept_until = CURRENT_DATE",
    ),
    (
        Operator,
        "INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'unknown')",
    ),
    (
        Operator,
        "SELECT FROM withheld_seen; SELECT FROM quarantine_actions; SELECT FROM learning_analytics",
    ),
    (
        Ingest,
        "UPDATE parents SET coppa = false; SELECT settle_revocations(id) FROM children; SELECT FROM revocations",
    ),
    (
        Operator,
        "DELETE FROM revocations; UPDATE revocations SET clickhouse_at = now(); SELECT settle_revocations(id) FROM children",
    ),
    (
        Sink,
        "SELECT number FROM revocation_state; SELECT FROM revocations",
    ),
    (
        Auditor,
        "SELECT FROM audit_log; SELECT FROM audit_head; SELECT FROM audit_intake",
    ),
];

/// What is another's, and the owner's alone. PostgreSQL refuses it.
const REFUSED: &[(Login, &str)] = &[
    (Ingest, "SELECT FROM daily_child_metrics"),
    (Ingest, "SELECT FROM streaks"),
    (Ingest, "UPDATE kafka_positions SET next_offset = 0"),
    (Ingest, "SELECT record FROM quarantine"),
    (
        Ingest,
        "INSERT INTO api_keys (name, scope, sha256) VALUES ('mine', 'admin', sha256('x'))",
    ),
    (Ingest, "DELETE FROM parents"),
    (Ingest, "DELETE FROM tombstones"),
    (Ingest, "UPDATE erasures SET state = 'done'"),
    (Ingest, "SELECT id FROM erasure_subjects"),
    (
        Ingest,
        "INSERT INTO consent_changes (parent_id, consent, granted, changed_at) SELECT id, 'audio', true, now() FROM parents",
    ),
    (Ingest, "SELECT FROM audit_log"),
    (Ingest, "SELECT make_partition('event_seen', '2026-03-03')"),
    (Aggregate, "SELECT FROM api_keys"),
    (Aggregate, "SELECT FROM parents"),
    (Aggregate, "UPDATE children SET parent_id = id"),
    (
        Aggregate,
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset) VALUES ('history', 't', 1, 'c/t', 0)",
    ),
    (Aggregate, "SELECT FROM quarantine"),
    (
        Aggregate,
        "INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record) VALUES ('history', 't', 0, 9, 'c/t', 'code', 'why', '')",
    ),
    (Aggregate, "SELECT FROM withheld_seen"),
    (
        Aggregate,
        "INSERT INTO tombstones (number, sha256, kind, erasure_id) VALUES (9, sha256('x'), 'child', gen_random_uuid())",
    ),
    (Aggregate, "SELECT FROM erasures"),
    (Aggregate, "UPDATE retention_periods SET days = 1"),
    (
        Aggregate,
        "INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'unknown')",
    ),
    (Aggregate, "SELECT FROM daily_child_metrics_202603"),
    (
        Aggregate,
        "INSERT INTO event_seen_20260302 VALUES ('2026-03-02', '2026-03-02', gen_random_uuid())",
    ),
    (Aggregate, "DROP TABLE event_seen_20260302"),
    (Aggregate, "ALTER TABLE streaks ADD COLUMN mine int"),
    (Aggregate, "TRUNCATE streaks"),
    (Aggregate, "CREATE TABLE mine ()"),
    (Aggregate, "SELECT rewrite_erased('streaks')"),
    (Sink, "SELECT FROM daily_child_metrics"),
    (Sink, "SELECT FROM weekly_summaries"),
    (Sink, "DELETE FROM streaks"),
    (Sink, "SELECT FROM parents"),
    (Sink, "SELECT FROM api_keys"),
    (Sink, "SELECT FROM event_seen"),
    (
        Sink,
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset) VALUES ('aggregator', 't', 1, 'c/t', 0)",
    ),
    (Sink, "SELECT requested_by FROM erasures"),
    (Sink, "SELECT FROM erasure_subjects"),
    (Sink, "UPDATE tombstones SET is_logged = true"),
    (Sink, "SELECT make_partition('event_seen', '2026-03-03')"),
    (Api, "UPDATE parents SET coppa = true"),
    (
        Api,
        "INSERT INTO children SELECT gen_random_uuid(), id, 'wonder_cubs' FROM parents",
    ),
    (Api, "DELETE FROM streaks"),
    (
        Api,
        "INSERT INTO tombstones (number, sha256, kind, erasure_id) VALUES (9, sha256('x'), 'child', gen_random_uuid())",
    ),
    (Api, "UPDATE api_keys SET scope = 'admin'"),
    (Api, "SELECT FROM quarantine"),
    (Api, "SELECT topic_incarnation FROM kafka_positions"),
    (Api, "UPDATE kafka_positions SET next_offset = 0"),
    (Api, "SELECT FROM event_seen_19700101"),
    (Api, "DELETE FROM event_seen"),
    (Api, "SELECT FROM erasures"),
    (Api, "SELECT FROM audit_log"),
    (Api, "SELECT FROM audit_intake"),
    (Api, "UPDATE audit_head SET seq = 0"),
    (Api, "SET LOCAL ROLE rivulet_operator"),
    (Boards, "SELECT FROM api_keys"),
    (Boards, "SELECT created_at FROM children"),
    (Boards, "SELECT FROM consent_changes"),
    (Boards, "SELECT FROM event_seen"),
    (Boards, "SELECT FROM quarantine"),
    (Boards, "SELECT FROM tombstones"),
    (Boards, "UPDATE parents SET analytics = true"),
    (Boards, "SET LOCAL ROLE rivulet_parent"),
    (Operator, "SELECT FROM audit_log"),
    (Operator, "DELETE FROM audit_log"),
    (Operator, "INSERT INTO audit_log SELECT"),
    (Operator, "UPDATE audit_head SET seq = 0"),
    (Operator, "SELECT audit_drop_month('2020-01-01')"),
    (Operator, "UPDATE retention_periods SET days = 1"),
    (Operator, "UPDATE consent_changes SET granted = true"),
    (Operator, "UPDATE quarantine SET record = ''"),
    (
        Operator,
        "INSERT INTO event_seen VALUES ('2026-03-02', '2026-03-02', gen_random_uuid())",
    ),
    (Operator, "UPDATE streaks SET longest_streak = 1"),
    (Operator, "DELETE FROM tombstones"),
    (
        Operator,
        "SELECT drop_month_before('daily_child_metrics', '2026-04-01')",
    ),
    (Operator, "DROP TABLE parents"),
    (Operator, "CREATE TABLE mine ()"),
    (Auditor, "SELECT FROM api_keys"),
    (Auditor, "SELECT FROM parents"),
    (Auditor, "SELECT FROM daily_child_metrics"),
    (
        Auditor,
        "INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'unknown')",
    ),
    (Auditor, "UPDATE audit_log SET actor = 'another'"),
    (Auditor, "SELECT audit_drop_month('2020-01-01')"),
];

/// What the functions of the owner do for nobody: PL/pgSQL's own errors.
const NOT_FOR_THAT: &[(Login, &str)] = &[
    (Aggregate, "SELECT make_partition('parents', '2026-03-02')"),
    (
        Aggregate,
        "SELECT make_partition('event_seen; DROP TABLE parents', '2026-03-02')",
    ),
    (
        Aggregate,
        "SELECT drop_month_before('audit_log', '2040-01-01')",
    ),
    (Operator, "SELECT rewrite_erased('parents')"),
    (
        Operator,
        "SELECT audit_expire_month(date_trunc('month', now())::date)",
    ),
];

/// Runs statements as a login, with what is done when they are committed, and takes them back.
async fn run(conn: &mut PgConnection, login: Login, statements: &str) -> Result<u64, String> {
    let role = login.role();
    let begin = format!("BEGIN; SET LOCAL SESSION AUTHORIZATION {role}");
    sqlx::raw_sql(AssertSqlSafe(begin))
        .execute(&mut *conn)
        .await
        .unwrap();
    let whole = format!("{statements}; SET CONSTRAINTS ALL IMMEDIATE");
    let done = sqlx::raw_sql(AssertSqlSafe(whole))
        .execute(&mut *conn)
        .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut *conn).await.unwrap();
    match done {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => {
            let error = error.as_database_error().unwrap();
            Err(format!("{} {}", error.code().unwrap(), error.message()))
        }
    }
}

#[tokio::test]
async fn each_login_can_do_its_work_and_not_anothers() {
    let bed = TestBed::new().await;
    // The owner is no superuser, as in a managed service: what runs with its rights has no others.
    let owner = Somebody::new(&bed, "owner").await;
    let database = &bed.clickhouse_database;
    owner
        .sql(&format!(
            "ALTER ROLE {{me}} CREATEROLE; ALTER DATABASE {database} OWNER TO {{me}}"
        ))
        .await;
    let password = "the-password-of-an-owner";
    give_password(&bed.pool, &owner.name, password)
        .await
        .unwrap();
    let owners = owner.log_in(password).await.unwrap();
    rivulet_migrations::postgres(&owners).await.unwrap();
    owners.close().await;
    fill(&bed).await;
    let mut conn = bed.pool.acquire().await.unwrap();
    for (login, statements) in DONE {
        let done = run(&mut conn, *login, statements).await;
        assert!(done.is_ok(), "{login:?}: {statements}: {done:?}");
    }
    for (login, statements) in REFUSED {
        let refused = run(&mut conn, *login, statements).await;
        let is_refused = refused.as_ref().is_err_and(|why| why.starts_with("42501 "));
        assert!(is_refused, "{login:?}: {statements}: {refused:?}");
    }
    for (login, statements) in NOT_FOR_THAT {
        let refused = run(&mut conn, *login, statements).await;
        let is_refused = refused.as_ref().is_err_and(|why| why.starts_with("P0001 "));
        assert!(is_refused, "{login:?}: {statements}: {refused:?}");
    }
    drop(conn);
    owner.sql("REASSIGN OWNED BY {me} TO CURRENT_USER").await;
    owner.dismiss().await;
}

#[tokio::test]
async fn a_consumer_reaches_its_own_positions_and_books_alone() {
    let bed = bed().await;
    let mut conn = bed.pool.acquire().await.unwrap();
    for (login, other) in [(Aggregate, "history"), (Sink, "aggregator")] {
        for statement in [
            "UPDATE kafka_positions SET next_offset = 0 WHERE consumer = '{other}'",
            "UPDATE consumer_ledger SET counted = 0 WHERE consumer = '{other}'",
            "DELETE FROM consumer_ledger WHERE consumer = '{other}'",
            "UPDATE quarantine_pauses SET resumed_at = now() WHERE consumer = '{other}'",
        ] {
            let statement = statement.replace("{other}", other);
            // The last command of several is the one whose rows are counted, so this is asked alone.
            let role = login.role();
            let begin = format!("BEGIN; SET LOCAL SESSION AUTHORIZATION {role}");
            sqlx::raw_sql(AssertSqlSafe(begin))
                .execute(&mut *conn)
                .await
                .unwrap();
            let done = sqlx::query(AssertSqlSafe(statement.clone()))
                .execute(&mut *conn)
                .await;
            sqlx::raw_sql("ROLLBACK").execute(&mut *conn).await.unwrap();
            assert_eq!(done.unwrap().rows_affected(), 0, "{login:?}: {statement}");
        }
    }
}

#[tokio::test]
async fn a_day_that_an_older_release_made_is_opened_when_it_is_needed() {
    let bed = bed().await;
    sqlx::raw_sql(
        "CREATE TABLE event_seen_20260304 (LIKE event_seen INCLUDING ALL);
         CREATE UNIQUE INDEX event_seen_20260304_key ON event_seen_20260304 (key);
         ALTER TABLE event_seen_20260304 ENABLE ROW LEVEL SECURITY;
         ALTER TABLE event_seen ATTACH PARTITION event_seen_20260304 FOR VALUES IN ('2026-03-04');
         INSERT INTO event_seen VALUES ('2026-03-04', '2026-03-04', gen_random_uuid())",
    )
    .execute(&bed.pool)
    .await
    .unwrap();
    let mut conn = bed.pool.acquire().await.unwrap();
    let read = "SELECT key FROM event_seen_20260304";
    let closed = run(&mut conn, Aggregate, read).await.unwrap_err();
    assert!(closed.starts_with("42501"), "{closed}");
    for _ in 0..2 {
        sqlx::query("SELECT make_partition('event_seen', '2026-03-04')")
            .execute(&bed.pool)
            .await
            .unwrap();
    }
    let begin = "BEGIN; SET LOCAL SESSION AUTHORIZATION rivulet_aggregate";
    sqlx::raw_sql(begin).execute(&mut *conn).await.unwrap();
    let keys: Vec<sqlx::types::Uuid> = sqlx::query_scalar(read)
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    assert_eq!(keys.len(), 1);
    sqlx::raw_sql("ROLLBACK").execute(&mut *conn).await.unwrap();
}
