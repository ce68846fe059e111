//! What people read: the public notice of 16 CFR 312.10, and the table of the documents.

use std::fmt::Write as _;

use crate::{Class, InactiveThen, OnRevoke, Policy, Rule};

const TITLE: &str = "How long we keep what we collect from children";

const INTRODUCTION: &str = "This is the policy by which data of children is kept and deleted, as 16 CFR 312.10 asks for. Nothing \
     is kept without end. What is collected goes by itself when its time is over; a parent can have all of it deleted \
     at any time before.";

/// What a parent is told of each class, in rows of: what, purpose, need, ground, and when it is deleted.
const HEADS: [&str; 5] = [
    "What",
    "What it is for",
    "Why it is needed so long",
    "On what ground",
    "Deleted",
];

fn rows(policy: &Policy) -> impl Iterator<Item = [String; 5]> {
    policy.rules().map(|(class, rule)| {
        [
            class.title().to_owned(),
            rule.purpose.clone(),
            rule.need.clone(),
            rule.ground.clone(),
            deleted(class, rule),
        ]
    })
}

fn deleted(class: Class, rule: &Rule) -> String {
    let slack = match class {
        Class::Kafka => ", at most a seventh of this time later",
        Class::Audit => ", at most a month later",
        Class::Spill => {
            return format!(
                "Within minutes after the outage; what is older than {} is not used any more and is decided on by a person",
                rule.keep
            );
        }
        _ => "",
    };
    format!("{} after {}{slack}", rule.keep, class.counts_from())
}

fn closing(policy: &Policy) -> Vec<String> {
    let mut text = Vec::new();
    if let Some(inactive) = policy.inactive
        && inactive.then == InactiveThen::Erase
    {
        text.push(format!(
            "If nothing comes from a child for {}, everything about the child is erased.",
            inactive.after
        ));
    }
    text.push(
        match policy.on_revoke {
            OnRevoke::Erase => {
                "When a parent withdraws a consent, nothing more is taken on it, and what was kept on it is deleted."
            }
            OnRevoke::Keep => {
                "When a parent withdraws a consent, nothing more is taken on it. What was kept on it until then is deleted \
                 when its time is over, or before, when the parent asks for that."
            }
        }
        .to_owned(),
    );
    text.push(
        "After a request to erase a child, a hash of the child's random number stays (SHA-256), so that nothing of the child \
         is taken again. It says nothing about the child."
            .to_owned(),
    );
    text
}

fn responsible(policy: &Policy) -> [(&'static str, String); 2] {
    let or_blank = |text: &str| match text.trim() {
        "" => "______________________".to_owned(),
        text => text.to_owned(),
    };
    [
        ("Who answers for it", or_blank(&policy.operator)),
        ("How to reach us", or_blank(&policy.contact)),
    ]
}

/// The public notice in Markdown.
#[must_use]
pub fn markdown(policy: &Policy) -> String {
    let mut text = format!("# {TITLE}\n\n{INTRODUCTION}\n\n");
    let _ = writeln!(text, "| {} |", HEADS.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(HEADS.len()));
    for row in rows(policy) {
        let _ = writeln!(text, "| {} |", row.map(|cell| cell_of(&cell)).join(" | "));
    }
    for paragraph in closing(policy) {
        let _ = write!(text, "\n{paragraph}\n");
    }
    for (what, who) in responsible(policy) {
        let _ = write!(text, "\n{what}: {}\n", cell_of(&who));
    }
    text
}

/// The public notice as a page that loads nothing.
#[must_use]
pub fn html(policy: &Policy) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{TITLE}</title>\n\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}}\
         table{{border-collapse:collapse}}th,td{{border:1px solid #bbb;padding:.4rem .6rem;text-align:left;\
         vertical-align:top}}</style>\n<h1>{TITLE}</h1>\n<p>{INTRODUCTION}</p>\n<table>\n<tr>"
    );
    for head in HEADS {
        let _ = write!(text, "<th scope=\"col\">{head}</th>");
    }
    text += "</tr>\n";
    for [what, cells @ ..] in rows(policy) {
        let _ = write!(text, "<tr><th scope=\"row\">{}</th>", escaped(&what));
        for cell in cells {
            let _ = write!(text, "<td>{}</td>", escaped(&cell));
        }
        text += "</tr>\n";
    }
    text += "</table>\n";
    for paragraph in closing(policy) {
        let _ = writeln!(text, "<p>{}</p>", escaped(&paragraph));
    }
    for (what, who) in responsible(policy) {
        let _ = writeln!(text, "<p>{what}: {}</p>", escaped(&who));
    }
    text + "</html>\n"
}

/// The classes, how long each is kept, and what makes it go: the table of the documents, in Markdown.
#[must_use]
pub fn table(policy: &Policy) -> String {
    let mut text = "| class | kept | from when | where it is, and what makes it go |\n| --- | --- | --- | --- |\n".to_owned();
    for (class, rule) in policy.rules() {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            class.as_str(),
            rule.keep,
            class.counts_from(),
            class.enforced()
        );
    }
    text
}

/// A text of the file as a cell: on one line, and no bar ends it.
fn cell_of(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_notice_says_purpose_need_and_time_of_every_class() {
        let policy = Policy::default();
        let (markdown, html) = (markdown(&policy), html(&policy));
        for (class, rule) in policy.rules() {
            for text in [
                class.title(),
                &rule.purpose,
                &rule.need,
                &rule.ground,
                &rule.keep.to_string(),
            ] {
                assert!(markdown.contains(text), "{text}");
                assert!(html.contains(&escaped(text)), "{text}");
            }
        }
        assert!(
            !markdown.contains("is erased."),
            "only where the file says so"
        );
    }

    #[test]
    fn what_the_file_says_breaks_neither_form() {
        let mut policy = Policy::default();
        policy.rules[0].purpose = "a | b\n<script>alert(1)</script>".to_owned();
        policy.operator = "Tom & \"Co\"".to_owned();
        assert!(markdown(&policy).contains("| a \\| b <script>"));
        let html = html(&policy);
        assert!(
            html.contains("&lt;script&gt;") && !html.contains("<script"),
            "{html}"
        );
        assert!(html.contains("Tom &amp; &quot;Co&quot;"));
    }

    /// `RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-retention` writes the table anew.
    #[test]
    fn the_documentation_has_every_class() {
        const BEGIN: &str = "<!-- made from retention.toml -->\n";
        const END: &str = "<!-- end -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/retention.md");
        let page = fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (stored, after) = rest.split_once(END).unwrap();
        let table = table(&Policy::default());
        if std::env::var_os("RIVULET_UPDATE_DOCS").is_some() {
            fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
            return;
        }
        assert!(
            stored == table,
            "docs/retention.md is not what retention.toml says: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-retention \
             writes its table"
        );
    }
}
