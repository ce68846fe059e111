//! The plan: the same to the byte for a seed, as varied as the world, and valid by docs/contract.md, "Events".

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta};
use rivulet_events::{Identity, parse};
use rivulet_simulator::{
    family::Encoding,
    plan::{Delivery, Plan, Planner},
    recount,
};

const DAY_MS: i64 = 86_400_000;
const START_MS: i64 = 1_780_000_000_123;

fn plan() -> Plan {
    Plan {
        seed: 7,
        start_ms: START_MS,
        children: 60,
        history_days: 29,
        rate: 100.0,
        live_events: Some(5_000),
        batch: 40,
        max_batch: 500,
    }
}

fn bytes(deliveries: impl Iterator<Item = Delivery>) -> String {
    deliveries
        .map(|delivery| format!("{delivery:?}\n"))
        .collect()
}

#[test]
fn the_same_seed_and_start_give_the_same_bytes() {
    let first = bytes(Planner::new(plan()));
    assert!(
        first == bytes(Planner::new(plan())),
        "two plans of one seed differ"
    );
    assert!(
        first != bytes(Planner::new(Plan { seed: 8, ..plan() })),
        "the seed has no effect"
    );
    let later = Plan {
        start_ms: START_MS + 1,
        ..plan()
    };
    assert!(
        first != bytes(Planner::new(later.clone())),
        "the start has no effect"
    );

    let ids = |plan| -> Vec<_> {
        Planner::new(plan)
            .families()
            .iter()
            .map(|family| family.parent_id)
            .collect()
    };
    assert_eq!(ids(plan()), ids(later), "families depend on the seed alone");
}

#[test]
fn what_is_not_broken_on_purpose_is_valid_and_the_rest_is_not() {
    let mut seen = BTreeSet::new();
    for event in Planner::new(plan()).flat_map(|delivery| delivery.events) {
        let parsed = parse::event(&event.json, parse::Limits::default());
        match (event.flaw, parsed.outcome) {
            (None, Ok(_)) => {}
            (Some(flaw), Err(rejection)) => {
                assert_eq!(rejection.code.as_str(), flaw, "{}", event.json);
                seen.insert(flaw);
            }
            (flaw, outcome) => panic!("{flaw:?} but {outcome:?}: {}", event.json),
        }
        let beta = event.json.contains("5.0.0-beta");
        assert!(parsed.warnings.is_empty() || beta, "{:?}", parsed.warnings);
    }
    let flaws = [
        "invalid_field",
        "invalid_json",
        "missing_field",
        "raw_audio_forbidden",
        "too_large",
        "unknown_type",
    ];
    assert_eq!(seen, flaws.into());
}

/// The days of a device with a good clock are the plan's own.
#[test]
fn events_lie_between_the_first_day_and_their_due_time() {
    for delivery in Planner::new(plan()) {
        assert!((1..=500).contains(&delivery.events.len()));
        let latest = START_MS + delivery.due_ms.unwrap_or(0);
        for event in delivery.events.iter().filter(|event| event.flaw.is_none()) {
            let event: serde_json::Value = serde_json::from_str(&event.json).unwrap();
            let at = DateTime::parse_from_rfc3339(event["occurred_at"].as_str().unwrap()).unwrap();
            let at = at.timestamp_millis() - delivery.device.clock_off_ms;
            assert!(at >= START_MS - 29 * DAY_MS && at <= latest, "{event}");
        }
    }
}

#[test]
fn the_stream_holds_what_an_app_in_the_wild_does() {
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut deliveries: Vec<_> = Planner::new(plan()).collect();
    for event in deliveries.iter().flat_map(|delivery| &delivery.events) {
        if event.flaw.is_none() {
            *copies.entry(event.json.to_string()).or_default() += 1;
        }
        let event: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        let word = event["data"]["action"]
            .as_str()
            .or(event["data"]["role"].as_str());
        *kinds
            .entry(format!("{} {}", event["type"], word.unwrap_or("")))
            .or_default() += 1;
    }
    assert!(
        copies.values().filter(|count| **count > 1).count() > 100,
        "copies"
    );
    for kind in [
        r#""interaction" start"#,
        r#""interaction" answer"#,
        r#""interaction" hint"#,
        r#""interaction" skip"#,
        r#""interaction" view"#,
        r#""interaction" complete"#,
        r#""interaction" rate"#,
        r#""interaction" reward"#,
        r#""message" user"#,
        r#""message" assistant"#,
        r#""message" system"#,
        r#""speech" "#,
        r#""session" start"#,
        r#""session" heartbeat"#,
        r#""session" pause"#,
        r#""session" resume"#,
        r#""session" end"#,
    ] {
        assert!(kinds.contains_key(kind), "no {kind} in {kinds:?}");
    }
    let any = |what: &dyn Fn(&Delivery) -> bool| deliveries.iter().any(what);
    assert!(any(&|delivery| delivery.again));
    assert!(any(&|delivery| delivery.impatient));
    assert!(any(&|delivery| delivery.device.ndjson));
    assert!(any(&|delivery| !delivery.device.says_sent_at));
    assert!(any(&|delivery| delivery.events.len() > 200), "no burst");
    for encoding in [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::Deflate,
    ] {
        assert!(
            any(&|delivery| delivery.device.encoding == encoding),
            "{encoding:?}"
        );
    }
    let day = TimeDelta::days(1).num_milliseconds();
    assert!(any(&|delivery| delivery.device.clock_off_ms > day / 48));
    assert!(
        any(&|delivery| delivery.device.clock_off_ms < -365 * day),
        "no clock was reset"
    );
    deliveries.retain(|delivery| delivery.due_ms.is_some());
    assert!(!deliveries.is_empty() && deliveries.is_sorted_by_key(|delivery| delivery.due_ms));

    let families = Planner::new(plan()).families();
    let zones: BTreeSet<_> = families
        .iter()
        .map(|family| family.timezone.name())
        .collect();
    assert!(zones.len() > 15, "{zones:?}");
    for odd in [
        families.iter().any(|family| !family.registered),
        families.iter().any(|family| !family.consents.coppa),
        families.iter().any(|family| !family.consents.audio),
        families.iter().any(|family| !family.consents.analytics),
    ] {
        assert!(odd, "a kind of family is missing");
    }
}

/// Practice shows: of the answers on a topic, later ones are right more often.
#[test]
fn children_get_better() {
    let mut answers: BTreeMap<(String, String), Vec<bool>> = BTreeMap::new();
    for event in Planner::new(plan()).flat_map(|delivery| delivery.events) {
        let event: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        if event["data"]["action"] == "answer" && event["data"]["topic"].is_string() {
            let key = (
                event["child_id"].to_string(),
                event["data"]["topic"].to_string(),
            );
            answers
                .entry(key)
                .or_default()
                .push(event["data"]["is_correct"] == true);
        }
    }
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for given in answers.into_values().filter(|given| given.len() >= 20) {
        early.extend_from_slice(&given[..10]);
        late.extend_from_slice(&given[given.len() - 10..]);
    }
    let share = |of: &[bool]| of.iter().filter(|right| **right).count() * 100 / of.len();
    assert!(
        share(&late) > share(&early) + 5,
        "{} then {}",
        share(&early),
        share(&late)
    );
}

/// The recount's own rules of time and identity against the product's.
#[test]
fn the_naive_identity_tells_events_apart_as_the_contract_does() {
    let mut pairs: BTreeMap<String, Identity> = BTreeMap::new();
    let mut identities = BTreeSet::new();
    for event in Planner::new(plan()).flat_map(|delivery| delivery.events) {
        let Ok(parsed) = parse::event(&event.json, parse::Limits::default()).outcome else {
            continue;
        };
        let (kind, child) = (parsed.event_type(), parsed.child_id);
        let identity = Identity::of(kind, child, parsed.id, parsed.occurred_at);
        let naive = recount::identity(&serde_json::from_str(&event.json).unwrap());
        assert!(
            naive.ends_with(&identity.day.to_string()),
            "{naive} on {}",
            identity.day
        );
        assert_eq!(*pairs.entry(naive).or_insert(identity), identity);
        identities.insert(identity);
    }
    assert_eq!(pairs.len(), identities.len());
}
