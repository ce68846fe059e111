//! Erasing children from this node's spill, and telling erasures that it was searched.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rivulet_registry::{FRESH, tombstones::Tombstones};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    Config,
    spill::{DISK_TIMEOUT, Spill},
};

/// How often it is looked for new tombstones.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The file with the spill's id, by which erasures know it.
const ID_FILE: &str = "id";

/// Why an erasure does not get past this spill yet.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Spill(#[from] rivulet_spill::Refused),
    #[error(
        "{0} was set aside as damaged and has something of an erased child: get out of it what is of use, and \
         delete it"
    )]
    SetAside(String),
}

/// Keeps this spill registered, and without what is of erased children, for ever.
pub(crate) async fn keep_forgetting(spill: Arc<Spill>, pool: PgPool, config: Config) {
    let mut told = None;
    loop {
        match forget(&spill, &pool, &config).await {
            Ok(()) => told = None,
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the spill was not searched for erased children; trying again"
                    );
                }
                told = Some(error);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn forget(spill: &Spill, pool: &PgPool, config: &Config) -> Result<(), Error> {
    let Some(settings) = &config.spill else {
        return Ok(());
    };
    let id = spill_id(&settings.dir)?;
    let (searched, newest): (i64, i64) = sqlx::query_as(
        "INSERT INTO spills AS s (id, host, directory) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET host = $2, directory = $3, seen_at = now()
         RETURNING s.tombstone, (SELECT coalesce(max(number), 0) FROM tombstones)",
    )
    .bind(id)
    .bind(hostname())
    .bind(settings.dir.to_string_lossy())
    .fetch_one(pool)
    .await?;
    if newest <= searched {
        return Ok(());
    }
    // A request that was admitted before this node knew may still spill what Kafka does not take of it.
    tokio::time::sleep(FRESH + config.ack_timeout + DISK_TIMEOUT).await;
    let mut tombstones = Tombstones::default();
    tombstones.read(&mut *pool.acquire().await?, newest).await?;
    let tombstones = Arc::new(tombstones);
    let (dir, of_files) = (settings.dir.clone(), Arc::clone(&tombstones));
    let set_aside = tokio::task::spawn_blocking(move || find_set_aside(&dir, &of_files, newest));
    if let Some(file) = set_aside.await.map_err(io::Error::from)?? {
        return Err(Error::SetAside(file));
    }
    let erased = spill
        .queue
        .erase(move |bytes| tombstones.any_in(bytes, newest))
        .await?;
    if erased > 0 {
        tracing::info!(
            records = erased,
            "records of erased children were removed from the spill"
        );
    }
    // Which of several erasures they belong to is not told apart: the first that waits has the count.
    sqlx::query(
        "WITH searched AS (
             UPDATE spills SET tombstone = $2, removed = removed + $3 WHERE id = $1
         )
         UPDATE erasure_stores SET removed = removed + $3
         WHERE store = 'spill' AND erasure_id = (
             SELECT id FROM erasures WHERE state <> 'done' AND tombstone <= $2 ORDER BY requested_at LIMIT 1)",
    )
    .bind(id)
    .bind(newest)
    .bind(erased.cast_signed())
    .execute(pool)
    .await?;
    Ok(())
}

/// The id of the spill in this directory, made when it is first asked for.
fn spill_id(dir: &Path) -> io::Result<Uuid> {
    let path = dir.join(ID_FILE);
    if let Ok(text) = fs::read_to_string(&path)
        && let Ok(id) = text.trim().parse()
    {
        return Ok(id);
    }
    let id = Uuid::new_v4();
    fs::write(&path, id.to_string())?;
    Ok(id)
}

fn hostname() -> String {
    let name = fs::read_to_string("/etc/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// A file that was set aside as damaged and has the id of somebody who was erased, if there is one.
fn find_set_aside(dir: &Path, tombstones: &Tombstones, to: i64) -> io::Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("damaged-") && tombstones.any_in(&fs::read(&path)?, to) {
            return Ok(Some(path.display().to_string()));
        }
    }
    Ok(None)
}
