//! What the process tells of itself, and the list of all metrics, of which docs/metrics.md is made.

use rivulet_telemetry::Declaration;

rivulet_telemetry::metrics! {
    roles "all";

    /// 1 for the release of the time zones' rules that is in use, by its version and where it comes from
    /// (`operator`, `system`, `bundled`)
    TZDB_INFO: Gauge["version", "source"] = "rivulet_tzdb_info", Count;
}

/// The metrics of every crate that has some.
pub(crate) const ALL: [&[&Declaration]; 16] = [
    METRICS,
    rivulet_aggregator::METRICS,
    rivulet_audit::METRICS,
    rivulet_auditlog::METRICS,
    rivulet_canary::METRICS,
    rivulet_consumer::METRICS,
    rivulet_dashboards::METRICS,
    rivulet_erasure::METRICS,
    rivulet_export::METRICS,
    rivulet_ingest::METRICS,
    rivulet_quarantine::METRICS,
    rivulet_registry::METRICS,
    rivulet_sinks::METRICS,
    rivulet_telemetry::METRICS,
    rivulet_tokens::METRICS,
    rivulet_web::METRICS,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `RIVULET_UPDATE_DOCS=1 cargo test -p rivulet metrics` writes the table anew.
    #[test]
    fn the_documentation_has_every_metric() {
        const BEGIN: &str = "| metric |";
        let mut all = ALL.concat();
        all.sort_by_key(|metric| metric.name);
        let names = all.windows(2).map(|pair| (pair[0].name, pair[1].name));
        assert!(
            names.clone().all(|(one, next)| one != next),
            "a name stands for two metrics"
        );
        let mut table = format!(
            "{BEGIN} type | unit | by | of | meaning |\n{}\n",
            "| --- ".repeat(6) + "|"
        );
        for metric in all {
            let unit = format!("{:?}", metric.unit).to_lowercase();
            let labels: Vec<_> = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            table += &format!(
                "| `{}` | {} | {unit} | {} | {} | {} |\n",
                metric.name,
                metric.kind,
                labels.join(", "),
                metric.roles,
                metric.help.replace('|', "\\|"),
            );
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let text = std::fs::read_to_string(page).unwrap();
        let (before, _) = text.split_once(BEGIN).unwrap();
        let wanted = format!("{before}{table}");
        if std::env::var_os("RIVULET_UPDATE_DOCS").is_some() {
            return std::fs::write(page, &wanted).unwrap();
        }
        assert!(
            text == wanted,
            "docs/metrics.md is not what the code declares: run this test with RIVULET_UPDATE_DOCS=1"
        );
    }
}
