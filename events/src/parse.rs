//! One event's JSON to an [`Event`], or the first reason why not, in the order of docs/contract.md, "Codes of a
//! rejected event".

use std::borrow::Cow;

use uuid::Uuid;

use crate::{
    bounds::{self, is_longer},
    contract::{self, Need},
    data::{Data, Device, EventType, Values, values},
    fields::{SentField, trim},
    free_text::{Counts, Guard, Policy},
    ids::ChildId,
    record::AttributeValue,
    rejection::{Code, Rejection},
    scan::{Object, Scanned, Value, pointer, scan},
};

/// The longest `id` that is repeated in the answer of an event whose `id` is no UUID.
const ECHOED_ID_BYTES: usize = 64;

/// A valid event, not yet checked against the registry, and without event time, local date and identity.
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
    /// Its JSON as it was sent; empty where it is no text.
    pub json: &'a str,
    /// `id` as it was sent, to name the event in the answer.
    pub id: Option<Cow<'a, str>>,
    /// What was dropped from it (`unknown_field:…`) and what was masked in it (`masked_email:…`).
    pub warnings: Vec<String>,
    /// Where it holds what looks like personal data.
    pub personal_data: Counts,
    /// Set if the event may be good although the parser did not read it, or not rightly. Then [`crate::repair`] and
    /// another reading may help.
    pub doubtful: bool,
    /// The event, or why it will never be taken.
    pub outcome: Result<Event<'a>, Rejection>,
}

/// What an event says of itself besides its content, as far as it can be read: it need not be a good one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The client's idempotency key.
    pub id: Option<Uuid>,
    /// Its type.
    pub event_type: Option<EventType>,
    /// The child.
    pub child_id: Option<ChildId>,
    /// The device's clock, as sent: Unix milliseconds.
    pub occurred_at: Option<i64>,
}

impl Parsed<'_> {
    /// Its envelope. That of a rejected event is read once more, for which `max_depth` is as in [`Limits`].
    #[must_use]
    pub fn envelope(&self, max_depth: u8) -> Envelope {
        match &self.outcome {
            Ok(event) => Envelope {
                id: Some(event.id),
                event_type: Some(event.event_type()),
                child_id: Some(event.child_id),
                occurred_at: Some(event.occurred_at),
            },
            Err(rejection) if rejection.code == Code::TooLarge => Envelope::default(),
            Err(_) => scan(self.json, max_depth).map_or_else(|_| Envelope::default(), Envelope::of),
        }
    }
}

impl Envelope {
    fn of(found: Scanned<'_>) -> Self {
        let uuid = |name, value| top(name, value).uuid(true).ok().flatten();
        Self {
            id: uuid("id", found.id),
            event_type: match &found.kind {
                Some(Value::Text(word)) => EventType::from_word(word.trim()),
                _ => None,
            },
            child_id: uuid("child_id", found.child_id).map(ChildId::new),
            occurred_at: top("occurred_at", found.occurred_at).time().ok().flatten(),
        }
    }
}

/// What one event's JSON may cost, and what its free text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its JSON as sent; longer is `too_large`.
    pub max_bytes: usize,
    /// Containers within containers, the event's own object being the first, 2..=100; deeper is
    /// `invalid_json`.
    pub max_depth: u8,
    /// What is done about personal data in free text.
    pub personal_data: Policy,
}

impl Default for Limits {
    /// 64 KiB and 32 levels; personal data is masked.
    fn default() -> Self {
        Self {
            max_bytes: 64 << 10,
            max_depth: 32,
            personal_data: Policy::Mask,
        }
    }
}

/// Reads one event.
#[must_use]
pub fn event(json: &str, limits: Limits) -> Parsed<'_> {
    let Limits {
        max_bytes,
        max_depth,
        personal_data,
    } = limits;
    if json.len() > max_bytes {
        let message = format!("the event's JSON is longer than {max_bytes} bytes; split it");
        return refused(json, None, Rejection::whole(Code::TooLarge, message));
    }
    let mut found = match scan(json, max_depth) {
        Ok(found) => found,
        Err(error) => {
            return Parsed {
                doubtful: true,
                ..refused(
                    json,
                    None,
                    Rejection::whole(Code::InvalidJson, explain(&error)),
                )
            };
        }
    };
    let id = match &found.id {
        Some(Value::Text(id)) if id.len() <= ECHOED_ID_BYTES => Some(id.clone()),
        _ => None,
    };
    if let Some(at) = found.audio.take() {
        let message = "raw audio is never accepted; send metrics computed on the device";
        return refused(
            json,
            id,
            Rejection::at(Code::RawAudioForbidden, at, message),
        );
    }
    let mut guard = Guard::new(personal_data);
    let outcome = build(&mut found, &mut guard);
    let mut warnings = found.warnings;
    warnings.append(&mut guard.warnings);
    Parsed {
        json,
        id,
        warnings,
        personal_data: guard.found,
        doubtful: found.minus_zero,
        outcome,
    }
}

fn refused<'a>(json: &'a str, id: Option<Cow<'a, str>>, rejection: Rejection) -> Parsed<'a> {
    Parsed {
        json,
        id,
        warnings: Vec::new(),
        personal_data: Counts::default(),
        doubtful: false,
        outcome: Err(rejection),
    }
}

/// The parser's message, unless it would quote the event.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid type") {
        "an event must be a JSON object".to_owned()
    } else {
        format!("not a readable event: {text}")
    }
}

const fn top<'s, 'a>(name: &'s str, value: Option<Value<'a>>) -> SentField<'s, 'a> {
    SentField {
        object: "",
        name,
        value,
    }
}

fn build<'a>(found: &mut Scanned<'a>, guard: &mut Guard) -> Result<Event<'a>, Rejection> {
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
        Object::Fields(pairs) => event_type.map(|kind| {
            let unknown = |key: &str| found.warn_unknown("data", key);
            (kind, values(kind.fields(), pairs, unknown))
        }),
    };
    if let Some((kind, values)) = &data {
        missing(kind.declaration().fields, values)?;
    }

    // From here on every required field is there, and the first invalid one is reported.
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
    let device = device(found, guard)?;
    let mut attributes = attributes(found)?;
    guard.attributes(&mut attributes)?;
    let (kind, values) = data.ok_or_else(|| data_field.invalid("must be an object"))?;
    let data = Data::parse(kind, values, guard)?;
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

fn device<'a>(found: &mut Scanned<'a>, guard: &mut Guard) -> Result<Option<Device<'a>>, Rejection> {
    let pairs = match std::mem::take(&mut found.device) {
        Object::Absent => return Ok(None),
        Object::Other => return Err(top("device", None).invalid("must be an object")),
        Object::Fields(pairs) => pairs,
    };
    let unknown = |key: &str| found.warn_unknown("device", key);
    Device::parse(values(Device::NAMES, pairs, unknown), guard).map(Some)
}

/// Rejects the event if a required field of `data` is missing, and names the first.
fn missing(fields: &'static [contract::Field], values: &Values<'_>) -> Result<(), Rejection> {
    let is = |name: &str, word: &str| {
        let mut found = fields
            .iter()
            .zip(values)
            .filter(|(field, _)| field.name == name);
        matches!(found.next(), Some((_, Some(Value::Text(text)))) if text.trim() == word)
    };
    for (field, value) in fields.iter().zip(values) {
        let is_needed = value.is_none()
            && match field.need {
                Need::Required => true,
                Need::For { field, word, .. } => is(field, word),
                Need::Optional | Need::Default => false,
            };
        if is_needed {
            let field = SentField {
                object: "data",
                name: field.name,
                value: None,
            };
            return Err(field.missing());
        }
    }
    Ok(())
}

/// `attributes` in the order sent, not yet looked through. What is `null` or blank is absent, before anything is counted.
fn attributes<'a>(
    found: &mut Scanned<'a>,
) -> Result<Vec<(Cow<'a, str>, AttributeValue<'a>)>, Rejection> {
    let mut pairs = match std::mem::take(&mut found.attributes) {
        Object::Absent => return Ok(Vec::new()),
        Object::Other => return Err(top("attributes", None).invalid("must be an object")),
        Object::Fields(pairs) => pairs,
    };
    pairs.retain(|(_, value)| match value {
        Value::Null => false,
        Value::Text(text) => !text.trim().is_empty(),
        _ => true,
    });
    if pairs.len() > bounds::ATTRIBUTES {
        let rule = format!("must have at most {} keys", bounds::ATTRIBUTES);
        return Err(top("attributes", None).invalid(rule));
    }
    let mut kept: Vec<(Cow<'a, str>, AttributeValue<'a>)> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let key = trim(key);
        let invalid = |rule: Cow<'static, str>| {
            let echoed: String = key.chars().take(ECHOED_ID_BYTES).collect();
            Rejection::at(Code::InvalidField, pointer(&["attributes", &echoed]), rule)
        };
        if is_longer(&key, bounds::ATTRIBUTE_KEY) || key.contains('\0') {
            let max = bounds::ATTRIBUTE_KEY;
            let rule = format!("an attribute's key must be at most {max} characters, without NUL");
            return Err(invalid(rule.into()));
        }
        if kept.iter().any(|(earlier, _)| *earlier == key) {
            return Err(invalid(
                "two keys are the same without the white space at their ends".into(),
            ));
        }
        let value = match value {
            Value::Bool(value) => AttributeValue::Bool(value),
            Value::Int(value) => AttributeValue::Int(value),
            #[expect(
                clippy::cast_precision_loss,
                reason = "JSON numbers this large are doubles"
            )]
            Value::Large(value) => AttributeValue::Float(value as f64),
            Value::Float(value) => AttributeValue::Float(value),
            Value::Text(text) => {
                let mut field = SentField {
                    object: "attributes",
                    name: &key,
                    value: Some(Value::Text(text)),
                };
                match field.any_text(bounds::ATTRIBUTE_TEXT)? {
                    Some(text) => AttributeValue::Text(text),
                    None => continue,
                }
            }
            Value::Null => continue,
            Value::Container => {
                return Err(invalid(
                    "an attribute must be a string, a number that a double can hold, or a boolean"
                        .into(),
                ));
            }
        };
        kept.push((key, value));
    }
    Ok(kept)
}
