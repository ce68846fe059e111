//! A role that is no login of Rivulet's.

use rivulet_sandbox::TestBed;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgConnectOptions};

/// A role of this test's own, which the server would keep when the database goes.
pub(crate) struct Somebody {
    pub(crate) name: String,
    url: String,
    pool: PgPool,
}

impl Somebody {
    pub(crate) async fn new(bed: &TestBed, as_what: &str) -> Self {
        let name = format!("{as_what} of {}", bed.clickhouse_database);
        let create = format!("CREATE ROLE \"{name}\"");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&bed.pool)
            .await
            .unwrap();
        Self {
            name,
            url: bed.database_url.clone(),
            pool: bed.pool.clone(),
        }
    }

    pub(crate) async fn log_in(&self, password: &str) -> Result<PgPool, sqlx::Error> {
        let options: PgConnectOptions = self.url.parse().unwrap();
        PgPool::connect_with(options.username(&self.name).password(password)).await
    }

    pub(crate) async fn sql(&self, sql: &str) {
        let sql = sql.replace("{me}", &format!("\"{}\"", self.name));
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn dismiss(self) {
        self.sql("DROP OWNED BY {me}; DROP ROLE {me}").await;
    }
}
