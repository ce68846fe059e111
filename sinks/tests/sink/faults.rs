//! ClickHouse is away, hangs, refuses or is not set up: nothing is lost and the sink says so.

use std::time::Duration;

use rivulet_events::{
    Data,
    EventType::{self, Interaction},
    Record, Session, SessionAction,
};
use rivulet_sinks::Config;
use uuid::Uuid;

use crate::{
    bed::{Bed, badge, config, payload, record, until},
    proxy::{Mode, Proxy},
};

/// While ClickHouse is in this state nothing arrives and the sink is not ready; afterwards all of it
/// does, once.
async fn survives(mode: Mode, config: Config) {
    let bed = Bed::new().await;
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let sink = bed.start_with(&bed.behind(&proxy.url), config);
    until("the sink to be ready", || async {
        sink.readiness.is_ready()
    })
    .await;
    proxy.set(mode);
    let mut last = 0;
    for number in 0..50 {
        last = bed.send(&[badge(&number.to_string())]).await[0];
    }
    proxy.harmed().await;
    proxy.harmed().await;
    until("the sink to say so", || async {
        !sink.readiness.is_ready()
    })
    .await;
    assert_eq!(bed.raw_rows().await, 0);
    proxy.set(Mode::Pass);
    bed.until_settled(Interaction, last).await;
    until("the sink to be ready again", || async {
        sink.readiness.is_ready()
    })
    .await;
    assert_eq!(bed.raw_rows().await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_is_away() {
    survives(Mode::Shut, config()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_never_answers() {
    let impatient = Config {
        send_timeout: Duration::from_millis(300),
        answer_timeout: Duration::from_secs(1),
        ..config()
    };
    survives(Mode::Hang, impatient).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_with_too_many_parts() {
    survives(Mode::Refuse(252), config()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_refuses_the_login() {
    survives(Mode::Refuse(516), config()).await;
}

/// A missing table is somebody's to repair; the sink waits for it, before and after it started.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_waited_for() {
    let bed = Bed::new().await;
    let client = &bed.test.clickhouse;
    client
        .query("RENAME TABLE events TO elsewhere")
        .execute()
        .await
        .unwrap();
    let sink = bed.start_with(client, config());
    let last = bed.send(&[badge("a")]).await[0];
    client
        .query("RENAME TABLE elsewhere TO events")
        .execute()
        .await
        .unwrap();
    bed.until_settled(Interaction, last).await;

    client
        .query("RENAME TABLE events TO elsewhere")
        .execute()
        .await
        .unwrap();
    let last = bed.send(&[badge("b")]).await[0];
    bed.until_begun(Interaction).await;
    until("the sink to say so", || async {
        !sink.readiness.is_ready()
    })
    .await;
    client
        .query("RENAME TABLE elsewhere TO events")
        .execute()
        .await
        .unwrap();
    bed.until_settled(Interaction, last).await;
    assert_eq!(bed.raw_rows().await, 2);
}

/// More than the sink may hold arrives while ClickHouse is away: it stops taking records, and takes
/// them up again.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_memory_lasts() {
    let bed = Bed::new().await;
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let narrow = Config {
        max_records: 40,
        max_buffered_bytes: 16 << 10,
        ..config()
    };
    let sink = bed.start_with(&bed.behind(&proxy.url), narrow);
    until("the sink to be ready", || async {
        sink.readiness.is_ready()
    })
    .await;
    proxy.set(Mode::Shut);
    let payloads: Vec<_> = (0..3_000)
        .map(|number| payload(&badge(&number.to_string())))
        .collect();
    bed.send_together(Interaction, &payloads).await;
    proxy.harmed().await;
    proxy.harmed().await;
    proxy.set(Mode::Pass);
    bed.until_settled(Interaction, 2_999).await;
    assert_eq!(bed.raw_rows().await, 3_000);
}

/// The inserts of one partition never end, and more of it arrives than the sink may hold. The others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_inserts_never_end_holds_up_nobody_else() {
    let bed = Bed::new().await;
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let narrow = Config {
        max_records: 40,
        max_buffered_bytes: 512 << 10,
        inserts: 1,
        answer_timeout: Duration::from_secs(8),
        ..config()
    };
    let sink = bed.start_with(&bed.behind(&proxy.url), narrow);
    until("the sink to be ready", || async {
        sink.readiness.is_ready()
    })
    .await;
    // As the token of an insert begins, in its URL.
    proxy.set(Mode::HangOn("session%3A0%3A"));
    let heartbeat = record(Data::Session(Session {
        action: SessionAction::Heartbeat,
        active_ms: 1,
        kind: None,
        device_type: None,
    }));
    let stuck: Vec<_> = (0..3_000)
        .map(|number| {
            payload(&Record {
                id: Uuid::from_u128(number),
                session_id: Some(Uuid::nil()),
                ..heartbeat.clone()
            })
        })
        .collect();
    bed.send_together(EventType::Session, &stuck).await;
    proxy.harmed().await;
    let free: Vec<_> = (0..2_000)
        .map(|number| payload(&badge(&number.to_string())))
        .collect();
    bed.send_together(Interaction, &free).await;
    bed.until_settled(Interaction, 1_999).await;
    assert_eq!(bed.raw_rows().await, 2_000);
    proxy.set(Mode::Pass);
    bed.until_settled(EventType::Session, 2_999).await;
    assert_eq!(bed.raw_rows().await, 5_000);
}
