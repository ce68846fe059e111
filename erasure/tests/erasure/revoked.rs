//! What was stored on a consent that is withdrawn goes from the history, and only that.

use rivulet_auditlog::{Filter, list};
use rivulet_erasure::{clean_restored, erase_withdrawn, work};
use rivulet_events::EventType;
use uuid::Uuid;

use crate::bed::Bed;

/// Types of events of the children that the history has, with their days.
async fn history(bed: &Bed, children: &[Uuid]) -> Vec<String> {
    let mut left = Vec::new();
    for (number, child) in children.iter().enumerate() {
        let query = format!(
            "SELECT concat(event_type, ' ', attributes['at']) AS event FROM history WHERE child_id = '{child}'
             UNION ALL SELECT concat('day of ', toString(events), ' with ', toString(speech_windows)) FROM child_days
             WHERE child_id = '{child}'"
        );
        let mut rows: Vec<String> = bed
            .stores
            .clickhouse
            .query(&query)
            .fetch_all()
            .await
            .unwrap();
        rows.sort_unstable();
        left.extend(rows.into_iter().map(|row| format!("{number}: {row}")));
    }
    left
}

/// A child with a session and a speech event, received long ago and in an hour, and its day as it was counted then.
async fn child(bed: &Bed, consents: &str) -> Uuid {
    let id = Uuid::new_v4();
    for statement in [
        "INSERT INTO parents (id, timezone, coppa, audio, analytics) VALUES ($1, 'UTC', true, true, true)",
        "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $1, 'wonder_cubs')",
    ] {
        let query = sqlx::query(statement).bind(id);
        query.execute(bed.pool()).await.unwrap();
    }
    sqlx::query(
        "INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record)
         SELECT 'history', topic, 0, 7, 'c/' || $1, 'malformed_record', 'cut off', convert_to($1::text, 'UTF8')
         FROM unnest($2::text[]) AS topic",
    )
    .bind(id)
    .bind(topics(bed).to_vec())
    .execute(bed.pool())
    .await
    .unwrap();
    put_back(bed, id).await;
    for consent in consents.split_terminator(' ') {
        set(bed, id, consent, false).await;
    }
    id
}

/// Of speech and of sessions.
fn topics(bed: &Bed) -> [String; 2] {
    [EventType::Speech, EventType::Session].map(|kind| bed.stores.cluster.topic(kind))
}

async fn put_back(bed: &Bed, child: Uuid) {
    for statement in [
        format!(
            "INSERT INTO events (event_id, event_type, id_day, child_id, parent_id, local_date, received_at, event_time,
                 window_ms, attributes)
             SELECT generateUUIDv4(), type, today(), '{child}', '{child}', today(), at, at, 1000,
                 map('at', if(at > now(), 'later', 'before'))
             FROM (SELECT arrayJoin(['session', 'speech']) AS type) AS types,
                  (SELECT arrayJoin([now() - 60, now() + 3600]) AS at) AS times"
        ),
        format!(
            "INSERT INTO child_day_rollup SELECT *, now64(6, 'UTC') AS recounted_at
             FROM child_days_recounted(since = '2000-01-01') WHERE child_id = '{child}'"
        ),
    ] {
        bed.stores
            .clickhouse
            .query_raw(&statement)
            .execute()
            .await
            .unwrap();
    }
}

async fn set(bed: &Bed, child: Uuid, consent: &str, granted: bool) {
    let update = format!("UPDATE parents SET {consent} = $2 WHERE id = $1");
    sqlx::query(sqlx::AssertSqlSafe(update))
        .bind(child)
        .bind(granted)
        .execute(bed.pool())
        .await
        .unwrap();
}

async fn quarantined(bed: &Bed) -> Vec<String> {
    sqlx::query_scalar("SELECT convert_from(record, 'UTF8') || ' ' || topic FROM quarantine")
        .fetch_all(bed.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_consent_takes_what_was_stored_on_it() {
    let bed = Bed::new().await;
    let mut children = Vec::new();
    for consents in ["coppa", "audio", "analytics", "", "audio analytics"] {
        children.push(child(&bed, consents).await);
    }
    assert!(erase_withdrawn(&bed.stores, true).await.unwrap());
    let left = [
        "1: day of 2 with 0",
        "1: session before",
        "1: session later",
        "3: day of 4 with 2",
        "3: session before",
        "3: session later",
        "3: speech before",
        "3: speech later",
    ];
    assert_eq!(history(&bed, &children).await, left);
    let [speech, session] = topics(&bed);
    let mut in_quarantine = vec![
        format!("{} {session}", children[1]),
        format!("{} {session}", children[3]),
        format!("{} {speech}", children[3]),
    ];
    in_quarantine.sort();
    let mut found = quarantined(&bed).await;
    found.sort();
    assert_eq!(found, in_quarantine);
    let told = list(bed.pool(), &Filter::default(), 100).await.unwrap();
    let told: Vec<_> = told
        .iter()
        .filter(|entry| entry.action == "consent.erased")
        .map(|entry| (&*entry.details, entry.subjects.len()))
        .collect();
    let [coppa, audio, analytics] =
        ["coppa", "audio", "analytics"].map(|consent| format!(r#"{{"consent":"{consent}"}}"#));
    assert_eq!(told, [(&*analytics, 2), (&*audio, 2), (&*coppa, 1)]);

    // A ClickHouse that is put back has them again, and loses them again, also the child of a consent that was given again.
    set(&bed, children[2], "analytics", true).await;
    for child in &children[..3] {
        bed.stores
            .clickhouse
            .query_raw(&format!(
                "ALTER TABLE events DELETE WHERE child_id = '{child}' SETTINGS mutations_sync = 1"
            ))
            .execute()
            .await
            .unwrap();
        put_back(&bed, *child).await;
    }
    bed.stores
        .clickhouse
        .query_raw("TRUNCATE TABLE erased_to")
        .execute()
        .await
        .unwrap();
    assert!(clean_restored(&bed.stores).await.unwrap());
    let again = history(&bed, &children).await;
    let given_again = ["2: day of 2 with 1", "2: session later", "2: speech later"];
    let expected = [&left[..3], &given_again, &left[3..]].concat();
    assert_eq!(again, expected);
    // Noted: nothing is looked for twice.
    put_back(&bed, children[0]).await;
    assert!(clean_restored(&bed.stores).await.unwrap());
    assert!(history(&bed, &children).await.len() > expected.len());
}

/// The ClickHouse that was put back is not looked at before the next withdrawal is done: that must not hide what it has again.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_withdrawal_hides_none_that_was_put_back() {
    let bed = Bed::new().await;
    let first = child(&bed, "analytics").await;
    assert!(erase_withdrawn(&bed.stores, true).await.unwrap());
    put_back(&bed, first).await;
    let empty = bed.stores.clickhouse.query_raw("TRUNCATE TABLE erased_to");
    empty.execute().await.unwrap();
    let second = child(&bed, "analytics").await;
    assert!(erase_withdrawn(&bed.stores, true).await.unwrap());
    assert!(clean_restored(&bed.stores).await.unwrap());
    assert_eq!(history(&bed, &[first, second]).await, [""; 0]);
}

/// The sink has a block on its way that was formed before.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_blocks_that_were_formed_before() {
    let bed = Bed::new().await;
    let children = [child(&bed, "analytics").await];
    sqlx::query(
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset, pending_end,
             pending_tombstone, pending_revocation)
         VALUES ('history', 't', 3, 'c/t', 0, 5, 0, 1)",
    )
    .execute(bed.pool())
    .await
    .unwrap();
    let before = history(&bed, &children).await;
    assert!(erase_withdrawn(&bed.stores, true).await.unwrap());
    assert_eq!(history(&bed, &children).await, before);
    // Formed with it: it may be on its way.
    sqlx::query(
        "UPDATE kafka_positions SET pending_revocation = (SELECT number FROM revocation_state)",
    )
    .execute(bed.pool())
    .await
    .unwrap();
    assert!(erase_withdrawn(&bed.stores, true).await.unwrap());
    assert_eq!(history(&bed, &children).await, [""; 0]);
    assert!(work(&bed.stores).await.unwrap());
}
