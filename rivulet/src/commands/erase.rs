//! `rivulet erase`

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use rivulet_erasure::{Requested, Status, Stores, Subject};
use serde_json::Value;
use uuid::Uuid;

use super::quarantine::user;
use crate::services::Services;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Erases children and families: from every store, for ever. Waits until nothing is left but in Kafka, whose retention
/// ends it, and prints the certificate. Stopped in between, the erasure goes on in any sink, or when this is run again.
/// Who is not registered is erased as well, of whatever the stores still hold.
#[derive(Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    what: What,
    /// The certificate as JSON, with how far each store is.
    #[arg(long)]
    json: bool,
    /// Who erases, for the certificate. If not given: this user.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// This child; may be given again.
    #[arg(long = "child", value_name = "ID")]
    children: Vec<Uuid>,
    /// This parent, with all children; may be given again.
    #[arg(long = "parent", value_name = "ID")]
    parents: Vec<Uuid>,
    /// A line each: the id of a child, or `parent` and the id of one.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How far this erasure is; waits for nothing.
    #[arg(long, value_name = "ERASURE")]
    status: Option<Uuid>,
    /// Erasures need not wait any more for this spill, whose disk is gone for ever.
    #[arg(long, value_name = "SPILL")]
    without_spill: Option<Uuid>,
}

impl Erase {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let stores = self.services.erasure_stores("erase", 4)?;
        if let Some(spill) = self.what.without_spill {
            ensure!(
                rivulet_erasure::without_spill(&stores.pool, spill).await?,
                "there is no spill {spill}"
            );
            return Ok(());
        }
        let status = match self.what.status {
            Some(erasure) => rivulet_erasure::status(&stores.pool, erasure)
                .await?
                .with_context(|| format!("there is no erasure {erasure}"))?,
            None => {
                let by = self.by.clone().unwrap_or_else(user);
                let subjects = self.what.subjects()?;
                let requested = rivulet_erasure::request_any(&stores.pool, &subjects, &by).await?;
                follow(&stores, requested).await?
            }
        };
        if self.json {
            println!("{}", serde_json::to_string(&status)?);
        } else {
            print!("{}", text(&status));
        }
        Ok(())
    }
}

impl What {
    fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        let mut subjects: Vec<_> = self.children.iter().copied().map(Subject::Child).collect();
        subjects.extend(self.parents.iter().copied().map(Subject::Parent));
        if let Some(file) = &self.file {
            let text = fs::read_to_string(file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            subjects.extend(read(&text).map_err(|why| anyhow!("{}, {why}", file.display()))?);
        }
        if subjects.is_empty() {
            bail!("nobody is named: the file has no id");
        }
        Ok(subjects)
    }
}

fn read(text: &str) -> Result<Vec<Subject>, String> {
    let mut subjects = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (kind, id) = line
            .split_once(char::is_whitespace)
            .unwrap_or(("child", line));
        let id = id.trim().parse();
        subjects.push(match (kind, id) {
            ("child", Ok(id)) => Subject::Child(id),
            ("parent", Ok(id)) => Subject::Parent(id),
            _ => {
                return Err(format!(
                    "line {number}: must be the id of a child, or `parent` and the id of one; nobody was erased"
                ));
            }
        });
    }
    Ok(subjects)
}

/// Carries erasures on until this one is done, or sees another process do it.
async fn follow(stores: &Stores, requested: Requested) -> anyhow::Result<Status> {
    let Requested { erasure_id, .. } = requested;
    let mut told = None;
    loop {
        if let Err(error) = rivulet_erasure::work(stores).await {
            eprintln!("rivulet: {error}; trying again (the erasure is {erasure_id})");
        }
        let status = rivulet_erasure::status(&stores.pool, erasure_id).await?;
        let status = status.context("the erasure is gone")?;
        if status.state == "done" {
            return Ok(status);
        }
        if told != status.waits_for {
            if let Some(why) = &status.waits_for {
                eprintln!("rivulet: erasure {erasure_id} waits for {why}");
            }
            told.clone_from(&status.waits_for);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn text(status: &Status) -> String {
    let mut text = format!(
        "Erasure {}: {}\n{} subjects, requested {}\n",
        status.erasure_id,
        status.state,
        status.subjects,
        status.requested_at.format("%Y-%m-%d %H:%M:%S UTC"),
    );
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    if let Some(why) = &status.waits_for {
        line(format!("waits for {why}"));
    }
    for store in &status.stores {
        let when = match (store.clean_at, store.gone_by) {
            (Some(clean), _) => format!("clean since {}", clean.format("%Y-%m-%d %H:%M:%S UTC")),
            (None, Some(gone)) => format!("gone by {}", gone.format("%Y-%m-%d %H:%M:%S UTC")),
            (None, None) if store.store == "kafka" && status.state == "done" => {
                "kept without end: the topics have no retention".to_owned()
            }
            (None, None) => "not yet clean".to_owned(),
        };
        line(format!(
            "{:<11} {:>9} removed, {when}",
            store.store, store.removed
        ));
    }
    if let Some(certificate) = &status.certificate {
        for store in certificate["stores"].as_array().into_iter().flatten() {
            for query in store["queries"].as_array().into_iter().flatten() {
                line(format!(
                    "  {} answered {}",
                    query["query"].as_str().unwrap_or_default(),
                    query["answer"]
                ));
            }
        }
        line("What remains:".to_owned());
        for what in certificate["remains"].as_array().into_iter().flatten() {
            line(format!("  {}", what.as_str().unwrap_or_default()));
        }
        line("The subjects, by the SHA-256 of their ids:".to_owned());
        for subject in certificate["subjects"].as_array().into_iter().flatten() {
            let word = |of: &Value| of.as_str().unwrap_or_default().to_owned();
            line(format!(
                "  {:<6} {}",
                word(&subject["kind"]),
                word(&subject["sha256"])
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_a_subject_a_line() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let text = format!("\u{feff}# from the ticket\n{one}\r\n\nparent  {two}\nchild {two}\n");
        assert_eq!(
            read(&text),
            Ok(vec![
                Subject::Child(one),
                Subject::Parent(two),
                Subject::Child(two)
            ])
        );
        for wrong in [
            "nobody",
            "uncle 0f9e8d7c-1111-4222-8333-444444444444",
            "parent",
        ] {
            assert!(
                read(&format!("{one}\n{wrong}"))
                    .unwrap_err()
                    .contains("line 2"),
                "{wrong}"
            );
        }
    }
}
