//! `index.html`: the export in plain language, for a parent. It is made of what is held alone, so it is the same page
//! for the same data.

use std::fmt::Write as _;

use crate::{
    history::Extent,
    rollups::{Child, Totals},
    row_binary::time,
};

const FILES: &[(&str, &str)] = &[
    (
        "daily.csv",
        "the numbers of each day, for a spreadsheet program",
    ),
    ("learning.csv", "the numbers of each day and school subject"),
    ("topics.csv", "each topic, with what was answered and when"),
    (
        "streak.json",
        "the days in a row on which your child was active",
    ),
    (
        "consents.json",
        "what you have consented to, and every time that it changed",
    ),
    (
        "events.csv",
        "everything that the app reported, a line each, for a spreadsheet program",
    ),
    (
        "events.ndjson",
        "the same for computer programs, for example to bring it to another service",
    ),
    ("schema.json", "what every column means"),
];

const STYLE: &str = "body{font:1.05rem/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:42rem;\
    color:#1b1b1b;background:#fff;overflow-wrap:anywhere}\
    h1,h2{line-height:1.2}table{border-collapse:collapse;width:100%}\
    th,td{text-align:left;padding:.4rem .5rem;border-bottom:1px solid #999;vertical-align:top}\
    td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code{font-size:.95em}\
    @media(prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#9cf}}";

/// The page of a child.
pub(crate) fn index(child: &Child, totals: &Totals, extent: &Extent) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>What is held of your child</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>What is held of your child</h1>\n"
    );
    let mut add = |text: &str| {
        page.push_str(text);
        page.push('\n');
    };
    add(&format!(
        "<p>This folder has everything that the learning app's records hold of the child with the number \
         <code>{}</code>. The records know no name: only this number, the age group (<code>{}</code>) and your time zone \
         ({}). Days below are days in that time zone.</p>",
        child.id,
        escaped(&child.age_group),
        escaped(&child.timezone),
    ));
    add("<h2>In short</h2>");
    add(&in_short(totals));
    if totals.events > 0 {
        add("<table>");
        for (what, number) in table(totals) {
            add(&format!(
                "<tr><th scope=\"row\">{what}</th><td class=\"n\">{number}</td></tr>"
            ));
        }
        add("</table>");
    }
    add("<h2>The history</h2>");
    add(&history(totals, extent));
    if !extent.types.is_empty() {
        add(
            "<table>\n<tr><th scope=\"col\">what</th><th scope=\"col\">from</th><th scope=\"col\">to</th>\
             <th scope=\"col\">how many</th></tr>",
        );
        for (kind, (events, first, last)) in &extent.types {
            add(&format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                escaped(kind),
                &time(*first)[..10],
                &time(*last)[..10],
                spaced(*events),
            ));
        }
        add("</table>");
    }
    add("<h2>The files</h2>\n<table>");
    for (name, about) in FILES {
        add(&format!(
            "<tr><th scope=\"row\"><a href=\"{name}\">{name}</a></th><td>{about}</td></tr>"
        ));
    }
    add("</table>");
    add(
        "<p>In the files for spreadsheets, a text that a spreadsheet could take for a formula has a <code>'</code> in \
         front. <code>schema.json</code> says how to take it away again.</p>\n\
         <h2>What is not here</h2>\n<ul>\n\
         <li>What was said. Sound never enters the records: the device counts words, and only the counts are sent.</li>\n\
         <li>What was written. Messages are measured (how many letters and words), and the text is not stored.</li>\n\
         <li>The last days in transit. On its way a report passes through a queue, which forgets it after a few days. \
         Everything in it that belongs to the records is in the files here, or will be within minutes.</li>\n\
         <li>Backups, which are copies of what is here, until they expire.</li>\n\
         <li>Records of other services, as the app's own account, which this system does not know.</li>\n</ul>\n\
         <p>Keep this folder as you would keep a diary: whoever has it knows all this of your child.</p>\n</body>\n</html>",
    );
    page
}

fn in_short(totals: &Totals) -> String {
    let (Some(first), Some(last)) = (totals.first_day, totals.last_day) else {
        return "<p>Nothing is held of this child but that it exists: no report of the app has come.</p>".to_owned();
    };
    let mut text = format!(
        "<p>From {first} to {last} the app was used on {}, for {} in all, and sent {}.",
        some(totals.days, "day", "days"),
        length(totals.active_ms),
        some(totals.events, "report", "reports"),
    );
    if totals.answers > 0 {
        let _ = write!(
            text,
            " Your child gave {}, of which {} {} right.",
            some(totals.answers, "answer", "answers"),
            spaced(totals.correct_answers.unsigned_abs()),
            if totals.correct_answers == 1 {
                "was"
            } else {
                "were"
            },
        );
    }
    if totals.questions_asked > 0 {
        let _ = write!(
            text,
            " It asked {}.",
            some(totals.questions_asked, "question", "questions")
        );
    }
    text + "</p>"
}

fn table(totals: &Totals) -> Vec<(&'static str, String)> {
    let number = |number: i64| spaced(number.unsigned_abs());
    vec![
        ("Days with reports", number(totals.days)),
        ("Times the app was opened", number(totals.sessions)),
        ("Time in the app", length(totals.active_ms)),
        ("Things done in activities", number(totals.interactions)),
        ("Activities finished", number(totals.completions)),
        ("Answers", number(totals.answers)),
        ("of them right", number(totals.correct_answers)),
        ("Messages from your child", number(totals.messages_sent)),
        ("Messages to your child", number(totals.messages_received)),
        (
            "Stretches of speech that were counted",
            number(totals.speech_windows),
        ),
        ("Length of these", length(totals.speech_ms)),
        ("Words of your child in them", number(totals.child_words)),
    ]
}

fn history(totals: &Totals, extent: &Extent) -> String {
    let mut text = match extent.events() {
        0 => "<p>The history has no single report of your child.".to_owned(),
        events => format!(
            "<p>Of {} the history has every detail: <code>events.csv</code> has a line for each.",
            some(
                i64::try_from(events).unwrap_or(i64::MAX),
                "report",
                "reports"
            ),
        ),
    };
    if totals.withheld_events > 0 {
        let _ = write!(
            text,
            " {} in the numbers above but not in the history, because you had not consented to it (<code>analytics</code> \
             in <code>consents.json</code>) when they came: their details were not kept.",
            match totals.withheld_events {
                1 => "1 report is".to_owned(),
                _ => format!(
                    "{} reports are",
                    spaced(totals.withheld_events.unsigned_abs())
                ),
            },
        );
    }
    text + "</p>"
}

fn some(number: i64, one: &str, many: &str) -> String {
    let what = if number == 1 { one } else { many };
    format!("{} {what}", spaced(number.unsigned_abs()))
}

/// Hours and minutes.
fn length(millis: i64) -> String {
    let minutes = millis.unsigned_abs() / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) if millis > 0 => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{} h {minutes} min", spaced(hours)),
    }
}

/// With a narrow space between its thousands.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn child(timezone: &str) -> Child {
        Child {
            id: Uuid::nil(),
            parent_id: Uuid::nil(),
            age_group: "wonder_cubs".to_owned(),
            timezone: timezone.to_owned(),
            streaks: true,
        }
    }

    #[test]
    fn values_are_escaped_and_nothing_is_loaded_or_run() {
        let mut extent = Extent::default();
        extent
            .types
            .insert("<script>alert(1)</script>".to_owned(), (1, 0, 0));
        let page = index(&child("\"><img src=x>"), &Totals::default(), &extent);
        assert!(page.contains("&lt;script&gt;"));
        for bad in ["<script", "<img", "://", "@import", "url("] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("no report of the app has come"));
    }

    #[test]
    fn the_numbers_are_told_in_words() {
        let totals = Totals {
            first_day: "2026-01-01".parse().ok(),
            last_day: "2026-01-31".parse().ok(),
            days: 1,
            events: 1_234_567,
            withheld_events: 2,
            active_ms: 3_720_000,
            answers: 2,
            correct_answers: 1,
            ..Totals::default()
        };
        let page = index(&child("Europe/Rome"), &totals, &Extent::default());
        assert!(
            page.contains(
                "on 1 day, for 1 h 2 min in all, and sent 1\u{202f}234\u{202f}567 reports."
            )
        );
        assert!(page.contains("gave 2 answers, of which 1 was right."));
        assert!(page.contains("2 reports are in the numbers above but not in the history"));
    }
}
