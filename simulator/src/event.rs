//! From a step of a session to the JSON of an event, whole or with a flaw.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rivulet_zones::Zone;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    family::{Child, Device, pick, random_id},
    script::Step,
};

/// An event as it will be sent, every time the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its JSON.
    pub json: Arc<str>,
    /// The code that it must be refused with, where it was broken on purpose.
    pub flaw: Option<&'static str>,
}

/// Where and when a step happens.
pub(crate) struct Scene<'a> {
    pub(crate) zone: Zone,
    pub(crate) child: &'a Child,
    pub(crate) device: &'a Device,
    pub(crate) session_id: Uuid,
    /// The true time, Unix milliseconds.
    pub(crate) at_ms: i64,
}

/// The event of one step.
pub(crate) fn compose(rng: &mut ChaCha8Rng, scene: &Scene<'_>, step: &Step) -> Planned {
    Planned {
        json: value(rng, scene, step).to_string().into(),
        flaw: None,
    }
}

/// The event of one step, broken in one of the ways that docs/contract.md, "Codes of a rejected event", lists.
pub(crate) fn compose_broken(rng: &mut ChaCha8Rng, scene: &Scene<'_>, step: &Step) -> Planned {
    let mut event = value(rng, scene, step);
    let flaw = match rng.random_range(0..12) {
        0 | 1 => {
            event["occurred_at"] = Value::Null;
            "missing_field"
        }
        2 | 3 => {
            event["type"] = json!("interaction");
            event["data"] = json!({"action": "rate", "rating": 9});
            "invalid_field"
        }
        4 | 5 => {
            event["type"] = json!("telepathy");
            "unknown_type"
        }
        6 | 7 => {
            event["attributes"] = json!({"audio_base64": "UklGRiQAAABXQVZF"});
            "raw_audio_forbidden"
        }
        8 | 9 => {
            event = json!(["not", "an", "object"]);
            "invalid_json"
        }
        10 => {
            event["attributes"] = json!({"note": "x".repeat(66_000)});
            "too_large"
        }
        _ => {
            event["id"] = json!("not-a-uuid");
            "invalid_field"
        }
    };
    Planned {
        json: event.to_string().into(),
        flaw: Some(flaw),
    }
}

fn value(rng: &mut ChaCha8Rng, scene: &Scene<'_>, step: &Step) -> Value {
    let device = scene.device;
    let occurred_at = scene.at_ms + device.clock_off_ms;
    let id = if device.ids_by_time {
        let mut random = [0; 10];
        rng.fill_bytes(&mut random);
        let millis = u64::try_from(occurred_at).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    } else {
        random_id(rng)
    };
    let time = DateTime::from_timestamp_millis(occurred_at).unwrap_or_default();
    // Both spellings of a time.
    let occurred_at = if device.ids_by_time {
        time.to_rfc3339_opts(SecondsFormat::Millis, true)
    } else {
        time.with_timezone(&scene.zone)
            .to_rfc3339_opts(SecondsFormat::Millis, false)
    };
    let mut event = json!({
        "id": id, "type": step.kind, "child_id": scene.child.id, "occurred_at": occurred_at,
        "device": {
            "id": device.id, "platform": device.platform, "app_version": device.app_version,
        },
        "data": step.data,
    });
    if step.kind == "session" || rng.random_bool(0.9) {
        event["session_id"] = json!(scene.session_id);
    }
    if rng.random_bool(0.15) {
        event["attributes"] = json!({
            "screen": pick(rng, &["home", "lesson", "garden"]),
            "battery": f64::from(rng.random_range(1..100)) / 100.0,
            "level": rng.random_range(1..30), "offline": rng.random_bool(0.2),
        });
    }
    event
}
