//! How a child talks: the views beside a recount of the events.

use std::collections::BTreeMap;

use chrono::{Datelike as _, NaiveDate};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use rivulet_events::{Data, Record, Speech};
use rivulet_sandbox::TestBed;
use uuid::Uuid;

use super::{Store, batches, commit, database};
use crate::common::{child, date, event, interaction, parts, speech};

/// A row of `speech_patterns` without its key.
type Pattern = (f64, f64, f64, f64, f64, Option<f64>);

async fn patterns(bed: &TestBed) -> BTreeMap<(Uuid, String, NaiveDate), Pattern> {
    type Row = (
        Uuid,
        String,
        NaiveDate,
        f64,
        f64,
        f64,
        f64,
        f64,
        Option<f64>,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT child_id, period, period_start, analysed_minutes, child_words_per_minute, adult_words_per_minute,
                turns_per_hour, vocalizations_per_hour, child_share
         FROM speech_patterns",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let row = |(child, period, start, a, b, c, d, e, f): Row| {
        ((child, period, start), (a, b, c, d, e, f))
    };
    rows.into_iter().map(row).collect()
}

/// Of a week: new words, those until its end, the most different words of a window.
type Words = (i64, i64, i64);

async fn vocabulary(bed: &TestBed) -> BTreeMap<(Uuid, NaiveDate), Words> {
    let rows: Vec<(Uuid, NaiveDate, i64, i64, i64)> = sqlx::query_as(
        "SELECT child_id, week_start, new_words, new_words_total, max_unique_words FROM vocabulary",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let row = |(child, week, new, total, unique)| ((child, week), (new, total, unique));
    rows.into_iter().map(row).collect()
}

fn monday(day: NaiveDate) -> NaiveDate {
    day - chrono::Days::new(day.weekday().num_days_from_monday().into())
}

fn window(change: impl FnOnce(&mut Speech<'static>)) -> Data<'static> {
    let mut data = speech(0);
    if let Data::Speech(speech) = &mut data {
        change(speech);
    }
    data
}

/// The windows of a child in a day, a week, a month.
fn windows<'e>(
    events: &'e [Record<'static>],
) -> BTreeMap<(Uuid, &'static str, NaiveDate), Vec<&'e Speech<'static>>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        let Data::Speech(speech) = &event.data else {
            continue;
        };
        let day = event.local_date;
        for (period, start) in [
            ("daily", day),
            ("weekly", monday(day)),
            ("monthly", day.with_day(1).unwrap()),
        ] {
            let key = (event.child_id.uuid(), period, start);
            found.entry(key).or_default().push(speech);
        }
    }
    found
}

#[tokio::test]
async fn both_views_equal_a_recount_in_any_order() {
    let bed = database().await;
    let mut rng = StdRng::seed_from_u64(28);
    let mut events = Vec::new();
    for _ in 0..400 {
        let (number, day) = (rng.random_range(1..=3), rng.random_range(-40..40));
        let data = match rng.random_range(0..8) {
            0 => interaction(rivulet_events::InteractionAction::View),
            _ => window(|speech| {
                speech.window_ms = rng.random_range(1..=400_000);
                // Some days nobody says a word.
                if day % 5 != 0 {
                    speech.child_words = rng.random_range(0..200);
                    speech.adult_words = rng.random_range(0..400);
                } else {
                    speech.adult_words = 0;
                }
                speech.conversational_turns = rng.random_range(0..30);
                speech.child_vocalizations = rng.random_range(0..30);
                speech.unique_words = rng.random_range(0..300);
                speech.new_words = rng.random_range(0..20);
            }),
        };
        events.push(event(number, day, data));
    }
    let mut shuffled: Vec<_> = events.iter().chain(&events[..100]).cloned().collect();
    shuffled.shuffle(&mut rng);
    let mut store = Store::new(bed.pool.clone());
    for batch in batches(&shuffled, 37) {
        commit(&mut store, batch).await.unwrap();
    }

    let mut expected_patterns = BTreeMap::new();
    let mut expected_words: BTreeMap<_, Words> = BTreeMap::new();
    let mut totals: BTreeMap<Uuid, i64> = BTreeMap::new();
    for ((child, period, start), windows) in windows(&events) {
        let sum = |of: fn(&Speech<'_>) -> u32| -> f64 {
            windows
                .iter()
                .map(|speech| u64::from(of(speech)))
                .sum::<u64>() as f64
        };
        let ms = sum(|speech| speech.window_ms);
        let (by_child, by_adults) = (
            sum(|speech| speech.child_words),
            sum(|speech| speech.adult_words),
        );
        if ms >= 600_000.0 {
            let all = by_child + by_adults;
            let pattern = (
                ms / 60_000.0,
                60_000.0 * by_child / ms,
                60_000.0 * by_adults / ms,
                3_600_000.0 * sum(|speech| speech.conversational_turns) / ms,
                3_600_000.0 * sum(|speech| speech.child_vocalizations) / ms,
                (all > 0.0).then(|| by_child / all),
            );
            expected_patterns.insert((child, period.to_owned(), start), pattern);
        }
        if period == "weekly" {
            let new = sum(|speech| speech.new_words) as i64;
            let total = totals.entry(child).or_default();
            *total += new;
            let unique = windows.iter().map(|speech| speech.unique_words).max();
            expected_words.insert((child, start), (new, *total, unique.unwrap().into()));
        }
    }
    assert!(
        expected_patterns
            .values()
            .any(|pattern| pattern.5.is_none())
    );
    assert!(expected_words.len() > 20);
    assert_eq!(patterns(&bed).await, expected_patterns);
    assert_eq!(vocabulary(&bed).await, expected_words);
}

#[tokio::test]
async fn below_ten_minutes_there_is_no_pattern_but_there_are_words() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let of = |ms| window(|speech| (speech.window_ms, speech.new_words) = (ms, 4));
    commit(&mut store, parts(&[event(1, 0, of(599_999))]))
        .await
        .unwrap();
    assert!(patterns(&bed).await.is_empty());
    let week = (child(1).uuid(), date(0));
    assert_eq!(vocabulary(&bed).await, BTreeMap::from([(week, (4, 4, 5))]));

    let mut more = parts(&[event(1, 0, of(1))]);
    more[0].expected = 1;
    more[0].records[0].offset = 1;
    commit(&mut store, more).await.unwrap();
    let found = patterns(&bed).await;
    let minutes: Vec<_> = found.values().map(|pattern| pattern.0).collect();
    assert_eq!(minutes, [10.0; 3], "a day, a week, a month");
    assert_eq!(vocabulary(&bed).await, BTreeMap::from([(week, (8, 8, 5))]));
}
