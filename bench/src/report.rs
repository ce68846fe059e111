//! Figures, as a table for people or as lines of JSON.

use serde::Serialize;

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

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
    missed: u32,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, missed: 0 }
    }

    /// Begins the figures of a benchmark.
    pub(crate) fn title(&self, title: &str) {
        if !self.json {
            println!("\n{title}");
        }
    }

    /// What is being done, for whoever waits.
    pub(crate) fn progress(&self, what: &str) {
        eprintln!("  … {what}");
    }

    pub(crate) fn figure(&mut self, bench: &str, name: &str, value: f64, unit: &str) {
        self.add(bench, name, value, unit, None);
    }

    pub(crate) fn target(
        &mut self,
        bench: &str,
        name: &str,
        value: f64,
        unit: &str,
        target: Target,
    ) {
        self.add(bench, name, value, unit, Some(target));
    }

    fn add(&mut self, bench: &str, name: &str, value: f64, unit: &str, target: Option<Target>) {
        let met = target.map(|target| target.is_met(value));
        self.missed += u32::from(met == Some(false));
        if self.json {
            let target = target.map(|target| target.to_string());
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
