//! `rivulet rebuild`

use std::fmt::Write as _;

use clap::Args;
use rivulet_audit::{Children, NotRecounted, Rebuilt};
use rivulet_auditlog::{Action, Entry, record_now};
use rivulet_events::ChildId;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{quarantine::printable, verify::Unbalanced};
use crate::services::Services;

/// Recounts children's days, topics and streaks from the history and shows where the rollups differ;
/// with --write it puts the recount in their place, while events go on arriving. Rows with
/// withheld events, and days older than two years, cannot be recounted and are left alone. A child
/// of whom the history has what cannot be counted is named and passed over. Exits with 0 when all
/// that was compared is as it should be, or was replaced; with 3 when something differs and is not
/// replaced, or a child was passed over; with 1 when it could not be told, because a store is out
/// of reach.
#[derive(Args)]
pub(crate) struct Rebuild {
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    which: Which,
    /// Replaces what differs. The aggregators wait for some seconds for every 500 children of whom
    /// something differs.
    #[arg(long)]
    write: bool,
    /// A line of JSON for each row that differs (`table`, `key`, `stored`, `recounted`) and for each child
    /// passed over (`child_id`, `problem`).
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// This child; may be given again.
    #[arg(long = "child", value_name = "ID")]
    children: Vec<Uuid>,
    /// Everyone.
    #[arg(long)]
    all: bool,
    /// So many children, by chance.
    #[arg(long, value_name = "CHILDREN")]
    sample: Option<u32>,
}

impl Rebuild {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let children = match self.which.sample {
            Some(sample) => Children::Sample(sample),
            None if self.which.all => Children::All,
            None => Children::These(
                self.which
                    .children
                    .iter()
                    .map(|id| ChildId::new(*id))
                    .collect(),
            ),
        };
        let stores = self.services.stores()?;
        let rebuilt = rivulet_audit::rebuild(&stores, &children, self.write).await?;
        let differences = rebuilt.compared.differences.iter();
        let shown = differences.filter_map(|row| row.key["child_id"].as_str()?.parse().ok());
        let mut shown: Vec<Uuid> = shown.collect();
        shown.sort_unstable();
        shown.dedup();
        // What is replaced is told with that.
        if !shown.is_empty() && !self.write {
            let seen = Entry::done(Action::Read).children(shown);
            record_now(&stores.pool, seen.detail("kinds", vec!["rebuild"])).await?;
        }
        if self.json {
            for difference in &rebuilt.compared.differences {
                println!("{}", serde_json::to_string(difference)?);
            }
            for passed_over in &rebuilt.not_recounted {
                println!("{}", serde_json::to_string(passed_over)?);
            }
        } else {
            // Apps choose the names of their topics, so these must not send control codes to the terminal.
            print!("{}", printable(&text(&rebuilt, self.write)));
        }
        let differing = if self.write {
            0
        } else {
            rebuilt.compared.differences.len()
        };
        match (differing, rebuilt.not_recounted.len()) {
            (0, 0) => Ok(()),
            (rows, children) => {
                let said = format!("{rows} rows differ, {children} children were passed over");
                Err(Unbalanced(said).into())
            }
        }
    }
}

fn text(rebuilt: &Rebuilt, write: bool) -> String {
    let mut text = String::new();
    for difference in &rebuilt.compared.differences {
        let key: Vec<_> = difference.key.values().map(plain).collect();
        let _ = writeln!(text, "{} {}", difference.table, key.join(" "));
        match (&difference.stored, &difference.recounted) {
            (Some(stored), Some(recounted)) => {
                for (column, value) in stored {
                    let _ = writeln!(text, "  {column}: {value}, recounted {}", recounted[column]);
                }
            }
            (None, Some(row)) => {
                let _ = writeln!(text, "  missing, recounted {}", numbers(row));
            }
            (Some(row), _) => {
                let _ = writeln!(text, "  should not be there: {}", numbers(row));
            }
            (None, None) => {}
        }
    }
    for passed_over in &rebuilt.not_recounted {
        let NotRecounted { child_id, problem } = passed_over;
        let _ = writeln!(text, "child {child_id} passed over: {problem}");
    }
    let Rebuilt {
        children,
        quarantined,
        not_recounted,
        compared,
        written,
    } = rebuilt;
    let _ = writeln!(
        text,
        "{} rows of {children} children compared, {} differ, {written} replaced",
        compared.rows,
        compared.differences.len(),
    );
    if compared.left_out > 0 {
        let _ = writeln!(
            text,
            "{} rows left alone: some of their events are withheld from the history, or older than it",
            compared.left_out
        );
    }
    if !not_recounted.is_empty() {
        let _ = writeln!(
            text,
            "{} children passed over: they cannot be recounted until what is named above is mended",
            not_recounted.len()
        );
    }
    if *quarantined > 0 {
        let _ = writeln!(
            text,
            "{quarantined} children left alone: a record of theirs is in quarantine; replay or drop it first"
        );
    }
    if !write && !compared.differences.is_empty() {
        text.push_str("--write puts the recount in their place\n");
    }
    text
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A row without what is zero, empty or its key.
fn numbers(row: &Map<String, Value>) -> String {
    let told = row.iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    });
    let told: Vec<_> = told
        .map(|(name, value)| format!("{name} {}", plain(value)))
        .collect();
    told.join(", ")
}
