//! One event's JSON to an [`Event`], or the first reason of the contract's order why not.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{
    data::{
        Data, DeviceType, EventType, Interaction, InteractionAction, Message, Platform, Role,
        Session, SessionAction, SessionKind, Speech,
    },
    fields::{Field, slots},
    ids::ChildId,
    record::{AttributeValue, Device},
    rejection::{Code, Rejection},
    scan::{Object, Pairs, Scanned, Value, pointer, scan},
};

/// The longest `id` that is repeated in the answer of an event whose `id` is no UUID.
const ECHOED_ID_BYTES: usize = 64;

/// A valid event, not yet admitted, placed in time or given its day.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// The client's idempotency key.
    pub id: Uuid,
    /// The child.
    pub child_id: ChildId,
    /// The device's clock, as sent: Unix milliseconds.
    pub occurred_at: i64,
    /// The app session.
    pub session_id: Option<Uuid>,
    /// The device.
    pub device: Option<Device<'a>>,
    /// For BI only, in the order sent.
    pub attributes: Vec<(Cow<'a, str>, AttributeValue<'a>)>,
    /// What happened.
    pub data: Data<'a>,
}

impl Event<'_> {
    /// The event's type.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        self.data.event_type()
    }
}

/// What became of one element of a request.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// `id` as it was sent, to name the event in the answer.
    pub id: Option<Cow<'a, str>>,
    /// What was dropped from it (`unknown_field:…`).
    pub warnings: Vec<String>,
    /// The event, or why it will never be taken.
    pub outcome: Result<Event<'a>, Rejection>,
}

/// Reads one event. `max_bytes` bounds its JSON as sent.
#[must_use]
pub fn event(json: &str, max_bytes: usize) -> Parsed<'_> {
    if json.len() > max_bytes {
        let message = format!("the event's JSON is longer than {max_bytes} bytes; split it");
        return refused(None, Rejection::whole(Code::TooLarge, message));
    }
    let mut found = match scan(json) {
        Ok(found) => found,
        Err(error) => return refused(None, Rejection::whole(Code::InvalidJson, explain(&error))),
    };
    let id = match &found.id {
        Some(Value::Text(id)) if id.len() <= ECHOED_ID_BYTES => Some(id.clone()),
        _ => None,
    };
    if let Some(at) = found.audio.take() {
        let message = "raw audio is never accepted; send metrics computed on the device";
        return refused(id, Rejection::at(Code::RawAudioForbidden, at, message));
    }
    let outcome = build(&mut found);
    Parsed {
        id,
        warnings: found.warnings,
        outcome,
    }
}

fn refused(id: Option<Cow<'_, str>>, rejection: Rejection) -> Parsed<'_> {
    Parsed {
        id,
        warnings: Vec::new(),
        outcome: Err(rejection),
    }
}

/// The parser's words, unless they would quote the event.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid type") {
        "an event must be a JSON object".to_owned()
    } else {
        format!("not a readable event: {text}")
    }
}

const fn top<'s, 'a>(name: &'s str, value: Option<Value<'a>>) -> Field<'s, 'a> {
    Field {
        object: "",
        name,
        value,
    }
}

fn build<'a>(found: &mut Scanned<'a>) -> Result<Event<'a>, Rejection> {
    let mut id = top("id", found.id.take());
    let kind = top("type", found.kind.take());
    let mut child_id = top("child_id", found.child_id.take());
    let mut occurred_at = top("occurred_at", found.occurred_at.take());
    let mut session_id = top("session_id", found.session_id.take());
    let data_field = top("data", None);

    let event_type = match &kind.value {
        Some(Value::Text(word)) => Some(EventType::from_word(word.trim()).ok_or_else(|| {
            Rejection::at(
                Code::UnknownType,
                "/type",
                "must be one of interaction, message, speech, session",
            )
        })?),
        _ => None,
    };

    let data = std::mem::take(&mut found.data);
    for field in [&id, &kind, &child_id, &occurred_at] {
        if field.value.is_none() {
            return Err(field.missing());
        }
    }
    if event_type == Some(EventType::Session) && session_id.value.is_none() {
        return Err(session_id.missing());
    }
    let data = match data {
        Object::Absent => return Err(data_field.missing()),
        Object::Other => None,
        Object::Fields(pairs) => event_type.map(|kind| Slots::new(kind, pairs, found)),
    };
    if let Some(missing) = data.as_ref().and_then(Slots::first_missing) {
        return Err(missing);
    }

    // From here on every required field is there, and the first invalid one is told.
    let id = id.uuid(true).and_then(|value| id.required(value))?;
    let Some(_) = event_type else {
        return Err(kind.invalid("must be a string"));
    };
    let child_id = child_id
        .uuid(true)
        .and_then(|value| child_id.required(value))?;
    let occurred_at = occurred_at
        .time()
        .and_then(|value| occurred_at.required(value))?;
    let session_id = session_id.uuid(event_type == Some(EventType::Session))?;
    let device = device(found)?;
    let attributes = attributes(found)?;
    let data = data
        .ok_or_else(|| data_field.invalid("must be an object"))?
        .read()?;
    Ok(Event {
        id,
        child_id: ChildId::new(child_id),
        occurred_at,
        session_id,
        device,
        attributes,
        data,
    })
}

fn device<'a>(found: &mut Scanned<'a>) -> Result<Option<Device<'a>>, Rejection> {
    let pairs = match std::mem::take(&mut found.device) {
        Object::Absent => return Ok(None),
        Object::Other => return Err(top("device", None).invalid("must be an object")),
        Object::Fields(pairs) => pairs,
    };
    const NAMES: [&str; 3] = ["id", "platform", "app_version"];
    let slots = slots(pairs, &NAMES, |key| found.warn_unknown("device", key));
    let [mut id, mut platform, mut app_version] = fields("device", NAMES, slots);
    Ok(Some(Device {
        id: id.text(64)?,
        platform: platform.word(Platform::from_word, Platform::ALL, Platform::as_str, false)?,
        app_version: app_version.text(32)?,
    }))
}

fn attributes<'a>(
    found: &mut Scanned<'a>,
) -> Result<Vec<(Cow<'a, str>, AttributeValue<'a>)>, Rejection> {
    const MAX: usize = 16;
    let pairs = match std::mem::take(&mut found.attributes) {
        Object::Absent => return Ok(Vec::new()),
        Object::Other => return Err(top("attributes", None).invalid("must be an object")),
        Object::Fields(pairs) => pairs,
    };
    let present = pairs
        .iter()
        .filter(|(_, value)| !matches!(value, Value::Null))
        .count();
    if present > MAX {
        return Err(top("attributes", None).invalid(format!("must have at most {MAX} keys")));
    }
    let mut kept = Vec::with_capacity(present);
    for (key, value) in pairs {
        let invalid = |rule: &'static str| {
            let echoed: String = key.chars().take(ECHOED_ID_BYTES).collect();
            Rejection::at(Code::InvalidField, pointer(&["attributes", &echoed]), rule)
        };
        if key.chars().count() > 64 || key.contains('\0') {
            return Err(invalid(
                "an attribute's key must be at most 64 characters, without NUL",
            ));
        }
        let value = match value {
            Value::Null => continue,
            Value::Bool(value) => AttributeValue::Bool(value),
            Value::Int(value) => AttributeValue::Int(value),
            #[expect(
                clippy::cast_precision_loss,
                reason = "JSON numbers this large are doubles"
            )]
            Value::Large(value) => AttributeValue::Float(value as f64),
            Value::Float(value) => AttributeValue::Float(value),
            Value::Text(text) => {
                let mut field = Field {
                    object: "attributes",
                    name: &key,
                    value: Some(Value::Text(text)),
                };
                match field.text(256)? {
                    Some(text) => AttributeValue::Text(text),
                    None => continue,
                }
            }
            Value::Container => {
                return Err(invalid(
                    "an attribute must be a string, a number or a boolean",
                ));
            }
        };
        kept.push((key, value));
    }
    Ok(kept)
}

fn fields<'a, const N: usize>(
    object: &'static str,
    names: [&'static str; N],
    slots: [Option<Value<'a>>; N],
) -> [Field<'static, 'a>; N] {
    let mut values = slots.into_iter();
    names.map(|name| Field {
        object,
        name,
        value: values.next().flatten(),
    })
}

const INTERACTION: [&str; 13] = [
    "action",
    "activity_id",
    "subject",
    "topic",
    "is_correct",
    "response_time_ms",
    "duration_ms",
    "confidence",
    "difficulty",
    "rating",
    "xp",
    "stars",
    "badge",
];
const MESSAGE: [&str; 14] = [
    "conversation_id",
    "sequence",
    "role",
    "topic",
    "content",
    "is_question",
    "is_free_form",
    "aha_moment",
    "was_filtered",
    "selected_choice",
    "depth_level",
    "tokens_used",
    "processing_time_ms",
    "filter_reason",
];
const SPEECH: [&str; 12] = [
    "audio_session_id",
    "window_ms",
    "child_words",
    "adult_words",
    "child_vocalizations",
    "conversational_turns",
    "utterances",
    "unique_words",
    "new_words",
    "snr_db",
    "language",
    "model_version",
];
const SESSION: [&str; 4] = ["action", "active_ms", "kind", "device_type"];

/// `data`, its fields in the order of the contract's table.
enum Slots<'a> {
    Interaction([Field<'static, 'a>; 13]),
    Message([Field<'static, 'a>; 14]),
    Speech([Field<'static, 'a>; 12]),
    Session([Field<'static, 'a>; 4]),
}

impl<'a> Slots<'a> {
    fn new(kind: EventType, pairs: Pairs<'a>, found: &mut Scanned<'a>) -> Self {
        let unknown = |key: &str| found.warn_unknown("data", key);
        match kind {
            EventType::Interaction => Self::Interaction(fields(
                "data",
                INTERACTION,
                slots(pairs, &INTERACTION, unknown),
            )),
            EventType::Message => {
                Self::Message(fields("data", MESSAGE, slots(pairs, &MESSAGE, unknown)))
            }
            EventType::Speech => {
                Self::Speech(fields("data", SPEECH, slots(pairs, &SPEECH, unknown)))
            }
            EventType::Session => {
                Self::Session(fields("data", SESSION, slots(pairs, &SESSION, unknown)))
            }
        }
    }

    fn first_missing(&self) -> Option<Rejection> {
        let absent = |field: &&Field<'_, '_>| field.value.is_none();
        let missing = match self {
            Self::Interaction([action, _, _, _, is_correct, _, _, _, _, rating, ..]) => {
                let did = |word: &str| matches!(&action.value, Some(Value::Text(text)) if text.trim() == word);
                [
                    Some(action),
                    did("answer").then_some(is_correct),
                    did("rate").then_some(rating),
                ]
                .into_iter()
                .flatten()
                .find(absent)
            }
            Self::Message([conversation_id, sequence, role, ..]) => {
                [conversation_id, sequence, role].into_iter().find(absent)
            }
            Self::Speech([audio_session_id, window_ms, ..]) => {
                [audio_session_id, window_ms].into_iter().find(absent)
            }
            Self::Session([action, ..]) => [action].into_iter().find(absent),
        };
        missing.map(Field::missing)
    }

    fn read(self) -> Result<Data<'a>, Rejection> {
        match self {
            Self::Interaction(fields) => interaction(fields).map(Data::Interaction),
            Self::Message(fields) => message(fields).map(Data::Message),
            Self::Speech(fields) => speech(fields).map(Data::Speech),
            Self::Session(fields) => session(fields).map(Data::Session),
        }
    }
}

fn interaction<'a>(fields: [Field<'_, 'a>; 13]) -> Result<Interaction<'a>, Rejection> {
    let [
        mut action,
        mut activity_id,
        mut subject,
        mut topic,
        mut is_correct,
        mut response_time_ms,
        mut duration_ms,
        mut confidence,
        mut difficulty,
        mut rating,
        mut xp,
        mut stars,
        mut badge,
    ] = fields;
    let done = action
        .word(
            InteractionAction::from_word,
            InteractionAction::ALL,
            InteractionAction::as_str,
            true,
        )
        .and_then(|value| action.required(value))?;
    Ok(Interaction {
        action: done,
        activity_id: activity_id.uuid(false)?,
        subject: subject.text(100)?,
        topic: topic.text(100)?,
        is_correct: if done == InteractionAction::Answer {
            is_correct.boolean()?
        } else {
            None
        },
        response_time_ms: response_time_ms.int(0, 3_600_000)?,
        duration_ms: duration_ms.int(0, 14_400_000)?,
        confidence: confidence.number(0.0, 1.0)?,
        difficulty: difficulty.int(1, 5)?,
        rating: rating.int(1, 5)?,
        xp: xp.int(0, 10_000)?,
        stars: stars.int(0, 10_000)?,
        badge: badge.text(100)?,
    })
}

fn message<'a>(fields: [Field<'_, 'a>; 14]) -> Result<Message<'a>, Rejection> {
    let [
        mut conversation_id,
        mut sequence,
        mut role,
        mut topic,
        mut content,
        mut is_question,
        mut is_free_form,
        mut aha_moment,
        mut was_filtered,
        mut selected_choice,
        mut depth_level,
        mut tokens_used,
        mut processing_time_ms,
        mut filter_reason,
    ] = fields;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let conversation = conversation_id
        .uuid(true)
        .and_then(|v| conversation_id.required(v))?;
    let sequence = sequence
        .int(1, i64::MAX)
        .and_then(|v| sequence.required(v))?;
    let role = role
        .word(Role::from_word, Role::ALL, Role::as_str, true)
        .and_then(|v| role.required(v))?;
    let topic = topic.text(100)?;
    // The text is measured here and goes no further.
    let content = content.text_bytes(8_192)?;
    Ok(Message {
        conversation_id: conversation,
        sequence,
        role,
        topic,
        chars: content.as_ref().map(|text| count(text.chars().count())),
        words: content
            .as_ref()
            .map(|text| count(text.split_whitespace().count())),
        is_question: is_question.boolean()?.unwrap_or(false),
        is_free_form: is_free_form.boolean()?.unwrap_or(false),
        aha_moment: aha_moment.boolean()?.unwrap_or(false),
        was_filtered: was_filtered.boolean()?.unwrap_or(false),
        selected_choice: selected_choice.int(0, 255)?,
        depth_level: depth_level.int(0, 100)?,
        tokens_used: tokens_used.int(0, 10_000_000)?,
        processing_time_ms: processing_time_ms.int(0, 10_000_000)?,
        filter_reason: filter_reason.text(100)?,
    })
}

fn speech<'a>(fields: [Field<'_, 'a>; 12]) -> Result<Speech<'a>, Rejection> {
    let [
        mut audio_session_id,
        mut window_ms,
        mut child_words,
        mut adult_words,
        mut child_vocalizations,
        mut conversational_turns,
        mut utterances,
        mut unique_words,
        mut new_words,
        mut snr_db,
        mut language,
        mut model_version,
    ] = fields;
    let audio_session = audio_session_id
        .uuid(true)
        .and_then(|v| audio_session_id.required(v))?;
    let window_ms = window_ms
        .int(1, 3_600_000)
        .and_then(|v| window_ms.required(v))?;
    let count = |field: &mut Field<'_, 'a>| Ok(field.int(0, 100_000)?.unwrap_or(0));
    Ok(Speech {
        audio_session_id: audio_session,
        window_ms,
        child_words: count(&mut child_words)?,
        adult_words: count(&mut adult_words)?,
        child_vocalizations: count(&mut child_vocalizations)?,
        conversational_turns: count(&mut conversational_turns)?,
        utterances: count(&mut utterances)?,
        unique_words: count(&mut unique_words)?,
        new_words: count(&mut new_words)?,
        snr_db: snr_db.number(-100.0, 200.0)?,
        language: match language.text(35)? {
            Some(tag) if !is_language_tag(&tag) => {
                return Err(language.invalid("must be a BCP 47 language tag, such as pt-BR"));
            }
            tag => tag,
        },
        model_version: model_version.text(64)?,
    })
}

fn session(fields: [Field<'_, '_>; 4]) -> Result<Session, Rejection> {
    let [mut action, mut active_ms, mut kind, mut device_type] = fields;
    Ok(Session {
        action: action
            .word(
                SessionAction::from_word,
                SessionAction::ALL,
                SessionAction::as_str,
                true,
            )
            .and_then(|v| action.required(v))?,
        active_ms: active_ms.int(0, 600_000)?.unwrap_or(0),
        kind: kind.word(
            SessionKind::from_word,
            SessionKind::ALL,
            SessionKind::as_str,
            false,
        )?,
        device_type: device_type.word(
            DeviceType::from_word,
            DeviceType::ALL,
            DeviceType::as_str,
            false,
        )?,
    })
}

/// Well-formed by the shape of BCP 47: subtags of 1 to 8 letters or digits, the first of letters.
fn is_language_tag(tag: &str) -> bool {
    tag.split('-').enumerate().all(|(index, subtag)| {
        (1..=8).contains(&subtag.len())
            && subtag.bytes().all(|b| {
                if index == 0 {
                    b.is_ascii_alphabetic()
                } else {
                    b.is_ascii_alphanumeric()
                }
            })
    })
}
