//! How much of what is planted is found, and how much of what is harmless is taken for it: measured on a made corpus and
//! published in docs/privacy.md.

mod made;
mod sound;

use std::{fmt::Write as _, path::Path};

use rivulet_events::{AttributeValue, Code, Parsed, parse};
use serde_json::{Value, json};

use made::{Corpus, Plant, Sample};

const BEGIN: &str = "<!-- Measured by events/tests/events/rates, kept by a test: -->\n";
const END: &str = "<!-- end of the rates -->\n";

const ID: &str = "0197a1b2-1111-7222-8333-444444444444";

fn event(more: (&str, Value)) -> String {
    let mut event = json!({
        "id": ID, "type": "session", "child_id": ID, "occurred_at": "2026-05-04T09:30:00Z", "session_id": ID,
        "data": {"action": "start"},
    });
    event[more.0] = more.1;
    event.to_string()
}

/// What the firewall made of a sample.
#[derive(PartialEq)]
enum Fate {
    /// It was kept as it was sent.
    Kept,
    /// All that was planted is gone.
    Gone,
    /// A part of what was planted is still there.
    Rest,
}

fn fate(sample: &Sample) -> Fate {
    match &sample.plant {
        Plant::Text { text, pieces } => {
            let json = event(("attributes", json!({"note": text})));
            let Parsed { outcome, .. } = parse::event(&json, parse::Limits::default());
            let attributes = outcome
                .unwrap_or_else(|why| panic!("{text:?}: {why:?}"))
                .attributes;
            let [(_, AttributeValue::Text(kept))] = &attributes[..] else {
                panic!("{text:?}: {attributes:?}")
            };
            let marks = ["[email]", "[phone]", "[url]", "[digits]", "[masked]"];
            let rest = marks
                .iter()
                .fold(kept.to_string(), |rest, mark| rest.replace(mark, ""));
            if kept == text {
                Fate::Kept
            } else if pieces.iter().any(|piece| rest.contains(piece.as_str())) {
                Fate::Rest
            } else {
                Fate::Gone
            }
        }
        Plant::Field { key, value } => {
            let json = event(("attributes", json!({key: value})));
            let Parsed { personal_data, .. } = parse::event(&json, parse::Limits::default());
            match personal_data.is_empty() {
                true => Fate::Kept,
                false => Fate::Gone,
            }
        }
        Plant::Sound { key, value } => {
            let json = event(("extra", json!({key: value})));
            let Parsed { outcome, .. } = parse::event(&json, parse::Limits::default());
            match outcome {
                Err(why) if why.code == Code::RawAudioForbidden => Fate::Gone,
                _ => Fate::Kept,
            }
        }
    }
}

/// A row for each kind of sample, and one for all of them. Returns the share over all, and tells what is not as it should
/// be.
fn table(text: &mut String, head: [&str; 2], corpus: &Corpus, wrong: &mut Vec<String>) -> f64 {
    writeln!(
        text,
        "| {} | texts | {} | |\n| --- | --- | --- | --- |",
        head[0], head[1]
    )
    .unwrap();
    let (mut all, mut all_found) = (0, 0);
    for (kind, samples) in &corpus.kinds {
        let mut found = 0;
        for sample in samples {
            let is_gone = fate(sample) == Fate::Gone;
            found += usize::from(is_gone);
            if corpus.is_judged && is_gone != corpus.should_be_found {
                let plant = format!("{:?}", sample.plant);
                wrong.push(format!(
                    "{kind}: {}",
                    plant.chars().take(200).collect::<String>()
                ));
            }
        }
        row(text, kind, samples.len(), found);
        (all, all_found) = (all + samples.len(), all_found + found);
    }
    row(text, "**all**", all, all_found);
    text.push('\n');
    all_found as f64 / all as f64
}

fn row(text: &mut String, kind: &str, all: usize, found: usize) {
    let share = 100.0 * found as f64 / all as f64;
    writeln!(text, "| {kind} | {all} | {found} | {share:.1} % |").unwrap();
}

#[test]
fn the_rates_are_those_in_the_docs() {
    let mut text = String::from("\n");
    let (mut rates, mut wrong) = (Vec::new(), Vec::new());
    for (title, head, corpus) in [
        (
            "Personal data that should be found:",
            ["planted", "found"],
            made::personal(),
        ),
        (
            "Personal data that no pattern is for, so that nobody relies on it:",
            ["planted", "found"],
            made::beyond(),
        ),
        (
            "Harmless texts:",
            ["harmless", "taken for personal data"],
            made::harmless(),
        ),
        (
            "Sound that should be refused:",
            ["planted", "refused"],
            sound::sound(),
        ),
        (
            "Sound in a disguise that no rule is for:",
            ["planted", "refused"],
            sound::sound_beyond(),
        ),
        (
            "Harmless values of the same length:",
            ["harmless", "taken for sound"],
            sound::silent(),
        ),
    ] {
        writeln!(text, "{title}\n").unwrap();
        rates.push(table(&mut text, head, &corpus, &mut wrong));
    }
    let [personal, _, harmless, refused, _, silent] = rates[..] else {
        panic!()
    };
    assert!(personal > 0.99, "{wrong:#?}\n{text}");
    assert!(harmless < 0.005, "{wrong:#?}\n{text}");
    assert!(refused > 0.999, "{text}");
    assert!(silent < 0.2, "{text}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/privacy.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if written != text {
        if std::env::var_os("RIVULET_UPDATE_DOCS").is_some() {
            std::fs::write(&path, [before, BEGIN, &text, END, after].concat()).unwrap();
            return;
        }
        panic!(
            "docs/privacy.md does not have the rates that are measured: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-events \
             --test events rates writes them\n{text}"
        );
    }
}
