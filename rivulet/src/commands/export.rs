//! `rivulet export`

use std::{
    fs::File,
    io::{BufWriter, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use rivulet_auditlog::{Action, Entry, record_now};
use rivulet_export::{Pace, Stores, Subject};
use rivulet_migrations::logins::Login;
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::{
    services::{ClickHouse, Postgres},
    supervise::stop_signal,
};

/// Nobody waits for a file but who asked for it.
const PACE: Pace = Pace {
    rollups: Duration::from_secs(600),
    whole: Duration::from_secs(24 * 3_600),
    stall: Duration::from_secs(3_600),
};

/// Writes all that is held of a child, or of each child of a family, into a zip: a page for people, events, numbers,
/// consents, and what every column means. The same data gives the same bytes.
#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    postgres: Postgres,
    #[command(flatten)]
    clickhouse: ClickHouse,
    #[command(flatten)]
    who: Who,
    /// The zip. It must not exist yet; only this user can read it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// This child.
    #[arg(long, value_name = "ID")]
    child: Option<Uuid>,
    /// Each child of this parent, in a folder of its own.
    #[arg(long, value_name = "ID")]
    parent: Option<Uuid>,
}

impl Export {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let out = self.out.as_path();
        if out.symlink_metadata().is_ok() {
            bail!(exists(out));
        }
        let subject = match (self.who.child, self.who.parent) {
            (Some(child), _) => Subject::Child(child),
            (None, Some(parent)) => Subject::Parent(parent),
            (None, None) => bail!("nobody is named"),
        };
        let stores = Stores {
            pool: self.postgres.pool(Login::Operator, "export", 2)?,
            history: self.clickhouse.client()?,
        };
        // Beside it, so that it is there whole or not at all, and readable by nobody else at any time.
        let folder = match out.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let whole = NamedTempFile::with_prefix_in(".rivulet-export-", folder)
            .with_context(|| format!("nothing can be written to {}", folder.display()))?;
        let file = whole.reopen()?;
        // Stopped by a signal, it leaves no half of a child's data behind.
        let bytes = tokio::select! {
            bytes = write(stores, subject, file) => bytes?,
            () = stop_signal() => bail!("stopped; nothing was written"),
        };
        whole
            .persist_noclobber(out)
            .map_err(|error| match error.error.kind() {
                ErrorKind::AlreadyExists => anyhow!(exists(out)),
                _ => anyhow!("{} cannot be written: {}", out.display(), error.error),
            })?;
        println!("{}: {bytes} bytes", out.display());
        Ok(())
    }
}

async fn write(stores: Stores, subject: Subject, file: File) -> anyhow::Result<u64> {
    let tables = rivulet_dashboards::exported_tables();
    let pool = stores.pool.clone();
    let export = rivulet_export::Export::begin(stores, tables, PACE, subject, None).await?;
    let entry = Entry::done(Action::Export);
    let entry = match subject {
        Subject::Child(child) => entry.child(child),
        Subject::Parent(parent) => entry.parent(parent),
    };
    record_now(&pool, entry).await?;
    let written = export.write(BufWriter::new(file), ()).await?;
    let file = written.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn exists(out: &Path) -> String {
    format!(
        "{} exists already, and an export replaces nothing: remove it, or name another file",
        out.display()
    )
}
