//! Prometheus' expressions: they parse, and ask for what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use rivulet_sandbox::tools;
use serde_json::json;

use super::{PROMETHEUS, Query, array, boards, root};

/// What Prometheus itself adds to every series: prometheus.yml.
const TARGET: [&str; 3] = ["instance", "job", "role"];

struct Metric {
    kind: String,
    labels: Vec<String>,
}

/// docs/metrics.md, which rivulet/tests/command/metrics.rs compares with the code; and Prometheus' own.
fn metrics() -> BTreeMap<String, Metric> {
    let page = fs::read_to_string(root("docs/metrics.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `rivulet_"));
    let own = [
        "| up | gauge | | |",
        "| process_cpu_seconds_total | counter | | |",
        "| process_resident_memory_bytes | gauge | | |",
        "| ALERTS | gauge | | `alertname`, `alertstate`, `severity` |",
    ];
    let metric = |row: &str| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let names = cells[4].split(", ").map(|label| label.trim_matches('`'));
        let labels = names.filter(|label| !label.is_empty()).chain(TARGET);
        let metric = Metric {
            kind: cells[2].to_owned(),
            labels: labels.map(str::to_owned).collect(),
        };
        (cells[1].trim_matches('`').to_owned(), metric)
    };
    rows.chain(own).map(metric).collect()
}

/// Every expression of the boards, with those of variables and annotations.
fn expressions() -> Vec<Query> {
    let mut found = Vec::new();
    for board in boards() {
        found.extend(board.queries(PROMETHEUS, "expr"));
        let json = &board.json;
        let annotations = array(&json["annotations"]["list"]).map(|of| (of, &of["expr"]));
        let variables = array(&json["templating"]["list"]).map(|of| (of, &of["query"]["query"]));
        for (of, text) in annotations.chain(variables) {
            if of["datasource"]["type"] == PROMETHEUS {
                let text = text.as_str().unwrap();
                let values = text.strip_prefix("label_values(");
                let values = values.and_then(|of| of.strip_suffix(')')?.rsplit_once(", "));
                found.push(Query {
                    at: format!("{}: {}", board.name(), of["name"]),
                    text: board.with_variables(values.map_or(text, |(series, _)| series)),
                    target: of.clone(),
                });
            }
        }
    }
    assert!(found.len() > 50, "{}", found.len());
    found
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    /// `{…}`, whole.
    Matchers(&'a str),
    Other(char),
}

/// Enough of PromQL to tell names from the rest; whether it is PromQL is for promtool to say.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(char) = rest.chars().next() {
        let end = match char {
            '{' => 1 + rest.find('}').unwrap(),
            '"' => 2 + rest[1..].find('"').unwrap(),
            _ if is_word(char) => rest.find(|char| !is_word(char)).unwrap_or(rest.len()),
            _ => char.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        match char {
            '{' => found.push(Token::Matchers(&token[1..end - 1])),
            _ if char.is_ascii_digit() || char == '"' || char.is_whitespace() => {}
            _ if is_word(char) => found.push(Token::Word(token)),
            _ => found.push(Token::Other(char)),
        }
        rest = after;
    }
    found
}

fn label_names(matchers: &str) -> Vec<&str> {
    // A comma in quotes begins a piece without a comparison.
    let pieces = matchers.split(',').filter(|piece| piece.contains('='));
    pieces
        .map(|piece| piece.split(['=', '!']).next().unwrap().trim())
        .collect()
}

/// Grafana's macros as it could replace them.
fn without_macros(at: &str, text: &str) -> String {
    let text = text
        .replace("$__rate_interval", "5m")
        .replace("$__range", "6h");
    // A rate over $__interval has gaps: it may be shorter than two scrapes.
    assert!(
        !text.contains('$'),
        "{at}: this test does not know a variable of {text}"
    );
    text
}

#[test]
fn they_name_only_metrics_and_labels_that_there_are() {
    const KEYWORDS: [&str; 5] = ["and", "bool", "offset", "or", "unless"];
    const GROUPINGS: [&str; 6] = [
        "by",
        "group_left",
        "group_right",
        "ignoring",
        "on",
        "without",
    ];
    let metrics = metrics();
    for Query { at, text, target } in expressions() {
        let text = without_macros(&at, &text);
        let tokens = tokens(&text);
        let (mut there, mut asked, mut kept) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        let mut grouping = "";
        for (place, token) in tokens.iter().enumerate() {
            let next = tokens.get(place + 1);
            let word = match token {
                Token::Word(word) => *word,
                Token::Other(')') => {
                    grouping = "";
                    continue;
                }
                _ => continue,
            };
            if GROUPINGS.contains(&word) {
                grouping = word;
                continue;
            }
            if !grouping.is_empty() {
                asked.push(word);
                kept.extend((grouping == "by").then_some(word));
                continue;
            }
            let is_function = next == Some(&Token::Other('('))
                || matches!(next, Some(Token::Word(word)) if GROUPINGS.contains(word));
            if is_function || KEYWORDS.contains(&word) {
                continue;
            }
            let part = ["_bucket", "_sum", "_count"].into_iter().find(|part| {
                let base = word.strip_suffix(part);
                base.is_some_and(|base| metrics.get(base).is_some_and(|of| of.kind == "histogram"))
            });
            let metric = metrics.get(word.strip_suffix(part.unwrap_or_default()).unwrap());
            let metric = metric.unwrap_or_else(|| panic!("{at}: there is no metric {word}"));
            assert_eq!(part.is_some(), metric.kind == "histogram", "{at}: {word}");
            let mut labels: Vec<_> = metric.labels.iter().map(String::as_str).collect();
            labels.extend((part == Some("_bucket")).then_some("le"));
            let mut after = next;
            if let Some(Token::Matchers(matchers)) = next {
                for label in label_names(matchers) {
                    assert!(labels.contains(&label), "{at}: {word} has no label {label}");
                }
                after = tokens.get(place + 2);
            }
            // By itself a counter says nothing but how long ago its process started.
            let has_range = after == Some(&Token::Other('['));
            assert!(
                metric.kind == "gauge" || has_range,
                "{at}: {word} only grows: take its rate"
            );
            there.extend(labels);
        }
        assert!(!there.is_empty(), "{at}: {text} names no metric");
        for label in asked {
            assert!(there.contains(label), "{at}: nothing has a label {label}");
        }
        let shown = if kept.is_empty() { &there } else { &kept };
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        for label in legend.split("{{").skip(1) {
            let label = label.split("}}").next().unwrap().trim();
            assert!(
                shown.contains(label),
                "{at}: the legend's {label} is not in the answer"
            );
        }
    }
}

#[test]
fn they_are_promql() {
    let mut rules = Vec::new();
    for Query { at, text, .. } in expressions() {
        let text = without_macros(&at, &text);
        let record = format!("board:query:{}", rules.len());
        rules.push(json!({"record": record, "expr": text, "labels": {"at": at}}));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML.
    let groups = json!({"groups": [{"name": "boards", "rules": rules}]});
    fs::write(file.path(), groups.to_string()).unwrap();
    let Some(mut promtool) = tools::promtool("the boards' PromQL") else {
        return;
    };
    let said = promtool.args(["check", "rules"]).arg(file.path()).output();
    let said = said.unwrap();
    assert!(said.status.success(), "{said:?}");
}
