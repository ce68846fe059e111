//! docs/metrics.md tells every metric, as the code describes it.
//! `RIVULET_UPDATE_DOCS=1 cargo test -p rivulet --test command metrics` writes its table anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates of what runs in production, and who their metrics belong to.
const CRATES: [(&str, &str); 14] = [
    ("ingest", "ingest"),
    ("web", "all"),
    ("spill", "ingest"),
    ("registry", "ingest, api"),
    ("tokens", "ingest, api"),
    ("consumer", "aggregate, sink"),
    ("aggregator", "aggregate"),
    ("sinks", "sink"),
    ("quarantine", "aggregate, sink"),
    ("audit", "verify, all"),
    ("canary", "canary"),
    ("dashboards", "api"),
    ("telemetry", "all"),
    ("rivulet", "all"),
];

struct Metric {
    kind: &'static str,
    unit: String,
    labels: Vec<String>,
    roles: &'static str,
    meaning: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The string literals of a piece of code, as they read.
fn literals(code: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '"' {
            continue;
        }
        let mut text = String::new();
        while let Some(char) = chars.next() {
            match char {
                '"' => break,
                '\\' => match chars.next().unwrap() {
                    // The line goes on.
                    '\n' => while chars.next_if(|char| char.is_whitespace()).is_some() {},
                    escaped => text.push(escaped),
                },
                char => text.push(char),
            }
        }
        literals.push(text);
    }
    literals
}

/// Channels of PostgreSQL's NOTIFY have one word after the prefix, metrics more.
fn is_metric(text: &str) -> bool {
    text.strip_prefix("rivulet_").is_some_and(|rest| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        rest.contains('_') && rest.bytes().all(plain)
    })
}

/// The arguments of a macro's call, from behind its opening bracket.
fn arguments(code: &str) -> &str {
    let (mut depth, mut in_text) = (1, false);
    let end = code.find(|char| {
        match char {
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &code[..end.unwrap()]
}

/// The metric that a macro's first argument names: a literal, or a constant of that crate.
fn named(arguments: &str, code: &str, folder: &str) -> String {
    let first = arguments.split(',').next().unwrap().trim();
    let constant = format!("const {first}: &str = ");
    let value = match code.split_once(&constant) {
        Some((_, value)) => value.split(';').next().unwrap(),
        None => first,
    };
    let name = literals(value).into_iter().next();
    name.unwrap_or_else(|| panic!("{first} is no constant of {folder}"))
}

/// What the code describes, and the names that it uses.
fn described() -> (BTreeMap<String, Metric>, BTreeSet<String>) {
    let (mut metrics, mut used) = (BTreeMap::new(), BTreeSet::new());
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (folder, roles) in CRATES {
        let mut files = Vec::new();
        sources(&root().join(folder).join("src"), &mut files);
        let mut code = String::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            used.extend(literals(&text).into_iter().filter(|text| is_metric(text)));
            code += &text;
        }
        for kind in ["counter", "gauge", "histogram"] {
            let start = format!("{kind}!(");
            for (at, _) in code.match_indices(&start) {
                let call = arguments(&code[at + start.len()..]);
                let name = named(call, &code, folder);
                if !code[..at].ends_with("describe_") {
                    let before_arrows = call.rsplit("=>").skip(1).map(str::trim_end);
                    let of_call = before_arrows.filter_map(|text| text.strip_suffix('"'));
                    let of_call = of_call.map(|text| text.rsplit('"').next().unwrap().to_owned());
                    labels.entry(name).or_default().extend(of_call);
                    continue;
                }
                let unit = match call.split("Unit::").nth(1) {
                    Some(unit) => unit.split(',').next().unwrap().to_lowercase(),
                    None if name.ends_with("_seconds") => "seconds".to_owned(),
                    None if name.contains("_bytes") => "bytes".to_owned(),
                    None => "count".to_owned(),
                };
                let metric = Metric {
                    kind,
                    unit,
                    labels: Vec::new(),
                    roles,
                    meaning: literals(call).pop().unwrap(),
                };
                metrics.insert(name, metric);
            }
        }
    }
    for (name, metric) in &mut metrics {
        let of_calls = labels.remove(name);
        let of_calls = of_calls.unwrap_or_else(|| panic!("nothing is counted as {name}"));
        metric.labels.extend(of_calls);
    }
    (metrics, used)
}

#[test]
fn every_metric_is_described_and_in_the_documentation() {
    const BEGIN: &str = "| metric |";
    let (metrics, used) = described();
    let undescribed: Vec<_> = used
        .iter()
        .filter(|name| !metrics.contains_key(*name))
        .collect();
    assert!(undescribed.is_empty(), "not described: {undescribed:#?}");
    let mut table = format!(
        "{BEGIN} type | unit | by | of | meaning |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for (name, metric) in &metrics {
        let Metric {
            kind,
            unit,
            labels,
            roles,
            meaning,
        } = metric;
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        let meaning = meaning.replace('|', "\\|");
        table += &format!("| `{name}` | {kind} | {unit} | {labels} | {roles} | {meaning} |\n");
    }
    let page = root().join("docs/metrics.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, _) = text.split_once(BEGIN).unwrap();
    let wanted = format!("{before}{table}");
    if std::env::var_os("RIVULET_UPDATE_DOCS").is_some() {
        fs::write(&page, &wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "docs/metrics.md is not what the code says: run this test with RIVULET_UPDATE_DOCS=1"
        );
    }
}
