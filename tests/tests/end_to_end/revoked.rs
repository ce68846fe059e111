//! A consent that is withdrawn: what is on its way is not stored, what was stored goes, and what is taken when it is given
//! again is all there.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};
use reqwest::{Method, StatusCode};
use rivulet_tests::{Rivulet, Role};
use serde_json::{Value, json};
use uuid::Uuid;

/// The three consents.
const CONSENTS: [&str; 3] = ["coppa", "audio", "analytics"];

struct World {
    rivulet: Rivulet,
    ingest: Role,
}

/// A family that withdraws one consent.
struct Family {
    parent: Uuid,
    child: Uuid,
    consent: &'static str,
}

impl World {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let key = match path {
            "/v1/events" => &self.rivulet.ingest_key,
            _ => &self.rivulet.admin_key,
        };
        let request = client
            .request(method, format!("http://{}{path}", self.ingest.address))
            .bearer_auth(key)
            .header("Content-Type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn put(&self, what: &str, id: Uuid, body: &Value) {
        let path = format!("/v1/admin/{what}/{id}");
        let (status, answer) = self.ask(Method::PUT, &path, body).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
    }

    async fn consent(&self, family: &Family, granted: bool) {
        let body = json!({"timezone": "Europe/Rome", "consents": {family.consent: granted}});
        self.put("parents", family.parent, &body).await;
    }

    async fn families(&self) -> Vec<Family> {
        let mut families = Vec::new();
        for consent in CONSENTS {
            let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
            let consents = json!({"coppa": true, "audio": true, "analytics": true});
            let body = json!({"timezone": "Europe/Rome", "consents": consents});
            self.put("parents", parent, &body).await;
            let body = json!({"parent_id": parent, "age_group": "wonder_cubs"});
            self.put("children", child, &body).await;
            families.push(Family {
                parent,
                child,
                consent,
            });
        }
        families
    }

    /// For each family an answer and a speech event. Returns how many were accepted.
    async fn post(&self, families: &[Family]) -> u64 {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let event = |child, data: Value, event_type| json!({"id": Uuid::new_v4(), "type": event_type, "child_id": child, "occurred_at": now, "data": data});
        let events: Vec<_> = families
            .iter()
            .flat_map(|Family { child, .. }| {
                let speech = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 60_000, "child_words": 5});
                let answer = json!({"action": "answer", "is_correct": true, "topic": "numbers"});
                [event(child, speech, "speech"), event(child, answer, "interaction")]
            })
            .collect();
        let (_, answer) = self
            .ask(Method::POST, "/v1/events", &json!({"events": events}))
            .await;
        answer["accepted"].as_u64().unwrap()
    }

    /// By consent: events of the rollup, of speech among them, withheld, qualifying; of the history; and active days.
    async fn stored(&self, families: &[Family]) -> BTreeMap<&'static str, [i64; 6]> {
        let mut stored = BTreeMap::new();
        for Family { child, consent, .. } in families {
            let rollup: Vec<i64> = sqlx::query_scalar(
                "SELECT ARRAY[coalesce(sum(events), 0), coalesce(sum(speech_windows), 0), coalesce(sum(withheld_events), 0),
                     coalesce(sum(qualifying_events), 0)]::bigint[] FROM daily_child_metrics WHERE child_id = $1",
            )
            .bind(child)
            .fetch_one(&self.rivulet.bed.pool)
            .await
            .unwrap();
            let streaks: i64 =
                sqlx::query_scalar("SELECT count(*) FROM streaks WHERE child_id = $1")
                    .bind(child)
                    .fetch_one(&self.rivulet.bed.pool)
                    .await
                    .unwrap();
            let history: u64 = self
                .rivulet
                .bed
                .clickhouse
                .query("SELECT count() FROM history WHERE child_id = toUUID(?)")
                .bind(child.to_string())
                .fetch_one()
                .await
                .unwrap();
            let [events, speech, withheld, qualifying] = rollup.try_into().unwrap();
            let row = [
                events,
                speech,
                withheld,
                qualifying,
                history.cast_signed(),
                streaks,
            ];
            stored.insert(*consent, row);
        }
        stored
    }

    /// Rivulet's own judgement of itself.
    async fn is_in_order(&self) -> String {
        self.rivulet.command(&["rebuild", "--all"]).await.unwrap();
        self.rivulet.command(&["verify"]).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_withdrawn_consent_was_for_is_nowhere_and_what_is_taken_again_is_there() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, mut aggregate, mut sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    let world = World { rivulet, ingest };
    let families = world.families().await;
    assert_eq!(world.post(&families).await, 6);
    world.rivulet.settle().await.unwrap();
    let all = [2, 1, 0, 2, 2, 1];
    assert_eq!(
        world.stored(&families).await,
        CONSENTS.map(|consent| (consent, all)).into()
    );

    // On its way when the consents are withdrawn, with nobody to read it yet.
    aggregate.kill().await.unwrap();
    sink.kill().await.unwrap();
    assert_eq!(world.post(&families).await, 6);
    for family in &families {
        world.consent(family, false).await;
    }
    for role in [&mut aggregate, &mut sink] {
        role.launch().unwrap();
        role.ready().await.unwrap();
    }
    world.rivulet.settle().await.unwrap();
    world.rivulet.withdrawals_are_done().await.unwrap();
    let withdrawn = BTreeMap::from([
        ("coppa", [0; 6]),
        ("audio", [2, 0, 0, 2, 2, 1]),
        ("analytics", [4, 2, 4, 4, 0, 1]),
    ]);
    assert_eq!(world.stored(&families).await, withdrawn);
    let verified = world.is_in_order().await;
    assert!(verified.contains("revoked"), "{verified}");
    // Refused from now on: all of one, speech of the other; and the third is withheld.
    assert_eq!(world.post(&families).await, 3);

    // Given again, at once: nothing of before comes back, and what is taken now is there.
    for family in &families {
        world.consent(family, true).await;
    }
    assert_eq!(world.post(&families).await, 6);
    world.rivulet.settle().await.unwrap();
    let again = BTreeMap::from([
        ("coppa", [2, 1, 0, 2, 2, 1]),
        ("audio", [5, 1, 0, 5, 5, 1]),
        ("analytics", [8, 4, 6, 8, 2, 1]),
    ]);
    assert_eq!(world.stored(&families).await, again);
    world.is_in_order().await;

    // Withdrawn and given again before the history is clean: what is taken between is not lost.
    sink.kill().await.unwrap();
    for granted in [false, true] {
        for family in &families {
            world.consent(family, granted).await;
        }
    }
    assert_eq!(world.post(&families).await, 6);
    sink.launch().unwrap();
    sink.ready().await.unwrap();
    world.rivulet.settle().await.unwrap();
    world.rivulet.withdrawals_are_done().await.unwrap();
    let once_more = BTreeMap::from([
        ("coppa", [2, 1, 0, 2, 2, 1]),
        ("audio", [6, 1, 0, 6, 6, 1]),
        ("analytics", [10, 5, 8, 10, 2, 1]),
    ]);
    assert_eq!(world.stored(&families).await, once_more);
    world.is_in_order().await;
}
