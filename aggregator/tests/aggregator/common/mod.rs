//! Events by hand and at random.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "for tests, each of which uses its part"
)]

mod recount;

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use proptest::{collection::vec, option, prelude::*, sample::select};
use rivulet_consumer::{Part, Raw};
use rivulet_events::{
    ChildId, Data, EventType, Interaction, InteractionAction, Message, ParentId, Record, Role,
    Session, SessionAction,
    data::{AgeGroup, Speech},
    record::SCHEMA_VERSION,
};
use uuid::Uuid;

#[allow(unused_imports, reason = "as above")]
pub(crate) use recount::{distinct, recount, rollup_rows, rows_of, stored};

/// 2025-11-03T00:00:00Z, a Monday.
pub(crate) const MONDAY: i64 = 1_762_128_000_000;
pub(crate) const DAY_MS: i64 = 86_400_000;

pub(crate) fn date(days_from_monday: i64) -> NaiveDate {
    let monday = NaiveDate::from_ymd_opt(2025, 11, 3).unwrap();
    monday
        .checked_add_signed(chrono::TimeDelta::days(days_from_monday))
        .unwrap()
}

pub(crate) fn child(number: u8) -> ChildId {
    ChildId::new(Uuid::from_u128(
        0x8000_0000_0000_4000_8000_0000_0000_0000 + u128::from(number),
    ))
}

/// An event of a child on a day, at noon UTC, received a second later.
pub(crate) fn event(child_number: u8, day: i64, data: Data<'static>) -> Record<'static> {
    let time = MONDAY + day * DAY_MS + DAY_MS / 2;
    Record {
        v: SCHEMA_VERSION,
        event_type: data.event_type(),
        id: Uuid::new_v4(),
        child_id: child(child_number),
        parent_id: ParentId::new(Uuid::from_u128(7)),
        age_group: AgeGroup::WonderCubs,
        session_id: matches!(data, Data::Session(_)).then_some(Uuid::from_u128(13)),
        occurred_at: time,
        event_time: time,
        received_at: time + 1_000,
        local_date: date(day),
        analytics: true,
        consent_version: None,
        consent_epoch: 0,
        device: None,
        attributes: Vec::new(),
        data,
    }
}

pub(crate) fn interaction(action: InteractionAction) -> Data<'static> {
    Data::Interaction(Interaction {
        action,
        activity_id: None,
        subject: None,
        topic: None,
        is_correct: (action == InteractionAction::Answer).then_some(true),
        response_time_ms: None,
        duration_ms: None,
        confidence: None,
        difficulty: None,
        rating: None,
        xp: None,
        stars: None,
        badge: None,
    })
}

pub(crate) fn message(role: Role) -> Data<'static> {
    Data::Message(Message {
        conversation_id: Uuid::from_u128(9),
        sequence: 1,
        role,
        topic: None,
        chars: None,
        words: None,
        is_question: false,
        is_free_form: false,
        aha_moment: false,
        was_filtered: false,
        selected_choice: None,
        depth_level: None,
        tokens_used: None,
        processing_time_ms: None,
        filter_reason: None,
    })
}

pub(crate) fn speech(child_words: u32) -> Data<'static> {
    Data::Speech(Speech {
        audio_session_id: Uuid::from_u128(11),
        window_ms: 60_000,
        child_words,
        adult_words: 3,
        child_vocalizations: 1,
        conversational_turns: 2,
        utterances: 4,
        unique_words: 5,
        new_words: 0,
        snr_db: None,
        language: None,
        model_version: None,
    })
}

pub(crate) fn session(action: SessionAction) -> Data<'static> {
    Data::Session(Session {
        action,
        active_ms: 1_000,
        kind: None,
        device_type: None,
    })
}

pub(crate) fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out).unwrap();
    out
}

/// A part of consecutive records from `expected` on, in the topic named as its type.
pub(crate) fn part(
    kind: EventType,
    partition: i32,
    expected: i64,
    payloads: impl IntoIterator<Item = Vec<u8>>,
) -> Part {
    let records = (expected..).zip(payloads);
    Part {
        topic: kind.as_str().into(),
        event_type: kind,
        partition,
        incarnation: "cluster/topic".into(),
        epoch: 0,
        expected,
        pending_end: None,
        records: records
            .map(|(offset, payload)| Raw {
                offset,
                timestamp: 0,
                payload: payload.into(),
                link: None,
            })
            .collect(),
    }
}

/// A part a type, in partition 0 from offset 0 on.
pub(crate) fn parts(events: &[Record<'_>]) -> Vec<Part> {
    let of = |kind: EventType| events.iter().filter(move |event| event.event_type == kind);
    let parts = EventType::ALL
        .iter()
        .map(|kind| part(*kind, 0, 0, of(*kind).map(encode)));
    parts.filter(|part| !part.records.is_empty()).collect()
}

// ---------------------------------------------------------------------------------- random events

/// Words that would break a careless array literal or another collation's order.
const WORDS: &[&str] = &[
    "maths",
    "Maths",
    "über,allem",
    "a\"quote",
    "back\\slash",
    "{braces}",
    "NULL",
    "z z",
    "😀",
    "'",
];

fn text() -> impl Strategy<Value = Option<std::borrow::Cow<'static, str>>> {
    option::of(select(WORDS).prop_map(Into::into))
}

fn any_interaction() -> impl Strategy<Value = Data<'static>> {
    let measures = (
        option::of(0..5_000_u32),
        option::of(0..9_000_u32),
        option::of(select(&[0.0, 0.0005, 0.2345, 0.5, 0.9995, 1.0][..])),
        option::of(1..=5_u8),
        option::of(1..=5_u8),
        option::of(0..100_u16),
        option::of(0..100_u16),
    );
    (
        select(InteractionAction::ALL),
        text(),
        text(),
        text(),
        any::<bool>(),
        measures,
    )
        .prop_map(|(action, subject, topic, badge, correct, measures)| {
            let (response_time_ms, duration_ms, confidence, difficulty, rating, xp, stars) =
                measures;
            Data::Interaction(Interaction {
                action,
                activity_id: None,
                subject,
                topic,
                is_correct: (action == InteractionAction::Answer).then_some(correct),
                response_time_ms,
                duration_ms,
                confidence,
                difficulty,
                rating: rating.or((action == InteractionAction::Rate).then_some(3)),
                xp,
                stars,
                badge,
            })
        })
}

fn any_message() -> impl Strategy<Value = Data<'static>> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = (1..4_u64, option::of(0..=9_u8), option::of(0..500_u32));
    (select(Role::ALL), text(), flags, numbers).prop_map(|(role, topic, flags, numbers)| {
        let Data::Message(plain) = message(role) else {
            unreachable!()
        };
        Data::Message(Message {
            topic,
            is_question: flags.0,
            aha_moment: flags.1,
            was_filtered: flags.2,
            sequence: numbers.0,
            depth_level: numbers.1,
            tokens_used: numbers.2,
            ..plain
        })
    })
}

fn any_data() -> impl Strategy<Value = Data<'static>> {
    prop_oneof![
        4 => any_interaction(),
        3 => any_message(),
        2 => (0..3_u32).prop_map(speech),
        2 => (select(SessionAction::ALL), 0..600_000_u32).prop_map(|(action, active_ms)| {
            Data::Session(Session { action, active_ms, kind: None, device_type: None })
        }),
    ]
}

/// How far a device's clock is off, in days: right, or so that the id-day is not near the day of arrival.
const CLOCKS: &[i64] = &[0, 0, 0, 0, 3, -36, 36, 700];

/// An event of one of a few children over a few weeks. Ids come from a small set, so that copies of
/// one identity occur, with contents that differ, some of them while their id-day is near and some while it
/// is not.
pub(crate) fn any_event() -> impl Strategy<Value = Record<'static>> {
    let place = (0..3_u8, 0..24_i64, 0..DAY_MS, -1..=1_i64, select(CLOCKS));
    (place, 0..10_u16, any::<bool>(), any_data()).prop_map(
        |((child_number, of_id, of_day, zone, behind), id, analytics, data)| {
            let occurred_at = MONDAY + of_id * DAY_MS;
            let day = of_id + behind;
            let event_time = MONDAY + day * DAY_MS + of_day;
            Record {
                id: Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(id)),
                occurred_at,
                event_time,
                received_at: event_time + 5_000,
                local_date: date(day + zone),
                analytics,
                ..event(child_number, day, data)
            }
        },
    )
}

/// Always the same events of [`any_events`].
pub(crate) fn some_events(count: usize) -> Vec<Record<'static>> {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let events = vec(any_event(), count).new_tree(&mut TestRunner::deterministic());
    events.unwrap().current()
}

pub(crate) fn any_events(most: usize) -> impl Strategy<Value = Vec<Record<'static>>> {
    vec(any_event(), 0..most)
}

/// Days from a set of offsets.
pub(crate) fn days(offsets: &BTreeSet<u64>) -> Vec<NaiveDate> {
    offsets
        .iter()
        .map(|offset| date(0) + Days::new(*offset))
        .collect()
}
