//! An event as one flat row of typed columns: what both baselines store.

use rivulet_events::{AttributeValue, ConsentVersion, Data, Record};
use serde::Serialize;
use uuid::Uuid;

/// The columns of the history's table `events`, in its order.
#[derive(Default, clickhouse::Row, Serialize)]
pub(crate) struct EventRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) event_id: Uuid,
    pub(crate) event_type: &'a str,
    /// Days since 1970.
    pub(crate) id_day: u16,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) child_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) parent_id: Uuid,
    pub(crate) age_group: &'a str,
    #[serde(with = "clickhouse::serde::uuid::option")]
    pub(crate) session_id: Option<Uuid>,
    /// Unix milliseconds, as every time here.
    pub(crate) occurred_at: i64,
    pub(crate) event_time: i64,
    pub(crate) received_at: i64,
    pub(crate) local_date: u16,
    pub(crate) device_id: Option<&'a str>,
    pub(crate) device_platform: Option<&'a str>,
    pub(crate) device_app_version: Option<&'a str>,
    pub(crate) interaction_action: Option<&'a str>,
    #[serde(with = "clickhouse::serde::uuid::option")]
    pub(crate) activity_id: Option<Uuid>,
    pub(crate) subject: Option<&'a str>,
    pub(crate) topic: Option<&'a str>,
    pub(crate) is_correct: Option<bool>,
    pub(crate) response_time_ms: Option<u32>,
    pub(crate) duration_ms: Option<u32>,
    pub(crate) confidence: Option<f64>,
    pub(crate) difficulty: Option<u8>,
    pub(crate) rating: Option<u8>,
    pub(crate) xp: Option<u16>,
    pub(crate) stars: Option<u16>,
    pub(crate) badge: Option<&'a str>,
    #[serde(with = "clickhouse::serde::uuid::option")]
    pub(crate) conversation_id: Option<Uuid>,
    pub(crate) sequence: Option<u64>,
    pub(crate) role: Option<&'a str>,
    pub(crate) chars: Option<u32>,
    pub(crate) words: Option<u32>,
    pub(crate) is_question: Option<bool>,
    pub(crate) is_free_form: Option<bool>,
    pub(crate) aha_moment: Option<bool>,
    pub(crate) was_filtered: Option<bool>,
    pub(crate) selected_choice: Option<u8>,
    pub(crate) depth_level: Option<u8>,
    pub(crate) tokens_used: Option<u32>,
    pub(crate) processing_time_ms: Option<u32>,
    pub(crate) filter_reason: Option<&'a str>,
    #[serde(with = "clickhouse::serde::uuid::option")]
    pub(crate) audio_session_id: Option<Uuid>,
    pub(crate) window_ms: Option<u32>,
    pub(crate) child_words: Option<u32>,
    pub(crate) adult_words: Option<u32>,
    pub(crate) child_vocalizations: Option<u32>,
    pub(crate) conversational_turns: Option<u32>,
    pub(crate) utterances: Option<u32>,
    pub(crate) unique_words: Option<u32>,
    pub(crate) new_words: Option<u32>,
    pub(crate) snr_db: Option<f64>,
    pub(crate) language: Option<&'a str>,
    pub(crate) model_version: Option<&'a str>,
    pub(crate) session_action: Option<&'a str>,
    pub(crate) active_ms: Option<u32>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) device_type: Option<&'a str>,
    pub(crate) attributes: Vec<(&'a str, String)>,
    pub(crate) kafka_topic: &'a str,
    pub(crate) kafka_partition: i32,
    pub(crate) kafka_offset: u64,
    pub(crate) topic_incarnation: &'a str,
    pub(crate) consent_version: Option<&'a str>,
}

/// Fills columns with the fields of the same names, given or not.
macro_rules! take {
    ($row:ident from $data:ident: $($field:ident)+; texts $($text:ident)*) => {
        $($row.$field = $data.$field.into();)+
        $($row.$text = $data.$text.as_deref();)*
    };
}

impl<'a> EventRow<'a> {
    /// The row of `record`, number `index` of the run.
    pub(crate) fn new(record: &'a Record<'a>, index: usize) -> Self {
        let device = record.device.as_ref();
        let mut row = Self {
            event_id: record.id,
            event_type: record.event_type.as_str(),
            id_day: day(record.identity().day),
            child_id: record.child_id.uuid(),
            parent_id: record.parent_id.uuid(),
            age_group: record.age_group.as_str(),
            session_id: record.session_id,
            occurred_at: record.occurred_at,
            event_time: record.event_time,
            received_at: record.received_at,
            local_date: day(record.local_date),
            device_id: device.and_then(|device| device.id.as_deref()),
            device_platform: device
                .and_then(|device| device.platform)
                .map(|word| word.as_str()),
            device_app_version: device.and_then(|device| device.app_version.as_deref()),
            attributes: record
                .attributes
                .iter()
                .map(|(key, value)| (&**key, text(value)))
                .collect(),
            kafka_topic: record.event_type.as_str(),
            kafka_partition: 0,
            kafka_offset: index as u64,
            topic_incarnation: "bench",
            consent_version: record.consent_version.as_ref().map(ConsentVersion::as_str),
            ..Self::default()
        };
        match &record.data {
            Data::Interaction(data) => {
                row.interaction_action = Some(data.action.as_str());
                take!(row from data: activity_id is_correct response_time_ms duration_ms confidence difficulty rating
                      xp stars; texts subject topic badge);
            }
            Data::Message(data) => {
                row.role = Some(data.role.as_str());
                take!(row from data: conversation_id sequence chars words is_question is_free_form aha_moment
                      was_filtered selected_choice depth_level tokens_used processing_time_ms;
                      texts topic filter_reason);
            }
            Data::Speech(data) => {
                take!(row from data: audio_session_id window_ms child_words adult_words child_vocalizations
                      conversational_turns utterances unique_words new_words snr_db; texts language model_version);
            }
            Data::Session(data) => {
                row.session_action = Some(data.action.as_str());
                row.kind = data.kind.map(|word| word.as_str());
                row.device_type = data.device_type.map(|word| word.as_str());
                take!(row from data: active_ms; texts);
            }
        }
        row
    }
}

fn day(date: chrono::NaiveDate) -> u16 {
    u16::try_from(date.to_epoch_days()).unwrap_or_default()
}

fn text(value: &AttributeValue<'_>) -> String {
    match value {
        AttributeValue::Bool(value) => value.to_string(),
        AttributeValue::Int(value) => value.to_string(),
        AttributeValue::Float(value) => value.to_string(),
        AttributeValue::Text(value) => value.to_string(),
    }
}
