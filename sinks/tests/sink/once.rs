//! Each event once: copies, crashes at every step, and whoever comes too late.

use chrono::{NaiveDate, NaiveTime};
use rivulet_events::EventType::Interaction;
use uuid::Uuid;

use crate::{
    bed::{Bed, badge, config, payload, until},
    proxy::{Mode, Proxy},
};

async fn badges(bed: &Bed) -> Vec<String> {
    let query = "SELECT assumeNotNull(badge) FROM history ORDER BY badge";
    bed.test.clickhouse.query(query).fetch_all().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_copies_the_one_with_the_lowest_offset_is_the_event() {
    let bed = Bed::new().await;
    let sink = bed.start(&bed.test.clickhouse).await;
    let (first, other) = (badge("first"), badge("other"));
    let mut copy = badge("copy");
    copy.id = first.id;
    let last = bed.send(&[first.clone(), other, copy.clone()]).await[2];
    bed.until_settled(Interaction, last).await;
    assert_eq!(
        badges(&bed).await,
        ["first", "other"],
        "copies in one insert"
    );

    let last = bed.send(&[copy.clone(), first]).await[1];
    bed.until_settled(Interaction, last).await;
    assert!(bed.raw_rows().await > 2, "there are copies to choose from");
    assert_eq!(
        badges(&bed).await,
        ["first", "other"],
        "copies in several inserts"
    );

    bed.test
        .clickhouse
        .query("OPTIMIZE TABLE events FINAL")
        .execute()
        .await
        .unwrap();
    assert_eq!(badges(&bed).await, ["first", "other"], "after a merge");
    drop(sink);
}

/// The device never heard the answer, and sends again when it is next online.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_arrives_days_later_is_the_same_event() {
    let bed = Bed::new().await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    let first = badge("first");
    let mut again = first.clone();
    again.received_at += 3 * 86_400_000;
    let last = bed.send(&[first, again]).await[1];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["first"]);
}

/// Devices whose clocks are years off, or a liar: the id-days of one insert may lie in every month there is.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_all_months_come_in_one_insert() {
    let bed = Bed::new().await;
    let mut records = Vec::new();
    for month in 0..156 {
        let day = NaiveDate::from_ymd_opt(2025 + month / 12, month as u32 % 12 + 1, 15).unwrap();
        let mut record = badge("b");
        record.occurred_at = day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
        records.push(record);
    }
    for reset in [0, 4_102_444_800_000] {
        let mut record = badge("b");
        record.occurred_at = reset;
        records.push(record);
    }
    let copies = records.clone();
    records.extend(copies);
    let payloads: Vec<_> = records.iter().map(payload).collect();
    bed.send_together(Interaction, &payloads).await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_settled(Interaction, payloads.len() as i64 - 1)
        .await;
    assert_eq!(badges(&bed).await.len(), 158);
    let months = "SELECT uniqExact(toYYYYMM(id_day)) FROM history";
    assert_eq!(bed.number(months).await, 157);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_of_another_child_or_type_is_another_event() {
    let bed = Bed::new().await;
    let first = badge("first");
    let mut sibling = badge("sibling");
    sibling.id = first.id;
    sibling.child_id = crate::bed::child(2);
    bed.send(&[first, sibling]).await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_rows(2).await;
    assert_eq!(badges(&bed).await, ["first", "sibling"]);
}

/// The insert landed, its answer did not arrive, and the sink died. Before its successor comes, it
/// becomes known that one of the events was first seen withheld, elsewhere. So the range is formed
/// again with other content, and only its token tells ClickHouse that it has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_insert_adds_nothing() {
    let bed = Bed::new().await;
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let sink = bed.start(&bed.behind(&proxy.url)).await;
    proxy.set(Mode::Swallow);
    let records = ["a", "b", "c"].map(badge);
    bed.send_together(Interaction, &records.each_ref().map(payload))
        .await;
    proxy.harmed().await;
    bed.until_begun(Interaction).await;
    sink.crash().await;
    let landed = bed.raw_rows().await;
    assert!(
        landed > 1,
        "the range that landed has more than the row it will lose"
    );

    let first = &records[0];
    sqlx::query("INSERT INTO withheld_seen VALUES ($1, $2, 'elsewhere', 0, 0, '2026-03-02', $3)")
        .bind(first.child_id.uuid())
        .bind(bed.test.cluster.topic(Interaction))
        .bind(vec![Uuid::from_bytes(first.identity().key)])
        .execute(&bed.test.pool)
        .await
        .unwrap();
    let last = bed.send(&[badge("d")]).await[0];
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_settled(Interaction, last).await;
    assert_eq!(
        bed.raw_rows().await,
        4,
        "without FINAL: the repeated range added rows"
    );
    assert_eq!(badges(&bed).await, ["a", "b", "c", "d"]);
}

/// The range was begun and never sent; meanwhile more records came. The successor sends the range
/// as it was begun, and the others under a token of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_insert_loses_nothing() {
    let bed = Bed::new().await;
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let sink = bed.start(&bed.behind(&proxy.url)).await;
    proxy.set(Mode::Shut);
    bed.send(&[badge("a"), badge("b")]).await;
    bed.until_begun(Interaction).await;
    let begun = bed.position(Interaction).await;
    sink.crash().await;
    assert_eq!(bed.raw_rows().await, 0);
    assert_eq!(
        bed.position(Interaction).await,
        begun,
        "the begun range is remembered"
    );

    let last = bed.send(&[badge("c")]).await[0];
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_settled(Interaction, last).await;
    assert_eq!(bed.raw_rows().await, 3);
    assert_eq!(badges(&bed).await, ["a", "b", "c"]);
}

/// Somebody else moved the position while an insert was on its way: what this sink has is void, and
/// it goes on from where PostgreSQL says.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_too_late_is_fenced() {
    let bed = Bed::new().await;
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let sink = bed.start(&bed.behind(&proxy.url)).await;
    proxy.set(Mode::Shut);
    let first = bed.send(&[badge("a")]).await[0];
    bed.until_begun(Interaction).await;
    // The other instance has inserted the range and finished it.
    bed.send(&[badge("b")]).await;
    sqlx::query(
        "UPDATE kafka_positions SET next_offset = $1, pending_end = NULL
         WHERE consumer = 'history' AND topic = $2 AND partition = 0",
    )
    .bind(first + 1)
    .bind(bed.test.cluster.topic(Interaction))
    .execute(&bed.test.pool)
    .await
    .unwrap();
    proxy.set(Mode::Pass);
    bed.until_settled(Interaction, first + 1).await;
    let after = bed.send(&[badge("c")]).await[0];
    bed.until_settled(Interaction, after).await;
    assert_eq!(bed.raw_rows().await, 3);
    assert_eq!(badges(&bed).await, ["a", "b", "c"]);
    drop(sink);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_share_the_work_and_one_takes_over_the_others() {
    let bed = Bed::new().await;
    let one = bed.start(&bed.test.clickhouse).await;
    let two = bed.start_with(&bed.test.clickhouse, config());
    let mut payload = Vec::new();
    for number in 0..200 {
        payload.clear();
        badge(&format!("{number:03}")).encode(&mut payload).unwrap();
        bed.send_bytes(Interaction, number % 2, &payload).await;
        if number == 100 {
            until("the second sink", || async { two.readiness.is_ready() }).await;
        }
    }
    one.crash().await;
    let more = ["x", "y"].map(badge);
    bed.send(&more).await;
    bed.until_rows(202).await;
    assert_eq!(bed.raw_rows().await, 202);
    assert_eq!(badges(&bed).await.len(), 202);
    two.crash().await;
}
