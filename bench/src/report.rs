//! Figures, as a table for people or as lines of JSON.

use serde::Serialize;

#[derive(Serialize)]
struct Figure<'a> {
    bench: &'a str,
    name: &'a str,
    value: f64,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// Prints figures as they come.
pub(crate) struct Report {
    json: bool,
    bench: &'static str,
    missed: u32,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            bench: "",
            missed: 0,
        }
    }

    /// Begins the figures of a benchmark.
    pub(crate) fn title(&mut self, bench: &'static str, title: &str) {
        self.bench = bench;
        if !self.json {
            println!("\n{title}");
        }
    }

    /// What is being done, for whoever waits.
    pub(crate) fn progress(&self, what: &str) {
        eprintln!("  … {what}");
    }

    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.add(name, value, unit, None);
    }

    /// The values, milliseconds, that these shares (0..=1) of them are not above.
    pub(crate) fn quantiles(&mut self, name: &str, values: &[f64], shares: &[f64]) {
        for share in shares {
            let name = format!("{name}, p{}", share * 100.0);
            self.figure(&name, quantile(values, *share), "ms");
        }
    }

    /// A figure that must be no more than this.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, unit: &str, most: f64) {
        let target = format!("<= {most}");
        self.add(name, value, unit, Some((target, value <= most)));
    }

    /// A figure that must be no less than this.
    pub(crate) fn at_least(&mut self, name: &str, value: f64, unit: &str, least: f64) {
        let target = format!(">= {least}");
        self.add(name, value, unit, Some((target, value >= least)));
    }

    fn add(&mut self, name: &str, value: f64, unit: &str, target: Option<(String, bool)>) {
        let (target, met) = target.unzip();
        self.missed += u32::from(met == Some(false));
        if self.json {
            let bench = self.bench;
            let figure = Figure {
                bench,
                name,
                value,
                unit,
                target,
                met,
            };
            if let Ok(line) = serde_json::to_string(&figure) {
                println!("{line}");
            }
            return;
        }
        let digits = if value >= 1000.0 { 0 } else { 2 };
        let verdict = match (target, met) {
            (Some(target), Some(true)) => format!("{target}  met"),
            (Some(target), _) => format!("{target}  MISSED"),
            (None, _) => String::new(),
        };
        let line = format!("  {name:<52} {value:>12.digits$} {unit:<10} {verdict}");
        println!("{}", line.trim_end());
    }

    pub(crate) fn finish(&self) {
        if !self.json {
            match self.missed {
                0 => println!("\nevery target met"),
                missed => println!("\ntargets missed: {missed}"),
            }
        }
    }
}

/// The middle value; the mean of the two middle ones where there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The value that `share` (0..=1) of the values are not above.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}
