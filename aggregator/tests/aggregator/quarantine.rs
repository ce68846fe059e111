//! No record ends the aggregator, and none is skipped in silence.

use rivulet_events::{Data, EventType, InteractionAction, Record};
use rivulet_sandbox::TestBed;

use crate::common::{distinct, encode, event, interaction, recount, some_events, stored};
use crate::instance::{Instance, consumed, eventually, migrated, produce, produce_raw};

async fn execute(bed: &TestBed, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&bed.pool).await.unwrap();
}

async fn number(bed: &TestBed, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&bed.pool).await.unwrap()
}

const POSITION: &str = "SELECT coalesce(sum(next_offset), 0)::bigint FROM kafka_positions";
const QUARANTINED: &str = "SELECT count(*) FROM quarantine";

fn of_interaction(
    mut event: Record<'static>,
    change: fn(&mut rivulet_events::Interaction<'_>),
) -> Record<'static> {
    if let Data::Interaction(data) = &mut event.data {
        change(data);
    }
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_postgres_refuses_are_found_and_all_others_counted() {
    let bed = migrated().await;
    execute(
        &bed,
        "ALTER TABLE daily_child_metrics ADD CONSTRAINT sane CHECK (NOT 'refused' = ANY (badges));
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'not this one' USING ERRCODE = '22023'; END $$;
         CREATE TRIGGER sane BEFORE INSERT ON topic_progress
             FOR EACH ROW WHEN (NEW.topic = 'refused') EXECUTE FUNCTION refuse()",
    )
    .await;
    let good = some_events(600);
    // Of children and days that have good events, too; two of one child side by side.
    let bad: Vec<_> = (0..6)
        .map(|number: u8| {
            let of = event(number / 2, 0, interaction(InteractionAction::Start));
            if number.is_multiple_of(3) {
                of_interaction(of, |data| data.topic = Some("refused".into()))
            } else {
                of_interaction(of, |data| data.badge = Some("refused".into()))
            }
        })
        .collect();
    let mut all = good.clone();
    for (number, event) in bad.iter().enumerate() {
        all.insert(number * number * 15, event.clone());
    }
    produce(&bed, &all).await;
    let instance = Instance::start(&bed);
    consumed(&bed, all.len()).await;
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&good)));

    let mut found: Vec<(Vec<u8>, String, String)> =
        sqlx::query_as("SELECT record, code, left(detail, 38) FROM quarantine")
            .fetch_all(&bed.pool)
            .await
            .unwrap();
    found.sort();
    let mut expected: Vec<_> = (0..)
        .zip(&bad)
        .map(|(number, event)| {
            let state = if number % 3 == 0 { 22023 } else { 23514 };
            let why = format!("PostgreSQL refused it: SQLSTATE {state} ");
            (encode(event), "refused_by_database".to_owned(), why)
        })
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    eventually("it is ready", async || instance.readiness.is_ready()).await;
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_schema_is_no_records_fault() {
    let bed = migrated().await;
    let instance = Instance::start(&bed);
    eventually("it is ready", async || instance.readiness.is_ready()).await;
    let events = some_events(300);
    for (number, (breaks, mends)) in (1..).zip([
        (
            "ALTER TABLE daily_child_metrics RENAME stars TO away",
            "ALTER TABLE daily_child_metrics RENAME away TO stars",
        ),
        // Who may not even write down what it refuses.
        (
            "ALTER TABLE kafka_positions ADD CONSTRAINT stuck CHECK (next_offset < 10) NOT VALID",
            "ALTER TABLE kafka_positions DROP CONSTRAINT stuck",
        ),
    ]) {
        execute(&bed, breaks).await;
        produce(&bed, &events).await;
        eventually("it is unready", async || !instance.readiness.is_ready()).await;
        execute(&bed, mends).await;
        consumed(&bed, events.len() * number).await;
        eventually("it is ready again", async || instance.readiness.is_ready()).await;
        assert_eq!(number_of_quarantined(&bed).await, 0);
        assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
    }
    instance.stop().await;
}

async fn number_of_quarantined(bed: &TestBed) -> i64 {
    number(bed, QUARANTINED).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unfit_records_stops_it_until_an_operator_says_so() {
    let bed = migrated().await;
    let flood: u32 = 4_000;
    let garbage = (0..flood).map(|number| {
        let payload = format!("{{\"v\":2,\"number\":{number}}}").into_bytes();
        (number.to_string(), (EventType::Message, payload))
    });
    produce_raw(&bed, garbage).await;
    let instance = Instance::start(&bed);
    let stopped = async |instance: &Instance| {
        eventually("it has stopped", async || {
            let ready = instance.readiness.is_ready();
            !ready && number(&bed, "SELECT count(*) FROM quarantine_pauses").await == 1
        })
        .await;
    };
    stopped(&instance).await;
    instance.stop().await;
    // Nothing is skipped: what is not in quarantine is still to come. Each lane was in one batch.
    let set_aside = number_of_quarantined(&bed).await;
    assert_eq!(number(&bed, POSITION).await, set_aside);
    assert!((700..1_200).contains(&set_aside), "{set_aside}");

    // A restart looks at a thousand more, at most, and stops again.
    let instance = Instance::start(&bed);
    let events = some_events(100);
    produce(&bed, &events).await;
    eventually("it has stopped again", async || {
        number(&bed, "SELECT min(unfit) FROM quarantine_pauses").await >= 1_000
            && !instance.readiness.is_ready()
    })
    .await;
    assert!(number_of_quarantined(&bed).await < 2 * 1_200);
    let resumed = rivulet_quarantine::resume(&bed.pool, None, None, "tester")
        .await
        .unwrap();
    assert_eq!(resumed.len(), 1);
    consumed(&bed, flood as usize + events.len()).await;
    assert_eq!(number_of_quarantined(&bed).await, i64::from(flood));
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
    eventually("it is ready again", async || instance.readiness.is_ready()).await;
    instance.stop().await;
}
