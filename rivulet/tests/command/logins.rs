//! A process whose login to PostgreSQL lacks something says what to run, and ends or waits; it says nothing cryptic.

use std::{
    process::{Command, Output},
    time::Duration,
};

use rivulet_migrations::{logins::Login, passwords::give_password};
use rivulet_sandbox::TestBed;
use sqlx::AssertSqlSafe;

const PASSWORD: &str = "a-password-of-some-length";

/// A login of this test's own, which the server would keep when the database goes.
struct Somebody {
    name: String,
    url: String,
}

impl Somebody {
    async fn new(bed: &TestBed) -> Self {
        let name = format!("app_of_{}", bed.clickhouse_database);
        let create = AssertSqlSafe(format!("CREATE ROLE {name}"));
        sqlx::raw_sql(create).execute(&bed.pool).await.unwrap();
        give_password(&bed.pool, &name, PASSWORD).await.unwrap();
        let mut url = url::Url::parse(&bed.database_url).unwrap();
        url.set_username(&name).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        Self {
            name,
            url: url.into(),
        }
    }

    async fn sql(&self, bed: &TestBed, sql: &str) {
        let sql = AssertSqlSafe(sql.replace("{me}", &self.name));
        sqlx::raw_sql(sql).execute(&bed.pool).await.unwrap();
    }
}

/// How a command ends; one that goes on for longer than it may is stopped. No other service is there.
async fn rivulet(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivulet"));
    command
        .env_clear()
        .args(args)
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .env("CLICKHOUSE_URL", "http://127.0.0.1:1")
        .envs(
            ["", "AGGREGATE_", "SINK_", "API_"]
                .map(|role| (format!("RIVULET_{role}LISTEN"), "127.0.0.1:0")),
        )
        .envs(env.iter().copied())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output
        .unwrap_or_else(|_| panic!("rivulet {args:?} goes on"))
        .unwrap();
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!said.contains(PASSWORD), "{said}");
    (status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_ends_and_says_what_its_login_lacks_and_what_to_run() {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let app = Somebody::new(&bed).await;
    for (role, login) in [
        ("ingest", Login::Ingest),
        ("aggregate", Login::Aggregate),
        ("sink", Login::Sink),
        ("api", Login::Api),
    ] {
        let (code, said) = rivulet(&[role], &[("DATABASE_URL", &app.url)]).await;
        assert_eq!(code, Some(1), "{role}: {said}");
        let (of, variable) = (login.role(), login.variable());
        assert!(
            said.contains(&format!(
                "the login {} is neither {of} nor a member of it",
                app.name
            )) && said.contains(variable)
                && said.contains("rivulet migrate"),
            "{role}: {said}"
        );
    }
    // What a later release needs, and was not granted yet.
    app.sql(
        &bed,
        "GRANT rivulet_api TO {me}; REVOKE SELECT ON streaks FROM rivulet_api",
    )
    .await;
    let (code, said) = rivulet(&["api"], &[("DATABASE_URL", &app.url)]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("lacks SELECT on streaks: run `rivulet migrate`"),
        "{said}"
    );

    let (_, said) = rivulet(&["check-config"], &[("DATABASE_URL", &app.url)]).await;
    let of = said
        .lines()
        .find(|line| line.contains("PostgreSQL's logins"))
        .unwrap();
    assert!(
        of.starts_with("FAILED") && of.contains("rivulet migrate"),
        "{said}"
    );
    app.sql(&bed, "GRANT rivulet_ingest TO {me}").await;
    let (_, said) = rivulet(&["check-config"], &[("DATABASE_URL", &app.url)]).await;
    let of = said
        .lines()
        .find(|line| line.contains("PostgreSQL's logins"))
        .unwrap();
    assert!(
        of.starts_with("ok") && of.ends_with("these need: rivulet_ingest"),
        "{said}"
    );
    app.sql(&bed, "DROP OWNED BY {me}; DROP ROLE {me}").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_refused_says_whose_login_it_needs() {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let app = Somebody::new(&bed).await;
    for args in [
        &["keys", "list"][..],
        &["audit", "list"],
        &["quarantine", "list"],
    ] {
        let (code, said) = rivulet(args, &[("DATABASE_URL", &app.url)]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("RIVULET_OPERATOR_PASSWORD"),
            "{args:?}: {said}"
        );
    }
    // A password that PostgreSQL does not know.
    let wrong = [
        ("DATABASE_URL", app.url.as_str()),
        ("RIVULET_OPERATOR_PASSWORD", "nobody-has-this-password"),
    ];
    let (code, said) = rivulet(&["keys", "list"], &wrong).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("rivulet_operator") && said.contains("rivulet migrate"),
        "{said}"
    );
    app.sql(&bed, "DROP OWNED BY {me}; DROP ROLE {me}").await;
}

#[test]
fn a_password_that_could_be_guessed_is_refused_before_anything_is_done() {
    for (args, variable) in [
        (&["migrate"][..], "RIVULET_BOARDS_PASSWORD"),
        (&["migrate"], "RIVULET_INGEST_PASSWORD"),
        (&["ingest"], "RIVULET_INGEST_PASSWORD"),
        (&["sink"], "RIVULET_OPERATOR_PASSWORD"),
        (&["audit", "list"], "RIVULET_AUDITOR_PASSWORD"),
    ] {
        for weak in ["", "postgres"] {
            let output = Command::new(env!("CARGO_BIN_EXE_rivulet"))
                .env_clear()
                .args(args)
                .envs([
                    ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
                    ("KAFKA_BROKERS", "127.0.0.1:1"),
                    ("CLICKHOUSE_URL", "http://127.0.0.1:1"),
                    ("RIVULET_LISTEN", "127.0.0.1:0"),
                    ("RIVULET_SINK_LISTEN", "127.0.0.1:0"),
                    (variable, weak),
                ])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
            assert!(
                said.contains(&format!("{variable} has fewer than 16 characters"))
                    && said.contains("openssl rand -hex 16"),
                "{args:?}: {said}"
            );
        }
    }
}
