//! What it costs to look through free text: `cargo bench -p rivulet-events`. It measures and prints, and asserts nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on should say so, and prints its results"
)]

use std::{hint::black_box, time::Instant};

use rivulet_events::{AttributeValue, Data, Event, free_text, parse};

/// Events as an app's SDK sends them: half of them interactions, a quarter messages, each fifth with attributes.
fn events() -> Vec<String> {
    const ID: &str = "0197a1b2-1111-7222-8333-444444444444";
    let event = |kind: &str, device: &str, attributes: &str, data: &str| {
        format!(
            r#"{{"id":"{ID}","type":"{kind}","child_id":"{ID}","occurred_at":"2026-05-04T09:30:00.250Z","session_id":"{ID}","device":{{"id":"{device}","platform":"ios","app_version":"4.12.1"}}{attributes},"data":{{{data}}}}}"#
        )
    };
    let answer = |subject: &str, topic: &str| {
        format!(
            r#""action":"answer","activity_id":"{ID}","subject":"{subject}","topic":"{topic}","duration_ms":12000,"confidence":0.42,"difficulty":3,"xp":10,"is_correct":true,"response_time_ms":2300"#
        )
    };
    let message = |topic: &str| {
        format!(
            r#""conversation_id":"{ID}","sequence":4,"role":"user","topic":"{topic}","content":"Why do the leaves turn red?","is_question":true,"is_free_form":true,"depth_level":2,"tokens_used":120"#
        )
    };
    let heartbeat =
        r#""action":"heartbeat","active_ms":9000,"kind":"learning","device_type":"tablet""#;
    let speech = format!(
        r#""audio_session_id":"{ID}","window_ms":30000,"child_words":40,"adult_words":12,"snr_db":12.5,"language":"en-GB","model_version":"hear-2.3.0""#
    );
    let attributes = r#","attributes":{"screen":"lesson","battery":0.42,"level":7}"#;
    vec![
        event(
            "interaction",
            "tablet-09fa32cc",
            "",
            &answer("mathematics", "adding within twenty"),
        ),
        event(
            "interaction",
            "tablet-09fa32cc",
            attributes,
            &answer("mathematics", "telling the time"),
        ),
        event("interaction", ID, "", &answer("reading", "rhyming words")),
        event(
            "interaction",
            ID,
            "",
            &answer("world", "continents and oceans"),
        ),
        event(
            "interaction",
            "tablet-80ab34dd",
            "",
            &answer("science", "how plants drink"),
        ),
        event("message", ID, "", &message("clapping rhythms")),
        event("message", "tablet-80ab34dd", "", &message("day and night")),
        event("session", ID, attributes, heartbeat),
        event("session", "tablet-80ab34dd", "", heartbeat),
        event("speech", ID, "", &speech),
    ]
}

/// Every text of an event that is looked through.
fn texts<'e>(event: &'e Event<'_>) -> Vec<&'e str> {
    let mut texts = Vec::new();
    if let Some(device) = &event.device {
        texts.extend(device.id.as_deref());
        texts.extend(device.app_version.as_deref());
    }
    for (key, value) in &event.attributes {
        texts.push(key);
        if let AttributeValue::Text(text) = value {
            texts.push(text);
        }
    }
    match &event.data {
        Data::Interaction(data) => {
            let labels = [&data.subject, &data.topic, &data.badge];
            texts.extend(labels.into_iter().flatten().map(AsRef::as_ref));
        }
        Data::Message(data) => {
            let labels = [&data.topic, &data.filter_reason];
            texts.extend(labels.into_iter().flatten().map(AsRef::as_ref));
        }
        Data::Speech(data) => texts.extend(data.model_version.as_deref()),
        Data::Session(_) => {}
    }
    texts
}

/// Nanoseconds that a round takes, the least of several tries.
fn nanoseconds(mut round: impl FnMut()) -> f64 {
    const ROUNDS: u32 = 2_000;
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        least = least.min(began.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
    }
    least
}

fn main() {
    let events = events();
    let limits = parse::Limits::default();
    let parsed: Vec<_> = events
        .iter()
        .map(|event| parse::event(event, limits).outcome.unwrap())
        .collect();
    let texts: Vec<_> = parsed.iter().flat_map(texts).collect();
    let count = events.len() as f64;
    let reading = nanoseconds(|| {
        for event in &events {
            let _ = black_box(parse::event(black_box(event), limits));
        }
    });
    let looking = nanoseconds(|| {
        for text in &texts {
            assert!(!free_text::is_personal(black_box(text)));
        }
    });
    println!("reading an event, all of it: {:.0} ns", reading / count);
    println!(
        "looking through its {:.1} texts: {:.0} ns",
        texts.len() as f64 / count,
        looking / count
    );
    // What a sender could do its worst with: each fills a text of 256 characters.
    for (name, piece) in [
        ("digits one by one", "1 "),
        ("groups of digits", "555-12-"),
        ("a long number", "1"),
        ("signs", "@"),
        ("addresses that are none", "a@b."),
        ("brackets", "( at"),
        ("labels", "a."),
        ("links that are none", "a:/"),
        ("numbers that are found", "+39555123456,"),
        ("letters of another script", "な"),
    ] {
        let text: String = piece.chars().cycle().take(256).collect();
        let took = nanoseconds(|| {
            let _ = black_box(free_text::is_personal(black_box(&text)));
        });
        println!("256 characters of {name}: {took:.0} ns");
    }
}
