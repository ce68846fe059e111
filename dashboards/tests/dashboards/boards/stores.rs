//! The queries to PostgreSQL and ClickHouse, asked of both.

use std::process::Command;

use chrono::{DateTime, Duration, Utc};
use rivulet_sandbox::TestBed;
use sqlx::{
    AssertSqlSafe, Column as _, PgPool, Row as _, TypeInfo as _, postgres::PgConnectOptions,
};

use super::{CLICKHOUSE, POSTGRES, Query, boards, root};

/// What the boards show while one is looked at.
struct Time {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Time {
    fn last_month() -> Self {
        let to = Utc::now();
        Self {
            from: to - Duration::days(30),
            to,
        }
    }

    /// As Grafana's PostgreSQL source writes its macros.
    fn postgres(&self, query: &Query) -> String {
        let [from, to] = [self.from, self.to].map(|at| format!("'{}'", at.format("%FT%TZ")));
        let text = replaced(&query.text, "$__timeFilter(", |column| {
            format!("{column} BETWEEN {from} AND {to}")
        });
        let text = replaced(&text, "$__timeFrom(", |_| from.clone());
        let text = replaced(&text, "$__timeTo(", |_| to.clone());
        known(query, text)
    }

    /// As the ClickHouse source of Grafana does, in this database in place of `rivulet`.
    fn clickhouse(&self, query: &Query, database: &str) -> String {
        let [from, to] = [self.from, self.to].map(|at| format!("toDateTime({})", at.timestamp()));
        let text = replaced(&query.text, "$__timeFilter(", |column| {
            format!("{column} >= {from} AND {column} <= {to}")
        });
        let days = [self.from, self.to].map(|at| format!("toDate('{}')", at.format("%F")));
        let text = replaced(&text, "$__dateFilter(", |column| {
            format!("{column} >= {} AND {column} <= {}", days[0], days[1])
        });
        let text = text.replace("$__fromTime", &from).replace("$__toTime", &to);
        known(query, text.replace("rivulet.", &format!("{database}.")))
    }
}

/// Each `$__name(argument)` by what it stands for; `start` is `$__name(`.
fn replaced(text: &str, start: &str, by: impl Fn(&str) -> String) -> String {
    let mut parts = text.split(start);
    let mut done = parts.next().unwrap().to_owned();
    for part in parts {
        let mut depth = 1;
        let end = part.find(|char| {
            depth += match char {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        });
        let end = end.unwrap_or_else(|| panic!("{start} is not closed in {text}"));
        done += &by(part[..end].trim());
        done += &part[end + 1..];
    }
    done
}

fn known(query: &Query, text: String) -> String {
    let at = &query.at;
    assert!(
        !text.contains("$__"),
        "{at}: this test does not know a macro of {text}"
    );
    text
}

fn queries(source: &str) -> Vec<Query> {
    boards()
        .iter()
        .flat_map(|board| board.queries(source, "rawSql"))
        .collect()
}

/// This many families of one child, the same ones however often it is called, with a month of rollups.
async fn insert_families(pool: &PgPool, families: i32) {
    let rows = include_str!("rows.postgres.sql").replace("{families}", &families.to_string());
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(pool)
        .await
        .unwrap();
}

async fn postgres_with(families: i32) -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    insert_families(&bed.pool, families).await;
    bed
}

#[tokio::test]
async fn postgres_answers_every_query() {
    let (bed, time) = (postgres_with(12).await, Time::last_month());
    let queries = queries(POSTGRES);
    assert!(queries.len() > 10, "{}", queries.len());
    let grafana = Grafana::of(&bed).await;
    for query in queries {
        let sql = AssertSqlSafe(time.postgres(&query));
        let rows = sqlx::query(sql).fetch_all(&grafana.pool).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error}", query.at));
        let first = rows
            .first()
            .unwrap_or_else(|| panic!("{} shows nothing", query.at));
        if query.target["format"] == "time_series" {
            let time = first.column(0);
            let column = (time.name(), time.type_info().name());
            assert_eq!(column, ("time", "TIMESTAMPTZ"), "{}", query.at);
        }
    }
    grafana.dismiss(&bed).await;
}

/// A login made by login.sql. The server keeps it when the database goes: drop it.
struct Grafana {
    login: String,
    pool: PgPool,
}

impl Grafana {
    async fn of(bed: &TestBed) -> Self {
        let database: String = sqlx::query_scalar("SELECT current_database()")
            .fetch_one(&bed.pool)
            .await
            .unwrap();
        let login = format!("grafana of {database}");
        let made = Command::new("psql")
            .args(["--no-psqlrc", "--set=ON_ERROR_STOP=1", &bed.database_url])
            .arg(format!("--set=login={login}"))
            .arg("--file")
            .arg(root("dashboards/grafana/login.sql"))
            .env("GRAFANA_PASSWORD", "it's")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let options: PgConnectOptions = bed.database_url.parse().unwrap();
        let options = options.username(&login).password("it's");
        let pool = PgPool::connect_with(options).await.unwrap();
        Self { login, pool }
    }

    async fn dismiss(self, bed: &TestBed) {
        self.pool.close().await;
        let drop = format!("DROP ROLE \"{}\"", self.login);
        sqlx::query(AssertSqlSafe(drop))
            .execute(&bed.pool)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn grafana_reads_nothing_but_what_boards_are_made_of() {
    let bed = postgres_with(1).await;
    let grafana = Grafana::of(&bed).await;
    for sql in [
        "SELECT * FROM api_keys",
        "SELECT * FROM consent_changes",
        "SELECT * FROM quarantine",
        "SELECT * FROM event_seen",
        "SELECT * FROM topic_progress",
        "SELECT created_at FROM children",
        "UPDATE parents SET analytics = true",
        "DELETE FROM daily_child_metrics",
        "CREATE TABLE mine ()",
        "SET ROLE rivulet_parent",
    ] {
        let refused = sqlx::query(sql).execute(&grafana.pool).await.unwrap_err();
        let code = refused.as_database_error().unwrap().code().unwrap();
        assert_eq!(code, "42501", "{sql}: {refused}");
    }
    grafana.dismiss(&bed).await;
}

#[tokio::test]
async fn postgres_tells_nothing_of_four_children_but_how_many_they_are() {
    let (bed, time) = (postgres_with(4).await, Time::last_month());
    for query in queries(POSTGRES) {
        let sql = AssertSqlSafe(time.postgres(&query));
        let rows = sqlx::query(sql).fetch_all(&bed.pool).await.unwrap();
        for row in rows {
            let count = row.try_get::<i64, _>(0);
            assert!(
                row.len() == 1 && count.is_ok_and(|count| count == 4),
                "{} tells of fewer than five children",
                query.at
            );
        }
    }
}

/// A view that is refreshed now and then may have been before the rows came; the first waits for that.
async fn refresh_views(bed: &TestBed) {
    let views = "SELECT view FROM system.view_refreshes WHERE database = ?";
    let views = bed.clickhouse.query(views).bind(&bed.clickhouse_database);
    for view in views.fetch_all::<String>().await.unwrap() {
        for step in ["WAIT", "REFRESH", "WAIT"] {
            let step = format!("SYSTEM {step} VIEW {view}");
            bed.clickhouse.query(&step).execute().await.unwrap();
        }
    }
}

#[tokio::test]
async fn clickhouse_answers_every_query() {
    let (bed, time) = (TestBed::new().await, Time::last_month());
    let database = &bed.clickhouse_database;
    rivulet_migrations::clickhouse(&bed.clickhouse, database)
        .await
        .unwrap();
    for insert in include_str!("rows.clickhouse.sql").split_inclusive(";\n") {
        bed.clickhouse.query(insert).execute().await.unwrap();
    }
    refresh_views(&bed).await;
    let mut queries = queries(CLICKHOUSE);
    queries.push(Query {
        at: "this test's own rows".to_owned(),
        text: "SELECT event_type FROM history WHERE $__timeFilter(event_time) \
               AND $__dateFilter(local_date) AND event_time BETWEEN $__fromTime AND $__toTime \
               GROUP BY event_type HAVING uniqExact(child_id) >= 40"
            .to_owned(),
        target: serde_json::Value::Null,
    });
    for query in queries {
        // To the client a question mark is a place for a value.
        let sql = time.clickhouse(&query, database).replace('?', "??");
        let rows = bed.clickhouse.query(&sql).fetch_bytes("JSONEachRow");
        let rows = match rows {
            Ok(mut rows) => rows.collect().await,
            Err(error) => Err(error),
        };
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error}", query.at));
        assert!(!rows.is_empty(), "{} shows nothing", query.at);
    }
}
