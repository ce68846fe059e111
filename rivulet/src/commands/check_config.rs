//! `rivulet check-config`

use anyhow::bail;
use chrono::{NaiveDate, Utc};
use clap::Args;
use rivulet_migrations::logins::{self, Login};
use rivulet_zones::Release;

use super::roles::{Aggregate, All, Each, Ingest, Sink};
use crate::{
    retention::Kept,
    services::{ClickHouse, Postgres, password},
};

/// Older rules of time zones are worth a warning: IANA publishes some every few months.
const OLD_MONTHS: u32 = 9;

/// Checks the configuration of every role, and that the services answer and are set up. Starts and
/// changes nothing; fails if a role would.
#[derive(Args)]
pub(crate) struct CheckConfig {
    #[command(flatten)]
    roles: All,
}

impl CheckConfig {
    /// `releases`: what each source of time zones has, the one in use first.
    pub(crate) async fn run(self, releases: &[Release]) -> anyhow::Result<()> {
        time_zones(releases, Utc::now().date_naive());
        let mut failures = 0;
        let mut tell = |what: &str, outcome: anyhow::Result<String>| match outcome {
            Ok(said) => println!("ok      {what}: {said}"),
            Err(error) => {
                failures += 1;
                println!("FAILED  {what}: {}", crate::explain(&error));
            }
        };
        let Each {
            ingest,
            aggregate,
            sink,
            api,
        } = self.roles.each();
        let fits = |()| "its settings fit together".to_owned();
        let settings = ingest.config().and_then(|config| {
            config.validate()?;
            let policy = config.personal_data.as_str();
            Ok(format!(
                "{}; personal data in free text: {policy}",
                fits(())
            ))
        });
        tell("ingest", settings);
        let settings = aggregate.config().and_then(|config| Ok(config.validate()?));
        tell("aggregate", settings.map(fits));
        let settings = api.config().and_then(|config| Ok(config.validate()?));
        tell("api", settings.map(fits));
        tell("client tokens", tokens(&ingest).await);
        tell("tracing", tracing());
        tell("PostgreSQL", postgres(&sink.services.postgres).await);
        tell(
            "PostgreSQL's logins",
            of_logins(&sink.services.postgres).await,
        );
        tell("Kafka", kafka(&aggregate).await);
        tell("ClickHouse", clickhouse(&sink.services.clickhouse).await);
        tell("retention", retention(&aggregate, &sink).await);
        if failures > 0 {
            bail!("{failures} of 10 checks failed");
        }
        Ok(())
    }
}

async fn tokens(ingest: &Ingest) -> anyhow::Result<String> {
    let Some(tokens) = ingest.config()?.tokens else {
        return Ok("are not taken".to_owned());
    };
    Ok(match tokens.jwks {
        Some(source) => format!(
            "{} keys in the JWKS",
            rivulet_tokens::check_jwks(source).await?
        ),
        None => "their secret is long enough".to_owned(),
    })
}

async fn postgres(postgres: &Postgres) -> anyhow::Result<String> {
    let pool = postgres.pool(Login::Sink, "check-config", 1)?;
    rivulet_migrations::check_postgres(&pool).await?;
    Ok("answers, and its schema is up to date".to_owned())
}

/// With passwords, each login must do its work. Without, DATABASE_URL's must do that of one: it may be that one's own.
async fn of_logins(postgres: &Postgres) -> anyhow::Result<String> {
    let (mut able, mut unable, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for login in [
        Login::Ingest,
        Login::Aggregate,
        Login::Sink,
        Login::Api,
        Login::Operator,
    ] {
        let pool = postgres.pool(login, "check-config", 1)?;
        match logins::lacks(&pool, login).await? {
            None => able.push(login.role()),
            Some(lacks) if password(login)?.is_some() => wrong.push(lacks),
            Some(lacks) => unable.push(lacks),
        }
    }
    if able.is_empty() && wrong.is_empty() {
        wrong.extend(unable.into_iter().next());
    }
    if wrong.is_empty() {
        return Ok(format!("here is what these need: {}", able.join(", ")));
    }
    bail!("{}", wrong.join("; "))
}

async fn kafka(aggregate: &Aggregate) -> anyhow::Result<String> {
    let retention = rivulet_kafka::retention(&aggregate.kafka.cluster()?).await?;
    aggregate.config()?.check_retention(retention)?;
    Ok(
        "answers, and the topics keep no more than identities are remembered for, beside the spill"
            .to_owned(),
    )
}

async fn clickhouse(clickhouse: &ClickHouse) -> anyhow::Result<String> {
    let (client, database) = (clickhouse.client()?, &clickhouse.clickhouse_database);
    rivulet_migrations::check_clickhouse(&client, database).await?;
    Ok("answers, and its schema is there".to_owned())
}

async fn retention(aggregate: &Aggregate, sink: &Sink) -> anyhow::Result<String> {
    let clickhouse = &sink.services.clickhouse;
    let kept = Kept {
        policy: sink.retention.policy()?,
        pool: sink
            .services
            .postgres
            .pool(Login::Sink, "check-config", 1)?,
        login: Login::Sink,
        kafka: Some(aggregate.kafka.cluster()?),
        clickhouse: Some((clickhouse.client()?, clickhouse.clickhouse_database.clone())),
    };
    let drifts = kept.drifts().await?;
    if drifts.is_empty() {
        return Ok("every store keeps what it has for as long as the file says".to_owned());
    }
    let each: Vec<_> = drifts
        .iter()
        .map(|drift| format!("\n          {drift}"))
        .collect();
    bail!("a role would not start:{}", each.concat())
}

/// Which rules decide a child's day. That they are old is no failure: nobody may have changed a rule since.
fn time_zones(releases: &[Release], today: NaiveDate) {
    let Some((used, others)) = releases.split_first() else {
        return;
    };
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    let others = others.join("; ");
    println!("ok      time zones: {used} (not newer: {others})");
    if used.is_older_than(OLD_MONTHS, today) {
        println!(
            "WARNING time zones: these rules are more than {OLD_MONTHS} months old: where a government has changed \
             its clocks since, events around midnight are counted in the wrong day for good. Update the \
             system's tzdata, or name a newer directory in RIVULET_TZDB_DIR"
        );
    }
}

fn tracing() -> anyhow::Result<String> {
    Ok(match rivulet_telemetry::Collector::from_env()? {
        Some(collector) => collector.to_string(),
        None => "is off".to_owned(),
    })
}
