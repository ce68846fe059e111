//! What `analytics` keeps out of ClickHouse, and what that means for later copies.

use rivulet_events::{Data, EventType::Interaction, Record, Session, SessionAction};

use crate::{
    bed::{Bed, badge, child, payload, record, until},
    proxy::{Mode, Proxy},
};

fn withheld(badge: &Record<'static>) -> Record<'static> {
    Record {
        analytics: false,
        ..badge.clone()
    }
}

async fn badges(bed: &Bed) -> Vec<String> {
    let query = "SELECT assumeNotNull(badge) FROM history ORDER BY badge";
    bed.test.clickhouse.query(query).fetch_all().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn withheld_events_never_arrive() {
    let bed = Bed::new().await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    let last = bed
        .send(&[
            withheld(&badge("secret")),
            badge("open"),
            withheld(&badge("secret")),
        ])
        .await[2];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["open"]);
    let last = bed.send(&[withheld(&badge("secret"))]).await[0];
    bed.until_settled(Interaction, last).await;
    assert_eq!(bed.raw_rows().await, 1, "a range of withheld events alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_withheld_event_stays_out_after_consent() {
    let bed = Bed::new().await;
    let (event, sibling) = (
        badge("event"),
        Record {
            child_id: child(2),
            ..badge("sibling")
        },
    );
    // In one range, in the next, and after a restart.
    let sink = bed.start(&bed.test.clickhouse).await;
    let last = bed.send(&[withheld(&event), event.clone()]).await[1];
    bed.until_settled(Interaction, last).await;
    let last = bed.send(&[event.clone(), sibling]).await[1];
    bed.until_settled(Interaction, last).await;
    sink.crash().await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    let last = bed.send(&[badge("new"), event.clone()]).await[1];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["new", "sibling"]);
    assert_eq!(bed.raw_rows().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_from_before_a_withdrawal_stays() {
    let bed = Bed::new().await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    let event = badge("event");
    let last = bed.send(&[event.clone(), withheld(&event)]).await[1];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["event"]);
    // The withheld copy came second, so it is not the event; a third copy changes nothing.
    let last = bed.send(&[withheld(&event), event.clone()]).await[1];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["event"]);
}

/// The age counts from what has been consumed: here all of it, just now.
#[tokio::test(flavor = "multi_thread")]
async fn withheld_events_are_forgotten_when_no_copy_can_come() {
    let bed = Bed::new().await;
    let sink = bed.start(&bed.test.clickhouse).await;
    let sibling = Record {
        child_id: child(2),
        ..badge("young")
    };
    let last = bed
        .send(&[withheld(&badge("old")), withheld(&sibling)])
        .await[1];
    bed.until_settled(Interaction, last).await;
    sink.crash().await;
    for (number, age) in [(1, 46), (2, 44)] {
        sqlx::query("UPDATE withheld_seen SET received_on = (now() AT TIME ZONE 'UTC')::date - $1 WHERE child_id = $2")
            .bind(age)
            .bind(child(number).uuid())
            .execute(&bed.test.pool)
            .await
            .unwrap();
    }
    let remembered = || async {
        let children =
            sqlx::query_scalar::<_, uuid::Uuid>("SELECT child_id FROM withheld_seen ORDER BY 1");
        children.fetch_all(&bed.test.pool).await.unwrap()
    };
    assert_eq!(remembered().await.len(), 2);
    let consumed = "UPDATE kafka_positions SET consumed_until = now()";
    sqlx::query(consumed).execute(&bed.test.pool).await.unwrap();
    let _sink = bed.start(&bed.test.clickhouse).await;
    until("the old one to be forgotten", || async {
        remembered().await == [child(2).uuid()]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_an_erased_child_never_arrives() {
    let bed = Bed::new().await;
    let sink = bed.start(&bed.test.clickhouse).await;
    let sibling = |name| Record {
        child_id: child(2),
        ..badge(name)
    };
    let last = bed.send(&[badge("before"), sibling("sibling")]).await[1];
    bed.until_settled(Interaction, last).await;
    sqlx::query(
        "INSERT INTO tombstones (number, sha256, kind, erasure_id)
         VALUES (7, tombstone_hash($1), 'child', gen_random_uuid())",
    )
    .bind(badge("any").child_id.uuid())
    .execute(&bed.test.pool)
    .await
    .unwrap();
    let sent = [
        badge("after"),
        sibling("brother"),
        withheld(&badge("after")),
    ];
    let last = bed.send(&sent).await[2];
    bed.until_settled(Interaction, last).await;
    sink.crash().await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    let last = bed.send(&[badge("later")]).await[0];
    bed.until_settled(Interaction, last).await;
    assert_eq!(
        badges(&bed).await,
        ["before", "brother", "sibling"],
        "what came before is the erasure's to remove"
    );
}

/// The first range is begun and cannot be inserted when the consent is withdrawn: it stays the same block, and what is in
/// it is the eraser's to remove.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_on_a_withdrawn_consent_never_arrives() {
    let bed = Bed::new().await;
    let consent = async |granted: bool| {
        sqlx::query("UPDATE parents SET analytics = $1")
            .bind(granted)
            .execute(&bed.test.pool)
            .await
            .unwrap();
    };
    for statement in [
        "INSERT INTO parents (id, timezone, coppa, analytics) VALUES ($1, 'UTC', true, true)",
        "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $1, 'wonder_cubs')",
    ] {
        let query = sqlx::query(statement).bind(child(1).uuid());
        query.execute(&bed.test.pool).await.unwrap();
    }
    let proxy = Proxy::new(&bed.test.clickhouse_url).await;
    let sink = bed.start(&bed.behind(&proxy.url)).await;
    proxy.set(Mode::Shut);
    bed.send(&[badge("begun")]).await;
    bed.until_begun(Interaction).await;
    consent(false).await;
    proxy.set(Mode::Pass);
    bed.until_rows(1).await;
    let sibling = Record {
        child_id: child(2),
        ..badge("sibling")
    };
    let last = bed.send(&[badge("on its way"), sibling]).await[1];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["begun", "sibling"]);

    // After a restart, and given again.
    sink.crash().await;
    sqlx::query("UPDATE revocations SET postgres_at = now()")
        .execute(&bed.test.pool)
        .await
        .unwrap();
    consent(true).await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    let taken_again = Record {
        consent_epoch: 1,
        ..badge("taken again")
    };
    let last = bed.send(&[badge("late"), taken_again]).await[1];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["begun", "sibling", "taken again"]);
    let booked: (i64, i64) =
        sqlx::query_as("SELECT sum(revoked)::bigint, sum(counted)::bigint FROM consumer_ledger")
            .fetch_one(&bed.test.pool)
            .await
            .unwrap();
    assert_eq!(booked, (2, 3));
}

/// Ranges that were begun before some erasures and after others, in any order: each is formed as of its own beginning, and
/// that the process has heard of newer ones by then holds up none.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_were_begun_at_different_times_are_formed_again() {
    let bed = Bed::new().await;
    bed.start(&bed.test.clickhouse).await.crash().await;
    sqlx::query(
        "INSERT INTO tombstones (number, sha256, kind, erasure_id)
         SELECT number, tombstone_hash(id), 'child', gen_random_uuid()
         FROM (VALUES (5, $1::uuid), (9, gen_random_uuid())) AS erased (number, id)",
    )
    .bind(badge("any").child_id.uuid())
    .execute(&bed.test.pool)
    .await
    .unwrap();
    let session = Record {
        session_id: Some(child(3).uuid()),
        child_id: child(2),
        ..record(Data::Session(Session {
            action: SessionAction::Start,
            active_ms: 1,
            kind: None,
            device_type: None,
        }))
    };
    for number in [1, 4, 6, 9] {
        let partition = number % 2;
        let event = match number {
            1 | 4 => badge("event"),
            _ => session.clone(),
        };
        bed.send_bytes(event.event_type, partition, &payload(&event))
            .await;
        sqlx::query(
            "UPDATE kafka_positions SET pending_end = next_offset + 1, pending_tombstone = $3, pending_revocation = $3
             WHERE consumer = 'history' AND topic = $1 AND partition = $2",
        )
        .bind(bed.test.cluster.topic(event.event_type))
        .bind(partition)
        .bind(i64::from(number))
        .execute(&bed.test.pool)
        .await
        .unwrap();
    }
    sqlx::query("UPDATE revocation_state SET number = 9")
        .execute(&bed.test.pool)
        .await
        .unwrap();
    let _sink = bed.start(&bed.test.clickhouse).await;
    // The child of the badges was erased by number 5, after both of its ranges were begun.
    bed.until_rows(4).await;
    until("all ranges to be finished", || async {
        let pending = "SELECT count(*) FROM kafka_positions WHERE pending_end IS NOT NULL";
        let pending = sqlx::query_scalar::<_, i64>(pending);
        pending.fetch_one(&bed.test.pool).await.unwrap() == 0
    })
    .await;
}
