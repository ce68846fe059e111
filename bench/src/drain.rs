//! How fast a consumer works off topics that were filled before it started.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rivulet_sandbox::TestBed;
use sqlx::PgPool;

use crate::{bed, corpus::Corpus, process};

const LIMIT: Duration = Duration::from_secs(90);

/// What draining took. The clock starts when the first records are done, so that starting up and
/// joining the group do not count, and neither do those records.
pub(crate) struct Drained {
    /// Records a second.
    pub(crate) rate: f64,
    /// CPU microseconds a record, in the role.
    pub(crate) cpu: f64,
    /// The same in PostgreSQL's processes that serve it; `None` when they are not on this machine.
    pub(crate) postgres_cpu: Option<f64>,
    /// MiB.
    pub(crate) peak_memory: f64,
}

/// Starts the role and waits until it has done every record of the corpus.
pub(crate) async fn drain(
    bed: &TestBed,
    role: &'static str,
    consumer: &str,
    corpus: &Corpus,
) -> Result<Drained> {
    let running = process::start(role, &bed::environment(bed))?;
    let asked = Instant::now();
    let mut start = None;
    loop {
        let done = done(&bed.pool, consumer).await?;
        if done > 0 && start.is_none() {
            let postgres_cpu = backends_cpu(&bed.pool).await?;
            start = Some((
                done,
                Instant::now(),
                process::cpu_of(&running)?,
                postgres_cpu,
            ));
        }
        if done >= corpus.len() {
            break;
        }
        ensure!(
            asked.elapsed() < LIMIT,
            "`rivulet {role}` did {done} of {} records in {LIMIT:?}",
            corpus.len()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = Instant::now();
    let Some((first, started, cpu, postgres_cpu)) = start else {
        anyhow::bail!("there was nothing to drain");
    };
    let records = (corpus.len() - first) as f64;
    ensure!(
        records > 0.0,
        "every record was done in one batch: there is nothing to measure"
    );
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / records;
    let drained = Drained {
        rate: records / (ended - started).as_secs_f64(),
        cpu: micros(process::cpu_of(&running)? - cpu),
        postgres_cpu: postgres_cpu
            .zip(backends_cpu(&bed.pool).await?)
            .map(|(before, after)| micros(after.saturating_sub(before))),
        peak_memory: process::peak_memory(&running)?,
    };
    running.stop().await?;
    Ok(drained)
}

pub(crate) async fn done(pool: &PgPool, consumer: &str) -> Result<usize> {
    let sum: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM kafka_positions WHERE consumer = $1",
    )
    .bind(consumer)
    .fetch_one(pool)
    .await?;
    Ok(usize::try_from(sum)?)
}

/// CPU time of PostgreSQL's processes that serve roles on this database. They live as long as the role.
async fn backends_cpu(pool: &PgPool) -> Result<Option<Duration>> {
    let pids: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'rivulet %'",
    )
    .fetch_all(pool)
    .await?;
    let is_postgres = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == "postgres")
    };
    let cpu = |pid: i32| {
        Some(pid.unsigned_abs())
            .filter(|pid| is_postgres(*pid))
            .and_then(process::cpu)
    };
    Ok(pids.into_iter().map(cpu).sum())
}
