//! `rivulet rebuild`

use std::fmt::Write as _;

use clap::Args;
use rivulet_audit::{Children, Rebuilt};
use rivulet_events::ChildId;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::verify::{Services, Unbalanced};

/// Recounts children's days, topics and streaks from the history and shows where the rollups differ;
/// with --write it puts the recount in their place, while events go on arriving. Rows with
/// withheld events, and days older than two years, cannot be recounted and are left alone. Exits
/// with 3 when something differs and is not replaced.
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
    /// A line of JSON for each row that differs.
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
        if self.json {
            for difference in &rebuilt.compared.differences {
                println!("{}", serde_json::to_string(difference)?);
            }
        } else {
            print!("{}", text(&rebuilt, self.write));
        }
        match rebuilt.compared.differences.len() as u64 {
            differing if differing > 0 && !self.write => Err(Unbalanced(differing).into()),
            _ => Ok(()),
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
    let Rebuilt {
        children,
        quarantined,
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
