//! The boards of grafana/boards: each is well formed, and every one of its queries can be answered.
//! `RIVULET_UPDATE_BOARDS=1 cargo test -p rivulet-dashboards --test dashboards boards::each_file` puts an export from
//! Grafana into the form that the files have.

mod prometheus;
mod stores;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Types of data sources.
const PROMETHEUS: &str = "prometheus";
const POSTGRES: &str = "grafana-postgresql-datasource";
const CLICKHOUSE: &str = "grafana-clickhouse-datasource";

struct Board {
    file: PathBuf,
    json: Value,
}

/// One query of a panel.
struct Query {
    /// Where it is, for whoever reads a failure.
    at: String,
    /// Variables are replaced by what they are when the board is opened; macros are not.
    text: String,
    target: Value,
}

fn root(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of)
}

fn boards() -> Vec<Board> {
    let files = fs::read_dir(root("dashboards/grafana/boards")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|of| of == "json"))
        .collect();
    files.sort();
    let board = |file: PathBuf| Board {
        json: serde_json::from_str(&fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        file,
    };
    files.into_iter().map(board).collect()
}

impl Board {
    fn name(&self) -> &str {
        self.file.file_stem().unwrap().to_str().unwrap()
    }

    /// Panels, with those of collapsed rows.
    fn panels(&self) -> Vec<&Value> {
        let panels = array(&self.json["panels"]);
        panels
            .flat_map(|panel| std::iter::once(panel).chain(array(&panel["panels"])))
            .collect()
    }

    /// The queries that go to data sources of this type.
    fn queries(&self, source: &str, text: &str) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in array(&panel["targets"]) {
                let own = &target["datasource"]["type"];
                let of = if own.is_null() {
                    &panel["datasource"]["type"]
                } else {
                    own
                };
                if of == source {
                    let at = format!("{}: {}", self.name(), panel["title"]);
                    let text = target[text].as_str();
                    let text = text.unwrap_or_else(|| panic!("{at} asks nothing: {target}"));
                    queries.push(Query {
                        text: self.with_variables(text),
                        target: target.clone(),
                        at,
                    });
                }
            }
        }
        queries
    }

    fn with_variables(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for variable in array(&self.json["templating"]["list"]) {
            let name = variable["name"].as_str().unwrap();
            let chosen: Vec<_> = match &variable["current"]["value"] {
                Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
                value => value.as_str().into_iter().collect(),
            };
            let chosen = if chosen == ["$__all"] {
                variable["allValue"].as_str().unwrap_or(".*").to_owned()
            } else {
                chosen.join(",")
            };
            text = text.replace(&format!("${{{name}}}"), &chosen);
            text = text.replace(&format!("${name}"), &chosen);
        }
        text
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn has_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn each_is_found_by_its_uid_title_and_tag() {
    let boards = boards();
    let names: Vec<_> = boards.iter().map(Board::name).collect();
    assert!(
        ["families", "pipeline", "services"]
            .iter()
            .all(|name| names.contains(name)),
        "{names:?}"
    );
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for board in &boards {
        let (name, json) = (board.name(), &board.json);
        assert!(has_text(&json["description"]), "{name} has no description");
        assert_eq!(json["uid"], format!("rivulet-{name}"));
        assert!(uids.insert(json["uid"].to_string()));
        assert!(titles.insert(json["title"].to_string()) && has_text(&json["title"]));
        assert!(array(&json["tags"]).any(|tag| tag == "rivulet"), "{name}");
        // Grafana's number for the row in its own database.
        assert!(json["id"].is_null(), "{name}: remove its `id`");
        let page = fs::read_to_string(root("docs/boards.md")).unwrap();
        let line = format!("\n| {} |", json["title"].as_str().unwrap());
        assert!(page.contains(&line), "docs/boards.md does not have {name}");
    }
}

/// In whichever Grafana a board is opened, its reader chooses the source; docker-compose.yml's is there
/// at first.
#[test]
fn each_reads_one_source_that_can_be_chosen() {
    let provisioned = "dashboards/grafana/provisioning/datasources/rivulet.yml";
    let provisioned = fs::read_to_string(root(provisioned)).unwrap();
    for board in boards() {
        let variables = array(&board.json["templating"]["list"]);
        let sources: Vec<_> = variables.filter(|of| of["type"] == "datasource").collect();
        let [source] = sources[..] else {
            panic!(
                "{}: {} variables for data sources",
                board.name(),
                sources.len()
            )
        };
        assert_eq!(source["name"], "datasource");
        let [uid, kind] =
            [&source["current"]["value"], &source["query"]].map(|of| of.as_str().unwrap());
        let first = format!("uid: {uid}\n    type: {kind}\n");
        assert!(provisioned.contains(&first), "{}: {first}", board.name());
        let mut unseen = vec![&board.json];
        while let Some(value) = unseen.pop() {
            let own = &value["datasource"];
            assert!(
                own.is_null()
                    || own["uid"] == "${datasource}" && own["type"] == kind
                    || own["uid"] == "-- Grafana --",
                "{}: {own}",
                board.name()
            );
            match value {
                Value::Array(values) => unseen.extend(values),
                Value::Object(fields) => unseen.extend(fields.values()),
                _ => {}
            }
        }
    }
}

#[test]
fn each_file_is_sorted_and_indented() {
    for board in boards() {
        let wanted = serde_json::to_string_pretty(&board.json).unwrap() + "\n";
        if std::env::var_os("RIVULET_UPDATE_BOARDS").is_some() {
            fs::write(&board.file, wanted).unwrap();
        } else {
            assert!(
                fs::read_to_string(&board.file).unwrap() == wanted,
                "{}: run this test with RIVULET_UPDATE_BOARDS=1",
                board.file.display()
            );
        }
    }
}

#[test]
fn no_panel_lies_on_another() {
    for board in boards() {
        let panels = board.panels();
        let place = |panel: &Value| {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| {
                let side = panel["gridPos"][side].as_u64();
                side.unwrap_or_else(|| panic!("{}: {} has no place", board.name(), panel["title"]))
            });
            assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
            (x..x + w, y..y + h)
        };
        for (at, one) in panels.iter().enumerate() {
            for other in &panels[at + 1..] {
                let ((x, y), (other_x, other_y)) = (place(one), place(other));
                let meet = |a: &std::ops::Range<u64>, b: &std::ops::Range<u64>| {
                    a.start < b.end && b.start < a.end
                };
                assert!(
                    !meet(&x, &other_x) || !meet(&y, &other_y),
                    "{}: {} lies on {}",
                    board.name(),
                    one["title"],
                    other["title"]
                );
                assert!(
                    one["id"].is_null() || one["id"] != other["id"],
                    "{}: {} has the id of {}",
                    board.name(),
                    one["title"],
                    other["title"]
                );
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    for board in boards() {
        let mut titles = BTreeSet::new();
        let mut row = String::new();
        for panel in board.panels() {
            let at = format!("{}: {row} {}", board.name(), panel["title"]);
            assert!(has_text(&panel["title"]), "{at} has no title");
            if panel["type"] == "row" {
                row = panel["title"].to_string();
                continue;
            }
            assert!(titles.insert(at.clone()), "{at} is there twice");
            assert!(has_text(&panel["description"]), "{at} has no description");
            if panel["type"] == "text" {
                continue;
            }
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            assert!(has_text(unit), "{at} has no unit");
            assert!(!panel["datasource"].is_null(), "{at} has no source");
            let mut refs = BTreeSet::new();
            for target in array(&panel["targets"]) {
                let name = target["refId"].as_str().unwrap();
                assert!(refs.insert(name), "{at}: two queries {name}");
            }
            assert!(!refs.is_empty(), "{at} asks nothing");
        }
    }
}

/// Grafana paints what has no value in the colour of the lowest threshold.
#[test]
fn nothing_is_green_because_nobody_answers() {
    for board in boards() {
        for panel in board.panels() {
            let defaults = &panel["fieldConfig"]["defaults"];
            if panel["type"] != "stat" || panel["datasource"]["type"] != PROMETHEUS {
                continue;
            }
            let lowest = &defaults["thresholds"]["steps"][0]["color"];
            let told = array(&defaults["mappings"]).any(|mapping| {
                let options = &mapping["options"];
                options["match"] == "null+nan" && options["result"]["color"] != "green"
            });
            assert!(told || lowest != "green", "{}", panel["title"]);
        }
    }
}

#[test]
fn every_page_that_a_description_names_is_there() {
    let mut named = 0;
    for board in boards() {
        for panel in board.panels() {
            let text = panel["description"].as_str().unwrap_or_default();
            for word in text.split([' ', ')', '(', ';']) {
                let Some((page, anchor)) = word.split_once(".md#") else {
                    continue;
                };
                let page = fs::read_to_string(root(&format!("{page}.md"))).unwrap();
                let anchor = anchor.trim_end_matches(['.', ',', ':']);
                let is_it = |line: &str| {
                    let title = line.strip_prefix('#').unwrap_or_default();
                    let title = title.trim_start_matches('#').trim().to_lowercase();
                    title.replace(' ', "-").replace([':', '?', ','], "") == anchor
                };
                assert!(page.lines().any(is_it), "{}: {word}", panel["title"]);
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named}");
}
