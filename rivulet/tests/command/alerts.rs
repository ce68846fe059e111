//! The alerts of dashboards/prometheus: promtool's own tests, a runbook for each, and no metric that the
//! code does not have.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rivulet_sandbox::tools;

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of)
}

fn text(of: &str) -> String {
    fs::read_to_string(path(of)).unwrap()
}

#[test]
fn each_fires_when_it_should_and_not_otherwise() {
    promtool(&["test", "rules", "alerts.test.yml"]);
}

#[test]
fn prometheus_takes_its_configuration() {
    promtool(&["check", "config", "prometheus.yml"]);
}

fn promtool(args: &[&str]) {
    let Some(mut promtool) = tools::promtool("the alerts") else {
        return;
    };
    promtool
        .args(args)
        .current_dir(path("dashboards/prometheus"));
    let said = promtool.output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn each_has_a_runbook_a_test_and_metrics_that_there_are() {
    let rules = text("dashboards/prometheus/alerts.yml");
    let names: BTreeSet<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() >= 10, "{names:?}");
    let (runbook, tests) = (
        text("docs/alerts.md"),
        text("dashboards/prometheus/alerts.test.yml"),
    );
    for name in names {
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name}");
        let link = format!("docs/alerts.md#{}", name.to_lowercase());
        assert!(rules.contains(&link), "{link}");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name}");
    }
    let page = text("docs/metrics.md");
    let is_name = |char: char| char.is_ascii_lowercase() || char == '_';
    for word in rules.split(|char| !is_name(char)) {
        if word.starts_with("rivulet_") {
            let name = word.trim_end_matches("_bucket").trim_end_matches("_count");
            assert!(page.contains(&format!("| `{name}` |")), "{word}");
        }
    }
}
