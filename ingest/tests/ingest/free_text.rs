//! Personal data in free text: what the answer says of it, and that it is in no record.

use rivulet_events::free_text::Policy;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, config, outcomes, stored};

const ADDRESS: &str = "anna.planted@example.org";
const PHONE: &str = "+39 333 765 4321";

/// An event of each type, with an address in every place where an app may write what it likes.
fn planted(child: Uuid) -> Vec<Value> {
    let event = |kind: &str, data: Value| {
        json!({
            "id": Uuid::now_v7(), "type": kind, "child_id": child, "session_id": Uuid::new_v4(),
            "occurred_at": chrono::Utc::now().to_rfc3339(),
            "device": {"id": ADDRESS, "app_version": format!("1 {ADDRESS}")},
            "attributes": {"note": format!("call {PHONE}"), "userEmail": "Planted", ADDRESS: true},
            "data": data,
        })
    };
    vec![
        event(
            "interaction",
            json!({"action": "view", "subject": ADDRESS, "topic": ADDRESS, "badge": ADDRESS}),
        ),
        event(
            "message",
            json!({
                "conversation_id": Uuid::new_v4(), "sequence": 1, "role": "user", "topic": ADDRESS, "filter_reason": ADDRESS,
                "content": ADDRESS,
            }),
        ),
        event(
            "speech",
            json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1, "model_version": ADDRESS}),
        ),
        event("session", json!({"action": "start"})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_is_in_no_record() {
    let server = Server::start().await;
    let events = planted(server.child);
    let answer = server.send(&events).await;
    assert_eq!(answer["accepted"], 4, "{answer}");
    let everywhere = [
        "masked_email:device.id",
        "masked_email:device.app_version",
        "masked_email:attributes.[email]",
        "masked_phone:attributes.note",
        "masked_field:attributes.userEmail",
    ];
    let of_type: [&[&str]; 4] = [
        &[
            "masked_email:data.subject",
            "masked_email:data.topic",
            "masked_email:data.badge",
        ],
        &["masked_email:data.topic", "masked_email:data.filter_reason"],
        &["masked_email:data.model_version"],
        &[],
    ];
    for (result, of_type) in answer["results"].as_array().unwrap().iter().zip(of_type) {
        let warnings = [&everywhere[..], of_type].concat();
        assert_eq!(result["warnings"], json!(warnings));
    }
    assert!(!answer.to_string().contains("planted"), "{answer}");

    // A copy is masked alike, and has the same identity.
    server.send(&events).await;
    let records: Vec<_> = stored(&server.cluster)
        .iter()
        .map(|record| {
            let text = String::from_utf8(record.payload.clone())
                .unwrap()
                .to_lowercase();
            assert!(
                !text.contains("planted") && !text.contains("765 4321"),
                "{text}"
            );
            record.json()
        })
        .collect();
    assert_eq!(records.len(), 8);
    for record in &records {
        let attributes = json!({"note": "call [phone]", "userEmail": "[masked]", "[email]": true});
        assert_eq!(record["attributes"], attributes);
        assert_eq!(
            record["device"],
            json!({"id": "[email]", "app_version": "1 [email]"})
        );
        let copies = records.iter().filter(|other| {
            [
                "type",
                "child_id",
                "id",
                "occurred_at",
                "device",
                "attributes",
                "data",
            ]
            .iter()
            .all(|field| other[*field] == record[*field])
        });
        assert_eq!(copies.count(), 2);
    }
    let url = server.url("/metrics");
    let metrics = server.client.get(url).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for (reason, least) in [("email", 36), ("phone", 8), ("field", 8)] {
        let name =
            format!(r#"rivulet_ingest_personal_data_total{{reason="{reason}",policy="mask"}} "#);
        let counted = metrics.lines().find_map(|line| line.strip_prefix(&name));
        let counted: u64 = counted
            .unwrap_or_else(|| panic!("no {name}"))
            .parse()
            .unwrap();
        assert!(counted >= least, "{name}{counted}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_refuse_or_allow_it() {
    for (policy, accepted) in [(Policy::Refuse, 0), (Policy::Allow, 4)] {
        let server = Server::with(rivulet_ingest::Config {
            personal_data: policy,
            ..config()
        })
        .await;
        let answer = server.send(&planted(server.child)).await;
        assert_eq!(answer["accepted"], accepted, "{answer}");
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["warnings"], Value::Null);
            if policy == Policy::Refuse {
                assert_eq!(result["code"], "invalid_field");
                assert_eq!(result["pointer"], "/device/id");
            }
        }
        assert!(!answer.to_string().contains("planted"), "{answer}");
        // The rest of a batch is taken.
        let answer = server.send(&[server.event()]).await;
        assert_eq!(outcomes(&answer), ["accepted"]);
        assert_eq!(stored(&server.cluster).len(), accepted + 1);
        server.stop().await.unwrap();
    }
}
