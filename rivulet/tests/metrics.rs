//! docs/metrics.md tells every metric, as the code describes it.
//! `RIVULET_UPDATE_DOCS=1 cargo test -p rivulet --test metrics` writes its table anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates of what runs in production, and who their metrics belong to.
const CRATES: [(&str, &str); 11] = [
    ("ingest", "ingest"),
    ("web", "ingest, api"),
    ("spill", "ingest"),
    ("registry", "ingest, api"),
    ("tokens", "ingest, api"),
    ("consumer", "aggregate, sink"),
    ("aggregator", "aggregate"),
    ("sinks", "sink"),
    ("quarantine", "aggregate, sink"),
    ("audit", "verify, all"),
    ("telemetry", "all"),
];

struct Metric {
    kind: &'static str,
    unit: String,
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

/// What the code describes, and the names that it uses.
fn described() -> (BTreeMap<String, Metric>, BTreeSet<String>) {
    let (mut metrics, mut used) = (BTreeMap::new(), BTreeSet::new());
    for (folder, roles) in CRATES {
        let mut files = Vec::new();
        sources(&root().join(folder).join("src"), &mut files);
        for file in files {
            let code = fs::read_to_string(&file).unwrap();
            let names = literals(&code).into_iter();
            used.extend(names.filter(|text| is_metric(text)));
            for kind in ["counter", "gauge", "histogram"] {
                for call in code.split(&format!("describe_{kind}!(")).skip(1) {
                    let call = call.split_once(");").unwrap().0;
                    let first = call.split(',').next().unwrap().trim();
                    let mut texts = literals(call);
                    let meaning = texts.pop().unwrap();
                    let name = texts.pop().unwrap_or_else(|| {
                        let constant = format!("const {first}: &str = ");
                        let value = code.split(&constant).nth(1).unwrap_or_else(|| {
                            panic!("{first} in {} is no constant of that file", file.display())
                        });
                        literals(value.split(';').next().unwrap()).remove(0)
                    });
                    let unit = match call.split("Unit::").nth(1) {
                        Some(unit) => unit.split(',').next().unwrap().to_lowercase(),
                        None if name.ends_with("_seconds") => "seconds".to_owned(),
                        None if name.contains("_bytes") => "bytes".to_owned(),
                        None => "count".to_owned(),
                    };
                    let metric = Metric {
                        kind,
                        unit,
                        roles,
                        meaning,
                    };
                    metrics.insert(name, metric);
                }
            }
        }
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
    let mut table =
        format!("{BEGIN} type | unit | of | meaning |\n| --- | --- | --- | --- | --- |\n");
    for (name, metric) in &metrics {
        let Metric {
            kind,
            unit,
            roles,
            meaning,
        } = metric;
        let meaning = meaning.replace('|', "\\|");
        table += &format!("| `{name}` | {kind} | {unit} | {roles} | {meaning} |\n");
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
