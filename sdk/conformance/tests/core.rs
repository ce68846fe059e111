//! The Rust core is held to the contract, and the suite to noticing when it is not kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::collections::BTreeSet;

use rivulet_conformance::{
    campaign::{self, Plan},
    rules,
};

fn driver() -> Vec<String> {
    vec![env!("CARGO_BIN_EXE_rivulet-sdk-driver").to_owned()]
}

#[test]
fn the_core_keeps_every_rule() {
    for rule in rules::all() {
        if let Err(why) = rule.check(&driver()) {
            panic!("{}: {why:#}", rule.name);
        }
    }
}

#[test]
fn the_core_loses_nothing_unreported_and_sends_nothing_twice() {
    for seed in 1..=3 {
        let outcome = campaign::run(&driver(), &Plan::new(seed), None)
            .unwrap_or_else(|why| panic!("seed {seed}: {why:#}"));
        assert_eq!(outcome.lost, 0, "seed {seed}: {outcome}");
        // A campaign in which nothing goes wrong shows nothing.
        assert!(
            outcome.kills > 10 && outcome.rejected > 0 && outcome.sent_again > 100,
            "{outcome}"
        );
    }
}

/// A driver that says what an SDK would like to hear is found out by each rule that a liar can break.
#[test]
fn a_driver_that_only_pretends_is_found_out() {
    let liar = r#"
        n=0
        while read -r line; do
            case $line in
            *'"op":"track"'*) n=$((n + 1)); printf '{"id": "0197a1b2-1111-7222-8333-%012d"}\n' $n ;;
            *'"op":"send"'*) echo '{"queued": 0, "wait_ms": null, "stopped": null}' ;;
            *'"op":"report"'*) echo '{"queued": 0, "accepted": 0, "rejected": {}, "dropped": {}}' ;;
            *) echo '{"ok": true}' ;;
            esac
        done"#;
    let liar = ["sh".to_owned(), "-c".to_owned(), liar.to_owned()];
    let believed: BTreeSet<_> = rules::all()
        .into_iter()
        .filter(|rule| rule.check(&liar).is_ok())
        .map(|rule| rule.name)
        .collect();
    assert_eq!(believed, BTreeSet::new());
    assert!(
        campaign::run(
            &liar,
            &Plan {
                events: 100,
                faults: 5,
                ..Plan::new(1)
            },
            None
        )
        .is_err()
    );
}
