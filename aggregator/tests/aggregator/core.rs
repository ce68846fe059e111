//! The pure core against a naive recount, and streak rule 1 on worked examples.

use chrono::NaiveDate;
use proptest::prelude::*;
use rivulet_aggregator::{
    Rollup,
    rollup::confidence_milli,
    streak::{Streak, as_of, streak},
};

use crate::common::{any_events, date, rollup_rows, rows_of};

fn rollup<'r>(events: impl IntoIterator<Item = &'r rivulet_events::Record<'static>>) -> Rollup {
    let mut rollup = Rollup::default();
    for event in events {
        rollup.add(event);
    }
    rollup
}

proptest! {
    #[test]
    fn any_order_and_split_is_the_naive_recount(
        events in any_events(120),
        shuffled in any::<prop::sample::Index>().prop_perturb(|_, rng| rng),
        cuts in prop::collection::vec(0..120_usize, 0..6),
    ) {
        let expected = rollup_rows(&events);
        prop_assert_eq!(&rows_of(&rollup(&events)), &expected);

        let mut rng = shuffled;
        let mut order: Vec<_> = events.iter().collect();
        for i in (1..order.len()).rev() {
            order.swap(i, (rng.next_u32() as usize) % (i + 1));
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(order.len())).collect();
        cuts.extend([0, order.len()]);
        cuts.sort_unstable();
        let mut batches: Vec<_> =
            cuts.windows(2).map(|cut| rollup(order[cut[0]..cut[1]].iter().copied())).collect();
        let mut merged = Rollup::default();
        while let Some(batch) = batches.pop() {
            merged.merge(batch);
        }
        prop_assert_eq!(&rows_of(&merged), &expected);
    }

    #[test]
    fn confidence_rounds_the_decimal_that_was_sent(thousandths in 0..=1_000_i64, more in 0..1_000_i64) {
        let text = format!("0.{:06}", thousandths.min(999) * 1_000 + more);
        let expected = thousandths.min(999) + i64::from(more >= 500);
        prop_assert_eq!(confidence_milli(text.parse().unwrap()), expected);
    }
}

#[test]
fn confidence_rounds_half_away_from_zero() {
    for (confidence, milli) in [
        (0.0, 0),
        (1.0, 1_000),
        (0.0005, 1),
        (0.000_499_999_999_999_99, 0),
        (0.2345, 235),
        (0.9995, 1_000),
        (1e-7, 0),
    ] {
        assert_eq!(confidence_milli(confidence), milli, "{confidence}");
    }
}

/// The days from `from` on, one a mark: `x` active, `.` not.
fn marked(marks: &str) -> Vec<NaiveDate> {
    let active = marks.bytes().enumerate().filter(|(_, mark)| *mark == b'x');
    active.map(|(day, _)| date(day as i64)).collect()
}

#[test]
fn rule_1_by_example() {
    for (marks, current, longest, started, freezes) in [
        ("x", 1, 1, 0, 0),
        ("xxx", 3, 3, 0, 0),
        ("x.x", 1, 1, 2, 0),
        ("xxxxxxx", 7, 7, 0, 1),
        ("xxxxxxx.x", 8, 8, 0, 0),
        ("xxxxxxx..x", 1, 7, 9, 1),
        ("xxxxxxx..x.x", 2, 7, 9, 0),
        ("xxxxxxxxxxxxxx", 14, 14, 0, 2),
        ("xxxxxxxxxxxxxxxxxxxxx", 21, 21, 0, 2),
        ("xxxxxxxxxxxxxx..x", 15, 15, 0, 0),
        // a freeze bridges, and the second week earns the next one
        ("xxxxxxx.xxxxxxx.x", 15, 15, 0, 0),
        // the day after the bridge reaches fourteen: one freeze used, one earned
        ("xxxxxxxxxxxxx.x", 14, 14, 0, 1),
    ] {
        let expected = Streak {
            current,
            longest,
            started_on: date(started),
            freezes,
            last_active: date(marks.len() as i64 - 1),
        };
        assert_eq!(streak(marked(marks)), Some(expected), "{marks}");
    }
    assert_eq!(streak(marked("...")), None);
}

#[test]
fn a_parent_sees_the_streak_while_it_can_be_bridged() {
    let week = marked("xxxxxxx");
    assert_eq!(as_of(week.clone(), date(-1)), 0);
    assert_eq!(as_of(week.clone(), date(2)), 3);
    assert_eq!(
        as_of(week.clone(), date(7)),
        7,
        "today may still become active"
    );
    assert_eq!(
        as_of(week.clone(), date(8)),
        7,
        "one missed day, one freeze"
    );
    assert_eq!(as_of(week, date(9)), 0, "two missed days");
    assert_eq!(as_of(Vec::new(), date(0)), 0);
}
