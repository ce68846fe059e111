//! The chain on a real PostgreSQL: what it refuses, what it finds, and who waits for whom.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so"
)]

use std::{sync::Arc, time::Duration};

use chrono::NaiveDate;
use rivulet_auditlog::{
    Acting, Action, Actor, Entry, Filter, Groups, NotedHead, Outcome, Subject, Verified, acting,
    drop_months_before, head, identify, keep, list, record, record_now, verify,
};
use rivulet_sandbox::TestBed;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn migrated() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    bed
}

async fn run(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(pool).await.map(drop)
}

/// As a superuser who switches triggers off.
async fn tamper(pool: &PgPool, sql: &str) {
    let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
    run(pool, &sql).await.unwrap();
}

/// Six rows, with all that a row may have.
async fn six(pool: &PgPool) {
    let entries = [
        Entry::done(Action::PutParent)
            .parent(Uuid::new_v4())
            .detail("coppa", true),
        Entry::done(Action::KeysCreate).about("key", ["schlüssel \"1\", {x}"]),
        Entry::done(Action::Erase).children((0..600).map(|_| Uuid::new_v4())),
        Entry::done(Action::Import),
    ];
    for entry in entries {
        record_now(pool, entry).await.unwrap();
    }
    let request = Acting::request(b"from a client", false);
    let by_key = async {
        identify(|| Actor::Key([7; 32]));
        record_now(pool, Entry::done(Action::PutChild).child(Uuid::new_v4()))
            .await
            .unwrap();
    };
    acting(request, by_key).await;
}

async fn whole(pool: &PgPool) -> Verified {
    let verified = verify(pool, &[]).await.unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    verified
}

#[tokio::test]
async fn whatever_is_done_to_a_row_is_found_and_named() {
    let bed = migrated().await;
    let pool = &bed.pool;
    assert_eq!(whole(pool).await.rows, 0);
    six(pool).await;
    // 600 subjects are two rows.
    let verified = whole(pool).await;
    assert_eq!(
        (verified.rows, verified.first, verified.head),
        (6, Some(1), 6)
    );
    let noted: NotedHead = format!("{}:{}", verified.head, &verified.head_hash[..12])
        .parse()
        .unwrap();
    run(pool, "CREATE TABLE kept AS SELECT * FROM audit_log; CREATE TABLE kept_head AS SELECT * FROM audit_head")
        .await
        .unwrap();
    let forged = |seq: i32| {
        format!(
            "CREATE TEMP TABLE forged (LIKE audit_log) ON COMMIT DROP;
             INSERT INTO forged SELECT * FROM audit_log WHERE seq = 4;
             UPDATE forged SET seq = {seq}, at = at + interval '1 us', actor = 'somebody else',
                 previous = (SELECT l.hash FROM audit_log l WHERE l.seq = {seq} - 1);
             UPDATE forged SET hash = audit_hash(ROW (forged.*)::audit_log);
             INSERT INTO audit_log SELECT * FROM forged"
        )
    };
    let new_hashes_from = |first: i32| {
        format!(
            "DO $$ BEGIN FOR n IN {first}..6 LOOP
                 UPDATE audit_log SET previous = (SELECT hash FROM audit_log WHERE seq = n - 1) WHERE seq = n AND n > 1;
                 UPDATE audit_log SET hash = audit_hash(audit_log) WHERE seq = n;
             END LOOP; END $$;
             UPDATE audit_head SET hash = (SELECT hash FROM audit_log WHERE seq = 6)"
        )
    };
    for (what, seq, sql) in [
        (
            "removed",
            1,
            "DELETE FROM audit_log WHERE seq = 1".to_owned(),
        ),
        (
            "removed",
            3,
            "DELETE FROM audit_log WHERE seq = 3".to_owned(),
        ),
        (
            "removed",
            4,
            "DELETE FROM audit_log WHERE seq IN (4, 5)".to_owned(),
        ),
        (
            "removed",
            6,
            "DELETE FROM audit_log WHERE seq = 6".to_owned(),
        ),
        ("removed", 1, "DELETE FROM audit_log".to_owned()),
        (
            "changed",
            2,
            "UPDATE audit_log SET actor = 'another' WHERE seq = 2".to_owned(),
        ),
        (
            "changed",
            1,
            "UPDATE audit_log SET details = '{}' WHERE seq = 1".to_owned(),
        ),
        (
            "changed",
            4,
            "UPDATE audit_log SET subjects[2] = 'x' WHERE seq = 4".to_owned(),
        ),
        (
            "changed",
            6,
            "UPDATE audit_log SET actor = NULL WHERE seq = 6".to_owned(),
        ),
        (
            "changed",
            5,
            "UPDATE audit_log SET at = at + interval '1 us' WHERE seq = 5".to_owned(),
        ),
        (
            "reordered",
            2,
            "UPDATE audit_log SET seq = 7 - seq WHERE seq IN (2, 5)".to_owned(),
        ),
        (
            "replaced",
            3,
            "UPDATE audit_log SET actor = 'another' WHERE seq = 3;
             UPDATE audit_log SET hash = audit_hash(audit_log) WHERE seq = 3"
                .to_owned(),
        ),
        (
            "replaced",
            6,
            "UPDATE audit_log SET actor = 'another' WHERE seq = 6;
             UPDATE audit_log SET hash = audit_hash(audit_log) WHERE seq = 6"
                .to_owned(),
        ),
        ("inserted", 4, forged(4)),
        ("inserted", 7, forged(7)),
        ("inserted", 6, "UPDATE audit_head SET seq = 5".to_owned()),
        // The gap is closed by numbering anew.
        (
            "reordered",
            3,
            "DELETE FROM audit_log WHERE seq = 3; UPDATE audit_log SET seq = seq - 1 WHERE seq > 3"
                .to_owned(),
        ),
        // All from it on is computed again, and the head: only who noted the head elsewhere sees that.
        (
            "noted",
            6,
            format!(
                "UPDATE audit_log SET actor = 'another' WHERE seq = 3; {}",
                new_hashes_from(3)
            ),
        ),
    ] {
        tamper(pool, &sql).await;
        let heads = match what {
            "noted" => {
                whole(pool).await;
                std::slice::from_ref(&noted)
            }
            _ => &[],
        };
        let what = if what == "noted" { "replaced" } else { what };
        let found = verify(pool, heads).await.unwrap().findings;
        let is_named = found
            .iter()
            .any(|one| one.what == what && one.seq == Some(seq));
        assert!(is_named, "{what} {seq} is not among {found:?} after {sql}");
        tamper(
            pool,
            "DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept;
             DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head",
        )
        .await;
        assert!(
            verify(pool, std::slice::from_ref(&noted))
                .await
                .unwrap()
                .is_whole()
        );
    }

    tamper(
        pool,
        "INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'user')",
    )
    .await;
    let found = verify(pool, &[]).await.unwrap().findings;
    assert_eq!(found[0].what, "unchained", "{found:?}");
    tamper(pool, "DELETE FROM audit_intake").await;
    for (table, trigger) in [
        ("audit_log", "nothing_changes"),
        ("audit_intake", "append"),
        ("audit_head", "only_the_chain"),
    ] {
        run(
            pool,
            &format!("ALTER TABLE {table} DISABLE TRIGGER {trigger}"),
        )
        .await
        .unwrap();
        let found = verify(pool, &[]).await.unwrap().findings;
        assert!(
            found.iter().all(|one| one.what == "unprotected") && !found.is_empty(),
            "{found:?}"
        );
        run(
            pool,
            &format!("ALTER TABLE {table} ENABLE TRIGGER {trigger}"),
        )
        .await
        .unwrap();
    }
    whole(pool).await;
}

#[tokio::test]
async fn nobody_changes_a_row_by_ordinary_means() {
    let bed = migrated().await;
    let pool = &bed.pool;
    six(pool).await;
    let part: String = sqlx::query_scalar(
        "SELECT relname::text FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'audit_log'::regclass",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    for table in ["audit_log", "audit_head", "audit_intake", &part] {
        for sql in ["DELETE FROM", "TRUNCATE"] {
            // There is nothing in the intake that could be deleted.
            let sql = format!("{sql} {table}");
            let done = run(pool, &sql).await;
            assert!(done.is_err() || sql == "DELETE FROM audit_intake", "{sql}");
        }
    }
    for sql in [
        "UPDATE audit_log SET actor = NULL",
        "UPDATE audit_head SET seq = 0",
        "INSERT INTO audit_log SELECT * FROM audit_log",
        "INSERT INTO audit_head SELECT false, 1, now(), hash FROM audit_head",
        &format!("UPDATE {part} SET actor = NULL"),
        "SET ROLE rivulet_auditor; INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('read', 'done', 'user')",
        "SET ROLE rivulet_audited; SELECT count(*) FROM audit_log",
        "SET ROLE rivulet_audited; SELECT count(*) FROM audit_intake",
        "SET ROLE rivulet_audited; SELECT audit_drop_month('2020-01-01')",
        "SET ROLE rivulet_parent; SELECT count(*) FROM audit_log",
        "SELECT audit_drop_month(date_trunc('month', now() AT TIME ZONE 'UTC')::date)",
    ] {
        let mut conn = PgConnection::connect(&bed.database_url).await.unwrap();
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut conn)
            .await;
        assert!(done.is_err(), "{sql}");
    }
    assert_eq!(whole(pool).await.rows, 6);

    // What the roles are for works.
    let mut conn = PgConnection::connect(&bed.database_url).await.unwrap();
    run_on(&mut conn, "SET ROLE rivulet_audited").await;
    let mut transaction = conn.begin().await.unwrap();
    record(&mut transaction, Entry::done(Action::Read))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    run_on(&mut conn, "SELECT seq FROM audit_head; RESET ROLE; SET ROLE rivulet_auditor; SELECT seq FROM audit_log").await;
    assert_eq!(whole(pool).await.rows, 7);
}

async fn run_on(conn: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(conn).await.unwrap();
}

#[tokio::test]
async fn many_writers_make_one_chain_and_none_waits_for_a_client() {
    let bed = migrated().await;
    let pool = &bed.pool;
    // This one has written, and does not commit: it may be frozen.
    let mut frozen = PgConnection::connect(&bed.database_url).await.unwrap();
    let mut transaction = frozen.begin().await.unwrap();
    record(&mut transaction, Entry::done(Action::Import))
        .await
        .unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let url = bed.database_url.clone();
        writers.spawn(async move {
            let mut conn = PgConnection::connect(&url).await.unwrap();
            for n in 0..25 {
                let mut transaction = conn.begin().await.unwrap();
                for _ in 0..=n % 3 {
                    record(
                        &mut transaction,
                        Entry::done(Action::Read).child(Uuid::new_v4()),
                    )
                    .await
                    .unwrap();
                }
                match n % 5 {
                    4 => transaction.rollback().await.unwrap(),
                    _ => transaction.commit().await.unwrap(),
                }
            }
        });
    }
    let all = async {
        while let Some(done) = writers.join_next().await {
            done.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all)
        .await
        .expect("they wait for the frozen one");
    // 25 transactions of 1, 2, 3, 1, … rows, of which every fifth is rolled back.
    let rows: i64 = (0..25).filter(|n| n % 5 != 4).map(|n| n % 3 + 1).sum();
    let verified = whole(pool).await;
    assert_eq!(verified.head, rows * 12);
    transaction.commit().await.unwrap();
    assert_eq!(whole(pool).await.head, rows * 12 + 1);
    assert_eq!(
        head(pool).await.unwrap().hex(),
        verify(pool, &[]).await.unwrap().head_hash
    );
}

#[tokio::test]
async fn a_change_and_its_row_are_there_together_or_not_at_all() {
    let bed = migrated().await;
    let pool = &bed.pool;
    run(pool, "CREATE TABLE changes (n int)").await.unwrap();
    for (n, kills) in [(1, true), (2, false)] {
        let mut conn = PgConnection::connect(&bed.database_url).await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        let mut transaction = conn.begin().await.unwrap();
        sqlx::query("INSERT INTO changes VALUES ($1)")
            .bind(n)
            .execute(&mut *transaction)
            .await
            .unwrap();
        record(&mut transaction, Entry::done(Action::Rebuild))
            .await
            .unwrap();
        if kills {
            sqlx::query("SELECT pg_terminate_backend($1, 10000)")
                .bind(pid)
                .execute(pool)
                .await
                .unwrap();
            transaction.commit().await.unwrap_err();
        } else {
            transaction.commit().await.unwrap();
        }
        let changes: i64 = sqlx::query_scalar("SELECT count(*) FROM changes")
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(whole(pool).await.head, changes);
        assert_eq!(changes, i64::from(!kills));
    }
    // Where the row cannot be appended, the change is not made.
    tamper(pool, "DELETE FROM audit_head").await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO changes VALUES (3)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    record(&mut transaction, Entry::done(Action::Rebuild))
        .await
        .unwrap();
    transaction.commit().await.unwrap_err();
    let changes: i64 = sqlx::query_scalar("SELECT count(*) FROM changes")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(changes, 1);
}

#[tokio::test]
async fn old_months_go_and_the_rest_is_still_proven() {
    let bed = migrated().await;
    let pool = &bed.pool;
    for month in [
        "2040-01-31",
        "2040-02-01",
        "2040-02-29",
        "2040-03-05",
        "2040-06-01",
    ] {
        let now = format!(
            "CREATE OR REPLACE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS
             $$ SELECT timestamptz '{month} 23:59:59.5Z' $$"
        );
        run(pool, &now).await.unwrap();
        for _ in 0..2 {
            record_now(pool, Entry::done(Action::Read).child(Uuid::new_v4()))
                .await
                .unwrap();
        }
    }
    assert_eq!(whole(pool).await.rows, 10);
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    // February has not ended then.
    assert_eq!(
        drop_months_before(pool, day("2040-02-29")).await.unwrap(),
        2
    );
    let verified = whole(pool).await;
    assert_eq!(
        (verified.first, verified.rows, verified.head),
        (Some(3), 9, 11)
    );
    assert_eq!(
        drop_months_before(pool, day("2040-02-29")).await.unwrap(),
        0
    );
    assert_eq!(
        drop_months_before(pool, day("2040-03-01")).await.unwrap(),
        4
    );
    assert_eq!(whole(pool).await.first, Some(7));
    // The clock is set back, and the time in the log stands still.
    run(pool, "CREATE OR REPLACE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now()'")
        .await
        .unwrap();
    record_now(pool, Entry::done(Action::Read)).await.unwrap();
    let head = whole(pool).await.head;
    let noted = [format!("2:{}", "0".repeat(12)).parse().unwrap()];
    assert!(
        verify(pool, &noted).await.unwrap().is_whole(),
        "row 2 went with its month"
    );
    // Somebody drops a month without a word.
    run(pool, "DROP TABLE audit_log_204003").await.unwrap();
    let verified = verify(pool, &[]).await.unwrap();
    assert_eq!(verified.findings[0].what, "removed", "{verified:?}");
    assert_eq!(verified.head, head);
}

#[tokio::test]
async fn reads_are_written_in_groups_also_at_the_end_and_found_again() {
    let bed = migrated().await;
    let pool = &bed.pool;
    let groups = Arc::new(Groups::default());
    let stopping = CancellationToken::new();
    let kept = tokio::spawn(keep(
        Arc::clone(&groups),
        pool.clone(),
        Duration::from_secs(3_600),
        stopping.clone(),
    ));
    let (parent, child, sibling) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let read = |actor: Actor, kind, of| {
        groups.note(
            (actor, Some("r")),
            Action::Read,
            Outcome::Done,
            kind,
            Some(of),
        )
    };
    for _ in 0..3 {
        read(Actor::token(parent), "daily", Subject::child(child));
        read(Actor::token(parent), "daily", Subject::child(sibling));
    }
    read(Actor::token(parent), "family", Subject::parent(parent));
    for _ in 0..1_000 {
        let guessed = Subject::child(Uuid::new_v4());
        groups.note(
            (Actor::token(parent), None),
            Action::Read,
            Outcome::Refused,
            "not_found",
            Some(guessed),
        );
    }
    stopping.cancel();
    kept.await.unwrap();
    whole(pool).await;
    let found = async |filter: Filter| {
        let rows = list(pool, &filter, 100).await.unwrap();
        rows.into_iter()
            .map(|row| (row.times, row.subjects.len()))
            .collect::<Vec<_>>()
    };
    let all = found(Filter::default()).await;
    assert_eq!(all.len(), 4, "{all:?}");
    let outcome = |outcome: &str| Filter {
        outcome: Some(outcome.to_owned()),
        ..Filter::default()
    };
    let mut refused = found(outcome("refused")).await;
    refused.sort_unstable();
    assert_eq!(refused, [(16, 16), (984, 0)]);
    for subject in [child, sibling].map(Subject::child) {
        let filter = Filter {
            subject: Some(subject),
            ..Filter::default()
        };
        assert_eq!(found(filter).await, [(6, 2)]);
    }
    let by = Filter {
        actor: Some(rivulet_auditlog::hex_hash(parent)),
        ..outcome("done")
    };
    assert_eq!(found(by.clone()).await.len(), 2);
    assert!(
        found(Filter {
            action: Some("keys.".to_owned()),
            ..by.clone()
        })
        .await
        .is_empty()
    );
    assert!(
        found(Filter {
            until: Some(chrono::DateTime::UNIX_EPOCH),
            ..by
        })
        .await
        .is_empty()
    );

    // Without PostgreSQL the reads go on, and what is lost at the end is counted.
    let away = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
    read(Actor::token(parent), "daily", Subject::child(child));
    let stopping = CancellationToken::new();
    stopping.cancel();
    keep(Arc::clone(&groups), away, Duration::from_secs(1), stopping).await;
    assert_eq!(found(Filter::default()).await.len(), 4);
}
