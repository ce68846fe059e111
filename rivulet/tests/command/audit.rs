//! Each command that changes something, or shows what is stored of a child, leaves a row.

use std::process::{Command, Output};

use rivulet_sandbox::TestBed;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// What a command leaves: action, kind of subject, subject.
type Left<'a> = Vec<(&'a str, &'a str, String)>;

struct Rig {
    bed: TestBed,
    families: tempfile::NamedTempFile,
    parent: Uuid,
    child: Uuid,
    spill: Uuid,
}

impl Rig {
    async fn new() -> Self {
        let bed = TestBed::new().await;
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        let [parent, child, spill] = [(); 3].map(|()| Uuid::new_v4());
        let families = tempfile::NamedTempFile::new().unwrap();
        let family = format!(
            r#"{{"parent_id": "{parent}", "timezone": "Europe/Rome", "children": [{{"child_id": "{child}", "age_group": "wonder_cubs"}}]}}"#
        );
        std::fs::write(families.path(), family).unwrap();
        let sql = format!(
            r#"INSERT INTO spills (id, host, directory) VALUES ('{spill}', 'gone', '/gone');
               INSERT INTO quarantine_pauses (consumer, topic, unfit, records) VALUES ('history', 't.speech', 1, 2);
               INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record)
               VALUES ('history', 't.speech', 0, 7, 'c/t', 'implausible_record', 'why', '{{"child_id": "{child}"}}')"#
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&bed.pool)
            .await
            .unwrap();
        Self {
            bed,
            families,
            parent,
            child,
            spill,
        }
    }

    fn rivulet(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rivulet"));
        command.env_clear().args(args).envs([
            ("DATABASE_URL", &*self.bed.database_url),
            ("KAFKA_BROKERS", "127.0.0.1:1"),
            ("CLICKHOUSE_URL", "http://127.0.0.1:1"),
            (
                "RIVULET_TOKEN_SECRET",
                "a secret of at least thirty-two bytes",
            ),
            ("RIVULET_TOKEN_AUDIENCE", "rivulet"),
            // Anybody may choose what is in the environment.
            ("USER", "somebody else"),
        ]);
        command.output().unwrap()
    }

    fn said(&self, args: &[&str], code: i32) -> String {
        let output = self.rivulet(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn each_command_leaves_its_row_and_verify_finds_what_is_done_to_one() {
    let rig = Rig::new().await;
    let pool = &rig.bed.pool;
    let hash = rivulet_auditlog::hex_hash;
    let (parent, child, spill) = (
        rig.parent.to_string(),
        rig.child.to_string(),
        rig.spill.to_string(),
    );
    let file = rig.families.path().to_str().unwrap();
    let (of_parent, of_child) = (hash(rig.parent), hash(rig.child));
    let one = |action, kind, subject: &str| vec![(action, kind, subject.to_owned())];
    let cases: Vec<(Vec<&str>, Left<'_>)> = vec![
        (
            vec!["keys", "create", "--name", "sdk", "--scope", "ingest"],
            one("keys.create", "key", "sdk"),
        ),
        (
            vec!["keys", "limit", "sdk", "--event-type", "session"],
            one("keys.limit", "key", "sdk"),
        ),
        (vec!["keys", "list"], vec![]),
        (
            vec!["keys", "revoke", "sdk"],
            one("keys.revoke", "key", "sdk"),
        ),
        (
            vec!["keys", "token", "--parent", &parent],
            one("tokens.make", "parent", &of_parent),
        ),
        (
            vec!["registry", "import", file],
            vec![
                ("registry.import", "parent", of_parent.clone()),
                ("registry.import", "child", of_child.clone()),
            ],
        ),
        (
            vec!["quarantine", "show", "--offset", "7"],
            one("read", "child", &of_child),
        ),
        (vec!["quarantine", "list"], vec![]),
        (vec!["quarantine", "drop", "--all", "--dry-run"], vec![]),
        (
            vec!["quarantine", "drop", "--all"],
            one("quarantine.drop", "topic", "t.speech"),
        ),
        (
            vec!["quarantine", "resume"],
            one("quarantine.resume", "topic", "t.speech"),
        ),
        // Nobody waits any more.
        (vec!["quarantine", "resume"], vec![]),
        (
            vec!["erase", "--without-spill", &spill],
            one("erase.without_spill", "spill", &spill),
        ),
        (vec!["audit", "verify"], vec![]),
        (vec!["audit", "list"], vec![]),
    ];
    let mut seq = 0i64;
    let mut users = std::collections::BTreeSet::new();
    for (args, wanted) in cases {
        rig.said(&args, 0);
        let rows: Vec<(String, String, Vec<String>, String, String)> = sqlx::query_as(
            "SELECT action, subject_kind, subjects, outcome || ' ' || actor_kind, actor FROM audit_log
             WHERE seq > $1 ORDER BY seq",
        )
        .bind(seq)
        .fetch_all(pool)
        .await
        .unwrap();
        seq += wanted.len() as i64;
        assert_eq!(rows.len(), wanted.len(), "{args:?}: {rows:?}");
        for (row, (action, kind, subject)) in rows.into_iter().zip(wanted) {
            let (was, of, subjects, how, user) = row;
            assert_eq!(
                (&*was, &*of, subjects, &*how),
                (action, kind, vec![subject], "done user"),
                "{args:?}"
            );
            users.insert(user);
        }
    }
    assert_eq!(users.len(), 1, "{users:?}");
    assert!(!users.contains("somebody else"), "{users:?}");
    // What did not happen is not told.
    rig.said(&["keys", "revoke", "nobody"], 1);
    rig.said(&["audit", "list", "--action", "revoke"], 2);

    let listed = rig.said(&["audit", "list", "--child", &child], 0);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(
        listed.contains("registry.import") && listed.contains("quarantine"),
        "{listed}"
    );
    let listed = rig.said(
        &[
            "audit", "list", "--action", "keys.", "--about", "sdk", "--json", "--limit", "2",
        ],
        0,
    );
    let rows: Vec<serde_json::Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["action"].as_str(), Some("keys.revoke"));
    assert_eq!(rows[0]["subjects"][0].as_str(), Some("sdk"));
    for none in [
        vec!["--outcome", "refused"],
        vec!["--until", "2020-01-01T00:00:00Z"],
        vec!["--by-parent", &parent],
    ] {
        assert_eq!(
            rig.said(&[&["audit", "list"][..], &none[..]].concat(), 0),
            ""
        );
    }

    let verified = rig.said(&["audit", "verify"], 0);
    let head = verified.trim().rsplit_once(' ').unwrap().1.to_owned();
    rig.said(&["audit", "verify", "--head", &head], 0);
    let sql = "BEGIN; SET LOCAL session_replication_role = replica; UPDATE audit_log SET actor = 'mallory' WHERE seq = 4;
               UPDATE audit_log SET hash = audit_hash(audit_log) WHERE seq = 4; COMMIT";
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
    let found = rig.said(&["audit", "verify"], 3);
    assert!(found.contains("replaced: row 4: "), "{found}");
    let found = rig.said(
        &["audit", "verify", "--json", "--head", "1:000000000000"],
        3,
    );
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["findings"].as_array().unwrap().len(), 2, "{found}");
    rig.said(&["audit", "verify", "--head", "1:0"], 2);

    let log: String = sqlx::query_scalar("SELECT string_agg(l::text, ' ') FROM audit_log l")
        .fetch_one(pool)
        .await
        .unwrap();
    assert!(
        !log.contains(&parent) && !log.contains(&child),
        "an id is in the audit log"
    );
}
