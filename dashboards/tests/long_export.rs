//! How long the export of a long history takes, and that its memory does not grow with the history. A process of its
//! own, because it looks at the memory of all of it. By hand, with the services up:
//! `cargo test --workspace --release --test long_export -- --ignored --nocapture`

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on should say so"
)]

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rivulet_dashboards::exported_tables;
use rivulet_export::{Export, Pace, Stores, Subject};
use rivulet_sandbox::TestBed;
use uuid::Uuid;

/// A reader who is as fast as they come.
struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Of this process, in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Three years of a child, with as many events of each type as an app sends.
async fn child_with(bed: &TestBed, events: u64) -> Uuid {
    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    sqlx::query("INSERT INTO parents (id, timezone) VALUES ($1, 'Europe/Rome')")
        .bind(parent)
        .execute(&bed.pool)
        .await
        .unwrap();
    sqlx::query("INSERT INTO children (id, parent_id, age_group) VALUES ($1, $2, 'wonder_cubs')")
        .bind(child)
        .bind(parent)
        .execute(&bed.pool)
        .await
        .unwrap();
    let at = format!("now64(3) - toIntervalSecond(number * 94608000 / {events})");
    let sql = format!(
        "INSERT INTO events (event_id, event_type, id_day, child_id, parent_id, age_group, session_id, occurred_at,
             event_time, received_at, local_date, device_id, device_platform, device_app_version, interaction_action,
             activity_id, subject, topic, is_correct, response_time_ms, duration_ms, confidence, difficulty,
             conversation_id, sequence, role, chars, words, is_question, audio_session_id, window_ms, child_words,
             adult_words, conversational_turns, snr_db, session_action, active_ms, attributes, kafka_topic,
             kafka_partition, kafka_offset, topic_incarnation)
         SELECT generateUUIDv4(), ['interaction', 'message', 'speech', 'session'][number % 4 + 1] AS type,
             toDate({at}), '{child}', '{parent}', 'wonder_cubs', generateUUIDv4(number % 1000), {at}, {at}, now64(3),
             toDate({at}), 'a tablet', 'android', '4.2.0', if(type = 'interaction', 'answer', NULL),
             if(type = 'interaction', generateUUIDv4(1), NULL), if(type = 'interaction', 'math', NULL),
             if(type IN ('interaction', 'message'), concat('topic ', toString(number % 300)), NULL),
             if(type = 'interaction', number % 3 = 0, NULL), if(type = 'interaction', rand() % 20000, NULL),
             if(type = 'interaction', rand() % 60000, NULL), if(type = 'interaction', 0.25, NULL),
             if(type = 'interaction', 3, NULL), if(type = 'message', generateUUIDv4(2), NULL),
             if(type = 'message', number % 20 + 1, NULL), if(type = 'message', 'user', NULL),
             if(type = 'message', rand() % 300, NULL), if(type = 'message', rand() % 60, NULL),
             if(type = 'message', number % 5 = 0, NULL), if(type = 'speech', generateUUIDv4(3), NULL),
             if(type = 'speech', 60000, NULL), if(type = 'speech', rand() % 90, NULL),
             if(type = 'speech', rand() % 90, NULL), if(type = 'speech', rand() % 20, NULL),
             if(type = 'speech', 21.5, NULL), if(type = 'session', 'heartbeat', NULL),
             if(type = 'session', 60000, NULL), map('screen', concat('screen ', toString(number % 40))),
             concat('rivulet.', type), 3, number, 'a cluster/a topic'
         FROM numbers({events})"
    );
    let insert = bed.clickhouse.query_raw(&sql);
    let insert = insert.with_setting("max_partitions_per_insert_block", "157");
    insert.execute().await.unwrap();
    child
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes"]
async fn three_years_take_the_memory_of_a_month() {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database)
        .await
        .unwrap();
    let mut peaks = Vec::new();
    for events in [50_000, 1_000_000] {
        let child = child_with(&bed, events).await;
        let stores = Stores {
            pool: bed.pool.clone(),
            history: bed.clickhouse.clone(),
        };
        let begun = Instant::now();
        let peak = Arc::new(AtomicU64::new(0));
        let watch = {
            let peak = Arc::clone(&peak);
            tokio::spawn(async move {
                loop {
                    peak.fetch_max(memory(), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let subject = Subject::Child(child);
        let export = Export::begin(stores, exported_tables(), Pace::default(), subject, None);
        let export = export.await.unwrap();
        let counted = begun.elapsed();
        let Counted(bytes) = export.write(Counted(0), ()).await.unwrap();
        watch.abort();
        let peak = peak.load(Ordering::Relaxed);
        println!(
            "{events} events: {:.1} s (of it {:.1} s before the first byte), {bytes} bytes of zip, {} MiB of memory",
            begun.elapsed().as_secs_f64(),
            counted.as_secs_f64(),
            peak / 1024,
        );
        peaks.push(peak);
    }
    // Twenty times as many events.
    assert!(peaks[1] < peaks[0] + (64 << 10), "{peaks:?} KiB");
}
