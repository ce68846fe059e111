//! `rivulet retention plan|notice`

mod plan;

use std::fmt::Write as _;

use chrono::Utc;
use clap::{Args, Subcommand};
use rivulet_retention::InactiveThen;

use self::plan::{Part, Plan};
use crate::{retention::RetentionFlags, services::Services};

/// How long what is kept, by the retention file.
#[derive(Args)]
pub(crate) struct Retention {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Tell what is too old by the file and would go, what goes next and when, and where a store differs from the file.
    /// Changes nothing. It reads whole tables, so it may take minutes.
    Plan {
        #[command(flatten)]
        file: RetentionFlags,
        #[command(flatten)]
        services: Box<Services>,
        /// One JSON document.
        #[arg(long)]
        json: bool,
        /// Name the inactive children too, a line each, as `rivulet erase --file` takes them.
        #[arg(long, conflicts_with = "json")]
        children: bool,
    },
    /// Print the public notice that 16 CFR 312.10 asks for, in Markdown.
    Notice {
        #[command(flatten)]
        file: RetentionFlags,
        /// As a page for the web, which loads nothing.
        #[arg(long)]
        html: bool,
    },
}

impl Retention {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Plan {
                file,
                services,
                json,
                children,
            } => {
                let plan = plan::make(file.policy()?, &services, Utc::now()).await?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&plan)?);
                } else {
                    print!("{}", text(&plan));
                }
                if children {
                    plan.inactive_ids
                        .iter()
                        .for_each(|child| println!("{child}"));
                }
            }
            Action::Notice { file, html } => {
                let policy = file.policy()?;
                let form = if html {
                    rivulet_retention::html
                } else {
                    rivulet_retention::markdown
                };
                print!("{}", form(&policy));
            }
        }
        Ok(())
    }
}

fn text(plan: &Plan) -> String {
    let mut text = format!(
        "{:<13} {:>9}  {:<42} {:>12} {:>6} {:>10}  {:<10}  next\n",
        "class", "kept", "where", "too old", "parts", "bytes", "oldest"
    );
    for Part {
        class,
        days,
        place,
        rows,
        partitions,
        bytes,
        oldest,
        next,
        note,
    } in &plan.parts
    {
        let of = |number: &Option<u64>| {
            number.map_or_else(|| "-".to_owned(), |number| number.to_string())
        };
        let day = |day: &Option<chrono::NaiveDate>| {
            day.map_or_else(|| "-".to_owned(), |day| day.to_string())
        };
        let _ = writeln!(
            text,
            "{class:<13} {:>9}  {place:<42} {:>12} {:>6} {:>10}  {:<10}  {}{}",
            format!("{days} days"),
            of(rows),
            of(partitions),
            of(bytes),
            day(oldest),
            day(next),
            note.as_ref()
                .map_or_else(String::new, |note| format!("  {note}")),
        );
    }
    if let Some(inactive) = &plan.inactive {
        let then = match inactive.then {
            InactiveThen::Report => "are only reported",
            InactiveThen::Erase => "are erased",
        };
        let _ = writeln!(
            text,
            "\nChildren without an event for {} days: {}; they {then}",
            inactive.after.days(),
            plan.inactive_children.unwrap_or_default()
        );
    }
    for drift in &plan.drifts {
        let _ = writeln!(text, "\nDIFFERS {drift}");
    }
    text
}
