//! An export, from the first question to the last byte.

use std::io::Write;

use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Error, Pace, Stores, Subject, Tables,
    archive::Archive,
    fields::schema,
    history::{Columns, Extent, Form, Rows, extent},
    metrics::EXPORTS,
    page,
    rollups::{Child, Snapshot, children},
};

/// An export that can begin: both stores have answered, and there is somebody to export.
pub struct Export {
    stores: Stores,
    tables: Tables,
    pace: Pace,
    subject: Subject,
    columns: Columns,
    children: Vec<(Child, Extent)>,
    snapshot: Snapshot,
}

impl Export {
    /// Looks up who is exported and how much there is of them, and takes the snapshot of PostgreSQL. For a `viewer`, a
    /// parent, nobody else's child is there.
    ///
    /// # Errors
    /// [`Error::Unknown`] where nobody of that id can be seen; a store that does not answer; [`Error::Changed`] where the
    /// family changed meanwhile.
    pub async fn begin(
        stores: Stores,
        tables: Tables,
        pace: Pace,
        subject: Subject,
        viewer: Option<Uuid>,
    ) -> Result<Self, Error> {
        let begun = Self::open(stores, tables, pace, subject, viewer).await;
        begun.inspect_err(|error| EXPORTS.with([error.outcome()]).increment(1))
    }

    async fn open(
        stores: Stores,
        tables: Tables,
        pace: Pace,
        subject: Subject,
        viewer: Option<Uuid>,
    ) -> Result<Self, Error> {
        // The snapshot is taken last: it holds a connection, and counting a long history takes ClickHouse a second.
        let found = children(&stores.pool, subject, viewer).await?;
        let columns = Columns::read(&stores.history).await?;
        let mut children = Vec::with_capacity(found.len());
        for child in found {
            let extent = extent(&stores.history, child.id).await?;
            children.push((child, extent));
        }
        let mut snapshot = Snapshot::begin(&stores.pool, viewer).await?;
        let now = snapshot.children(subject).await?;
        if !now.iter().eq(children.iter().map(|(child, _)| child)) {
            return Err(Error::Changed);
        }
        Ok(Self {
            stores,
            tables,
            pace,
            subject,
            columns,
            children,
            snapshot,
        })
    }

    /// Writes the archive, and gives back what it was written to. `hold` is dropped when PostgreSQL was read.
    ///
    /// # Errors
    /// It is not whole, and what was written has no end: nobody can take it for whole.
    pub async fn write<W: Write + Send + 'static>(
        self,
        to: W,
        hold: impl Send,
    ) -> Result<W, Error> {
        let whole = self.pace.whole;
        let written = timeout(whole, self.run(Archive::new(to), hold)).await;
        let written = written.unwrap_or(Err(Error::TooLong));
        let outcome = written.as_ref().err().map_or("whole", Error::outcome);
        EXPORTS.with([outcome]).increment(1);
        written
    }

    async fn run<W: Write + Send + 'static>(
        self,
        mut archive: Archive<W>,
        hold: impl Send,
    ) -> Result<W, Error> {
        let Self {
            stores,
            tables,
            pace,
            subject,
            columns,
            children,
            snapshot,
        } = self;
        let folder = |child: &Child| match subject {
            Subject::Child(_) => String::new(),
            Subject::Parent(_) => format!("{}/", child.id),
        };
        let read = rollups(snapshot, &tables, &columns, &children, folder, &mut archive);
        timeout(pace.rollups, read)
            .await
            .unwrap_or(Err(Error::TooLong))?;
        drop(hold);
        for (child, extent) in &children {
            for (name, form) in [("events.ndjson", Form::Ndjson), ("events.csv", Form::Csv)] {
                archive.begin(format!("{}{name}", folder(child))).await?;
                let history = &stores.history;
                let mut rows = Rows::of(
                    history,
                    &columns,
                    child.id,
                    child.parent_id,
                    extent,
                    form,
                    pace.whole,
                )?;
                rows.begin(&mut archive.text);
                while rows.next(&mut archive.text).await? {
                    archive.settle().await?;
                }
            }
        }
        archive.finish().await
    }
}

/// Writes all that is not an event.
async fn rollups<W: Write + Send + 'static>(
    mut snapshot: Snapshot,
    tables: &Tables,
    columns: &Columns,
    children: &[(Child, Extent)],
    folder: impl Fn(&Child) -> String,
    archive: &mut Archive<W>,
) -> Result<(), Error> {
    let schema = json(&schema(&columns.fields, tables))?;
    let mut consents = Vec::new();
    if let Some((child, _)) = children.first() {
        // One family.
        consents = json(&snapshot.consents(child.parent_id).await?)?;
    }
    snapshot.as_viewer().await?;
    for (child, extent) in children {
        let folder = folder(child);
        let totals = snapshot.totals(child.id).await?;
        let streak = json(&snapshot.streak(child, &tables.streak).await?)?;
        for (name, content) in [
            ("index.html", page::index(child, &totals, extent).as_bytes()),
            ("schema.json", &schema),
            ("streak.json", &streak),
            ("consents.json", &consents),
        ] {
            archive.begin(format!("{folder}{name}")).await?;
            archive.text.extend_from_slice(content);
        }
        for (name, table, fields) in [
            (
                "daily.csv",
                ("daily_child_metrics", "local_date"),
                &tables.daily,
            ),
            (
                "learning.csv",
                ("learning_analytics", "local_date, subject"),
                &tables.learning,
            ),
            ("topics.csv", ("topic_progress", "topic"), &tables.topics),
        ] {
            archive.begin(format!("{folder}{name}")).await?;
            snapshot.csv(child.id, table, fields, archive).await?;
        }
    }
    Ok(())
}

/// For people, too.
fn json(value: &serde_json::Value) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    Ok(text)
}
