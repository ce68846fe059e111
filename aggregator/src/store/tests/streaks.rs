//! Streaks: the stored row and the functions, against rule 1 as docs/contract.md, "streaks", words it.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use proptest::{
    collection::btree_set,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use rivulet_events::{EventType, InteractionAction, Role, SessionAction};

use super::{Store, commit, count, database};
use crate::{
    common::{
        child, date, encode, event, interaction, message, part, parts, recount, session, speech,
        stored,
    },
    streak,
};

#[tokio::test]
async fn a_late_event_repairs_the_streak() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let mut done = Vec::new();
    // Three days, a gap of two that nothing can bridge, four more; then the gap is filled.
    for (offset, day) in (0..).zip([0, 1, 2, 5, 6, 7, 8, 4, 3]) {
        let practised = event(1, day, interaction(InteractionAction::Complete));
        let batch = vec![part(
            EventType::Interaction,
            0,
            offset,
            [encode(&practised)],
        )];
        commit(&mut store, batch).await.unwrap();
        done.push(practised);
        assert_eq!(stored(&bed.pool).await, recount(&done), "after day {day}");
    }
    let repaired: (i64, i64, NaiveDate) =
        sqlx::query_as("SELECT current_streak, freezes_available, streak_started_on FROM streaks")
            .fetch_one(&bed.pool)
            .await
            .unwrap();
    assert_eq!(repaired, (9, 1, date(0)));
}

#[tokio::test]
async fn looking_and_listening_make_no_active_day() {
    let bed = database().await;
    let events = [
        event(1, 0, interaction(InteractionAction::View)),
        event(1, 0, message(Role::Assistant)),
        event(1, 0, speech(0)),
        event(1, 0, session(SessionAction::Start)),
    ];
    commit(&mut Store::new(bed.pool.clone()), parts(&events))
        .await
        .unwrap();
    assert_eq!(count(&bed, "SELECT count(*) FROM streaks").await, 0);
    assert_eq!(
        count(&bed, "SELECT events FROM daily_child_metrics").await,
        4
    );
}

/// The columns of `streak_of`.
type Found = (
    Option<i64>,
    Option<i64>,
    Option<NaiveDate>,
    Option<NaiveDate>,
    Option<i64>,
);

#[tokio::test]
async fn streak_of_is_the_rule_for_any_days() {
    let bed = database().await;
    let mut runner = TestRunner::deterministic();
    // Dense enough for long streaks and for gaps of every size.
    let sets = (1..90_u64, 0..60_usize).prop_flat_map(|(span, most)| btree_set(0..span, 0..=most));
    for _ in 0..300 {
        let offsets: BTreeSet<u64> = sets.new_tree(&mut runner).unwrap().current();
        let days: Vec<NaiveDate> = offsets.iter().map(|day| date(*day as i64)).collect();
        let found: Found = sqlx::query_as(
            "SELECT * FROM streak_of((SELECT coalesce(range_agg(daterange(day, day + 1)), '{}')
                                          FROM unnest($1::date[]) day))",
        )
        .bind(&days)
        .fetch_one(&bed.pool)
        .await
        .unwrap();
        let rule = streak::streak(days.iter().copied());
        let expected = (
            rule.map(|streak| streak.current),
            rule.map(|streak| streak.longest),
            rule.map(|streak| streak.started_on),
            rule.map(|streak| streak.last_active),
            rule.map(|streak| streak.freezes),
        );
        assert_eq!(found, expected, "{days:?}");
    }
}

#[tokio::test]
async fn streak_as_of_is_what_a_parent_sees_each_day() {
    let bed = database().await;
    let days: Vec<NaiveDate> = [
        0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16, 17, 18, 19, 22, 30,
    ]
    .into_iter()
    .map(date)
    .collect();
    let events: Vec<_> = days
        .iter()
        .map(|day| {
            event(
                1,
                (*day - date(0)).num_days(),
                interaction(InteractionAction::Start),
            )
        })
        .collect();
    commit(&mut Store::new(bed.pool.clone()), parts(&events))
        .await
        .unwrap();
    for today in (-2..40).map(date) {
        let seen: i64 = sqlx::query_scalar("SELECT streak_as_of($1, $2)")
            .bind(child(1).uuid())
            .bind(today)
            .fetch_one(&bed.pool)
            .await
            .unwrap();
        assert_eq!(seen, streak::as_of(days.iter().copied(), today), "{today}");
    }
    let nobody = "SELECT streak_as_of('00000000-0000-4000-8000-000000000000', '2025-11-03')";
    assert_eq!(count(&bed, nobody).await, 0);
}
