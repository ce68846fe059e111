use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rivulet_events::EventType;

use super::{Key, Opening, State, Taken};
use crate::Part;

const LINGER: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_secs(100);

fn key(event_type: EventType, partition: i32) -> Key {
    Key {
        event_type,
        partition,
    }
}

fn message(partition: i32) -> Key {
    key(EventType::Message, partition)
}

fn at(position: i64, pending_end: Option<i64>, high: i64) -> Opening {
    Opening {
        topic: "t.message".into(),
        incarnation: "cluster/topic".into(),
        position,
        pending_end,
        high,
    }
}

fn state(now: Instant) -> State {
    State::new(4, 1_000, LINGER, 1, now)
}

fn take(state: &mut State, key: Key, offsets: &[i64], now: Instant) {
    for offset in offsets {
        assert_eq!(state.take(key, *offset, 0, b"x", None, now), Taken::Kept);
    }
}

fn offsets(part: &Part) -> Vec<i64> {
    part.records.iter().map(|record| record.offset).collect()
}

#[test]
fn parts_follow_each_other_over_gaps_and_redeliveries() {
    let now = Instant::now();
    let mut state = state(now);
    state.open(message(0), at(5, None, 20), now);
    assert_eq!(state.take(message(0), 4, 0, b"", None, now), Taken::Again);
    take(&mut state, message(0), &[5, 7], now);
    assert_eq!(state.take(message(0), 7, 0, b"", None, now), Taken::Again);
    assert_eq!(state.take(message(1), 0, 0, b"", None, now), Taken::Foreign);
    let first = state.cut(0, now).parts.remove(0);
    assert_eq!((first.expected, first.next_offset()), (5, 8));
    assert_eq!(offsets(&first), [5, 7]);

    take(&mut state, message(0), &[9], now);
    let second = state.cut(0, now).parts.remove(0);
    assert_eq!((second.expected, second.next_offset()), (8, 10));
    assert!(state.cut(0, now).parts.is_empty());
}

#[test]
fn parts_are_in_the_order_of_their_topics_names() {
    let now = Instant::now();
    let mut state = state(now);
    let open = |state: &mut State, key: Key, topic: &str| {
        let opening = Opening {
            topic: topic.into(),
            ..at(0, None, 1)
        };
        state.open(key, opening, now);
        take(state, key, &[0], now);
    };
    open(&mut state, key(EventType::Speech, 0), "t.speech");
    open(&mut state, key(EventType::Session, 10), "t.session");
    open(&mut state, key(EventType::Session, 9), "t.session");
    let parts = state.cut(0, now).parts;
    let order: Vec<_> = parts
        .iter()
        .map(|part| (&*part.topic, part.partition))
        .collect();
    assert_eq!(
        order,
        [("t.session", 9), ("t.session", 10), ("t.speech", 0)]
    );
}

/// When the batch of a lane should go, which alone has room.
fn due_in(state: &State, lane: usize, now: Instant) -> Option<Duration> {
    match state.due(|one| one == lane, now) {
        (due, _) if due == [lane] => Some(Duration::ZERO),
        (_, wait) => wait,
    }
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited() {
    let start = Instant::now();
    let mut state = state(start);
    state.open(message(0), at(0, None, 9), start);
    assert_eq!(due_in(&state, 0, start), None);
    take(&mut state, message(0), &[0, 1], start);
    let later = start + LINGER / 4;
    take(&mut state, message(0), &[2], later);
    assert_eq!(due_in(&state, 0, later), Some(LINGER * 3 / 4));
    assert_eq!(due_in(&state, 0, start + LINGER * 2), Some(Duration::ZERO));
    assert!(!state.is_full(0));
    take(&mut state, message(0), &[3], later);
    assert!(state.is_full(0));
    assert_eq!(due_in(&state, 0, later), Some(Duration::ZERO));
    state.cut(0, later);
    assert_eq!(due_in(&state, 0, later), None);

    state.take(message(0), 4, 0, &[0; 1_000], None, later);
    assert!(state.is_full(0), "by its bytes");
    state.void(message(0), later);
    assert_eq!(due_in(&state, 0, later), None);
}

#[test]
fn lanes_have_batches_of_their_own_and_share_what_may_be_gathered() {
    let now = Instant::now();
    let mut state = State::new(4, 1_000, LINGER, 3, now);
    state.open(message(0), at(0, None, 9), now);
    state.open(message(3), at(0, None, 9), now);
    take(&mut state, message(0), &[0, 1], now);
    take(&mut state, message(3), &[0], now);
    assert!(
        !state.is_full(0),
        "the only lane with partitions has it all"
    );
    state.open(key(EventType::Speech, 1), at(0, None, 9), now);
    assert!(state.is_full(0));
    assert_eq!(due_in(&state, 1, now), None);
    take(&mut state, key(EventType::Speech, 1), &[0], now);
    assert_eq!(due_in(&state, 1, now), Some(LINGER));
    assert_eq!(state.cut(1, now).parts.len(), 1);
    assert_eq!(due_in(&state, 1, now), None);
    assert!(state.is_full(0), "what the other has is still there");
    assert_eq!(state.cut(0, now).parts.len(), 2);
    assert!(state.cut(2, now).parts.is_empty());
}

#[test]
fn what_has_waited_takes_the_others_along_and_what_is_full_does_not() {
    let start = Instant::now();
    let mut state = State::new(6, 1_000, LINGER, 3, start);
    for partition in 0..3 {
        state.open(message(partition), at(0, None, 9), start);
    }
    let everywhere = |_| true;
    take(&mut state, message(0), &[0], start);
    let later = start + LINGER / 2;
    take(&mut state, message(1), &[0], later);
    assert_eq!(state.due(everywhere, later), (vec![], Some(LINGER / 2)));
    take(&mut state, message(1), &[1], later);
    assert_eq!(state.due(everywhere, later), (vec![1], Some(LINGER / 2)));
    state.cut(1, later);
    take(&mut state, message(1), &[2], later);
    let at_last = start + LINGER;
    assert_eq!(
        state.due(everywhere, at_last),
        (vec![0, 1], Some(Duration::ZERO))
    );
    // A lane that is stuck hurries nobody.
    assert_eq!(
        state.due(|lane| lane != 0, at_last),
        (vec![], Some(LINGER / 2))
    );
}

#[test]
fn a_partition_is_held_until_it_is_let_go_or_opened_again() {
    let now = Instant::now();
    let mut state = state(now);
    state.hold(message(0), true);
    assert_eq!(state.holds(), Default::default(), "it is not ours");
    for partition in [0, 1] {
        state.open(message(partition), at(0, None, 9), now);
        state.hold(message(partition), true);
    }
    let both = [message(0), message(1)].into();
    assert_eq!(state.holds(), (both, [].into()));
    assert_eq!(state.holds(), Default::default(), "told once");
    assert_eq!(state.wanted(), [].into());
    state.hold(message(0), false);
    assert_eq!(state.holds(), ([].into(), [message(0)].into()));
    state.void(message(1), now);
    state.open(message(1), at(0, None, 9), now);
    assert_eq!(
        state.holds(),
        Default::default(),
        "fetched anew, not paused"
    );
    assert_eq!(state.wanted(), [message(0), message(1)].into());
}

#[test]
fn a_begun_range_waits_until_it_is_whole_and_goes_alone() {
    let now = Instant::now();
    let mut state = state(now);
    state.open(message(0), at(10, Some(16), 20), now);
    state.open(message(1), at(0, None, 20), now);
    take(&mut state, message(0), &[10, 11, 12, 13, 14], now);
    assert_eq!(due_in(&state, 0, now), None, "nothing may go yet");
    take(&mut state, message(1), &[0], now);
    let others = state.cut(0, now).parts;
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].partition, 1);

    take(&mut state, message(0), &[15, 16, 17], now);
    let range = state.cut(0, now).parts.remove(0);
    assert_eq!(offsets(&range), [10, 11, 12, 13, 14, 15]);
    assert_eq!((range.expected, range.next_offset()), (10, 16));
    assert_eq!(range.pending_end, Some(16));
    let rest = state.cut(0, now).parts.remove(0);
    assert_eq!(offsets(&rest), [16, 17]);
    assert_eq!((rest.expected, rest.pending_end), (16, None));
}

#[test]
fn a_range_whose_last_record_is_a_gap_is_whole_with_the_next_one() {
    let now = Instant::now();
    let mut state = state(now);
    state.open(message(0), at(10, Some(16), 20), now);
    take(&mut state, message(0), &[10, 18], now);
    let range = state.cut(0, now).parts.remove(0);
    assert_eq!(offsets(&range), [10]);
    assert_eq!(range.next_offset(), 16);
    assert_eq!(offsets(&state.cut(0, now).parts[0]), [18]);
}

#[test]
fn what_was_handed_out_is_void_once_the_partition_is_opened_again() {
    let now = Instant::now();
    let mut state = state(now);
    state.open(message(0), at(0, None, 9), now);
    take(&mut state, message(0), &[0, 1], now);
    let part = state.cut(0, now).parts.remove(0);
    assert!(state.is_current(part.key(), part.epoch));
    assert!(state.void(message(0), now));
    assert!(!state.is_current(part.key(), part.epoch));
    assert_eq!(state.take(message(0), 2, 0, b"", None, now), Taken::Foreign);
    assert!(!state.void(message(0), now), "asked for already");

    state.open(message(0), at(1, None, 9), now);
    assert!(!state.is_current(part.key(), part.epoch));
    state.done(&part, now);
    assert_eq!(state.open[&message(0)].committed, 1);
}

#[test]
fn stuck_is_lag_without_progress() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut state = state(start);
    let stuck = |state: &mut State, now| {
        state.beat(now);
        state.stuck(STALL, now)
    };
    state.open(message(0), at(0, None, 0), start);
    assert_eq!(stuck(&mut state, after(500)), None, "nothing to do");

    // The first record after a quiet time starts the clock.
    state.observe(&BTreeMap::from([(message(0), 2)]), after(500));
    assert_eq!(stuck(&mut state, after(599)), None);
    assert!(stuck(&mut state, after(601)).is_some());
    state.excuse(after(601));
    assert_eq!(stuck(&mut state, after(700)), None);

    take(&mut state, message(0), &[0], start);
    let part = state.cut(0, start).parts.remove(0);
    state.done(&part, after(700));
    assert_eq!(stuck(&mut state, after(799)), None);
    assert!(stuck(&mut state, after(801)).is_some());
    take(&mut state, message(0), &[1], start);
    let part = state.cut(0, start).parts.remove(0);
    state.done(&part, after(801));
    assert_eq!(stuck(&mut state, after(2_000)), None, "all done");
    assert!(state.stuck(STALL, after(2_101)).is_some(), "no heart-beat");
}

#[test]
fn one_partition_that_hangs_among_others_is_seen_later() {
    let start = Instant::now();
    let mut state = state(start);
    state.open(message(0), at(0, None, 1_000), start);
    state.open(message(1), at(0, None, 1_000), start);
    let mut now = start;
    for offset in 0..6 {
        now += STALL;
        take(&mut state, message(0), &[offset], now);
        let part = state.cut(0, now).parts.remove(0);
        state.done(&part, now);
        state.beat(now);
        assert_eq!(state.stuck(STALL, now).is_some(), offset == 5);
    }
}
