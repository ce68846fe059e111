//! The reference of fields in docs/sending-events.md against the declarations.

use std::{fmt::Write as _, path::Path};

use rivulet_events::{
    Device, EventType,
    contract::{Declaration, Field, Need, Rule},
};

const BEGIN: &str = "<!-- The declarations in events/ as tables, kept by a test: -->\n";
const END: &str = "<!-- end of the tables -->\n";

fn kind(rule: &Rule) -> &'static str {
    match rule {
        Rule::Uuid => "UUID",
        Rule::Boolean => "boolean",
        Rule::Integer { .. } => "integer",
        Rule::Number { .. } => "number",
        Rule::Text { .. } | Rule::MeasuredText { .. } | Rule::Word { .. } => "string",
        Rule::LanguageTag { .. } => "BCP 47 tag",
    }
}

fn need(field: &Field) -> String {
    match &field.need {
        Need::Required => "required".to_owned(),
        Need::Optional => String::new(),
        Need::Default => match field.rule {
            Rule::Boolean => "default false".to_owned(),
            _ => "default 0".to_owned(),
        },
        Need::For { word, only, .. } => {
            let other = if *only { ", else dropped" } else { "" };
            format!("required for `{word}`{other}")
        }
    }
}

fn table(title: &str, object: Declaration) -> String {
    let mut text = format!("{title}\n\n| field | type | | meaning |\n| --- | --- | --- | --- |\n");
    for field in object.fields {
        let Field {
            name, about, rule, ..
        } = field;
        let rule = match rule {
            Rule::Word { words, .. } => format!("One of `{}`.", words.join("`, `")),
            rule => rule.to_string(),
        };
        let meaning = format!("{about} {rule}");
        let (kind, need) = (kind(&field.rule), need(field));
        writeln!(
            text,
            "| `{name}` | {kind} | {need} | {} |",
            meaning.trim_end()
        )
        .unwrap();
    }
    text
}

#[test]
fn every_declared_field_is_in_the_reference() {
    let mut tables: Vec<_> = EventType::ALL
        .iter()
        .map(|kind| {
            let title = format!(
                "`data` of a `{}`: {}",
                kind.as_str(),
                kind.declaration().about
            );
            table(&title, kind.declaration())
        })
        .collect();
    tables.push(table("`device`, all of it optional:", Device::DECLARATION));
    let tables = format!("\n{}\n", tables.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sending-events.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if written != tables {
        if std::env::var_os("RIVULET_UPDATE_DOCS").is_some() {
            std::fs::write(&path, [before, BEGIN, &tables, END, after].concat()).unwrap();
            return;
        }
        panic!(
            "docs/sending-events.md is not what events/ declares: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-events \
             --test events reference writes it"
        );
    }
}
