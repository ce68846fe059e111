//! One pass over an event's JSON: its known fields, what else was in it, and whether it holds
//! sound, is nested too deep or gives a key twice. Meaning comes later, in [`crate::parse`].

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::audio::{is_audio_key, is_audio_text};

/// A key of the event that is echoed in a warning is cut to this many scalars.
const ECHOED_KEY_SCALARS: usize = 64;

/// Unknown fields named in one event's warnings; the rest are dropped unnamed.
const MAX_WARNINGS: usize = 50;

const TWICE: &str = "a key is given twice in one object";
const TOO_DEEP: &str = "the event is nested too deep";

/// Above this many keys in one object a hash set takes over from comparing each with each.
const FEW_KEYS: usize = 24;

/// A JSON value as far as a field of an event may need it (docs/contract.md, "Events").
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Large(u64),
    Float(f64),
    Text(Cow<'a, str>),
    /// An object where a plain value belongs, or an array. Scanned, not kept.
    Container,
}

/// The fields of one object, `null`s kept so that a key given twice is seen.
pub(crate) type Pairs<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A field that should be an object.
#[derive(Debug, Default)]
pub(crate) enum Object<'a> {
    #[default]
    Absent,
    /// Given, but something else.
    Other,
    Fields(Pairs<'a>),
}

/// What one pass found.
#[derive(Debug, Default)]
pub(crate) struct Scanned<'a> {
    pub(crate) id: Option<Value<'a>>,
    pub(crate) kind: Option<Value<'a>>,
    pub(crate) child_id: Option<Value<'a>>,
    pub(crate) occurred_at: Option<Value<'a>>,
    pub(crate) session_id: Option<Value<'a>>,
    pub(crate) device: Object<'a>,
    pub(crate) attributes: Object<'a>,
    pub(crate) data: Object<'a>,
    /// `unknown_field:…`, dotted path.
    pub(crate) warnings: Vec<String>,
    /// JSON pointer to the outermost place that holds sound.
    pub(crate) audio: Option<String>,
    /// A field is `-0.0`, or the integer `-0`: the parser reads both as the same double.
    pub(crate) minus_zero: bool,
}

/// Scans the JSON of one event.
///
/// # Errors
/// It is no JSON object, is nested too deep, or gives a key twice. The error's text quotes no
/// value.
pub(crate) fn scan(json: &str, max_depth: u8) -> Result<Scanned<'_>, serde_json::Error> {
    let mut scanned = Scanned::default();
    let mut input = serde_json::Deserializer::from_str(json);
    let found = &mut scanned;
    EventSeed { found, max_depth }.deserialize(&mut input)?;
    input.end()?;
    Ok(scanned)
}

impl Scanned<'_> {
    /// Notes a field that docs/contract.md, "Events", does not have.
    pub(crate) fn warn_unknown(&mut self, object: &str, key: &str) {
        if self.warnings.len() < MAX_WARNINGS {
            let code = format_args!("unknown_field");
            self.warnings.push(warning(code, object, key));
        }
    }

    fn note_audio(&mut self, object: &str, key: &str) {
        if self.audio.is_none() {
            let key: String = key.chars().take(ECHOED_KEY_SCALARS).collect();
            self.audio = Some(match object {
                "" => pointer(&[&key]),
                object => pointer(&[object, &key]),
            });
        }
    }
}

/// A warning about a field: `unknown_field:data.colour`.
pub(crate) fn warning(code: fmt::Arguments<'_>, object: &str, key: &str) -> String {
    let dot = if object.is_empty() { "" } else { "." };
    let key: String = key.chars().take(ECHOED_KEY_SCALARS).collect();
    format!("{code}:{object}{dot}{key}")
}

/// An RFC 6901 pointer from unescaped tokens.
pub(crate) fn pointer(tokens: &[&str]) -> String {
    let mut pointer = String::new();
    for token in tokens {
        pointer.push('/');
        pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

/// The event's own object.
struct EventSeed<'s, 'a> {
    found: &'s mut Scanned<'a>,
    max_depth: u8,
}

impl<'de> DeserializeSeed<'de> for EventSeed<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { found, max_depth } = self;
        let mut known = 0u8;
        let mut unknown = Keys::default();
        while let Some(key) = map.next_key_seed(TextSeed)? {
            let field: u8 = match &*key {
                "id" => 0,
                "type" => 1,
                "child_id" => 2,
                "occurred_at" => 3,
                "session_id" => 4,
                "device" => 5,
                "attributes" => 6,
                "data" => 7,
                _ => {
                    let mut audio = false;
                    let value = map.next_value_seed(ValueSeed {
                        levels: max_depth - 1,
                        audio: &mut audio,
                    })?;
                    if audio || is_audio_key(&key) || is_audio_text(&key) {
                        found.note_audio("", &key);
                    }
                    if !matches!(value, Value::Null) {
                        found.warn_unknown("", &key);
                    }
                    unknown.insert(key)?;
                    continue;
                }
            };
            if known & (1 << field) != 0 {
                return Err(A::Error::custom(TWICE));
            }
            known |= 1 << field;
            if field < 5 {
                let mut audio = false;
                let value = map.next_value_seed(ValueSeed {
                    levels: max_depth - 1,
                    audio: &mut audio,
                })?;
                if audio {
                    found.note_audio("", &key);
                }
                let value = (!matches!(value, Value::Null)).then_some(value);
                match field {
                    0 => found.id = value,
                    1 => found.kind = value,
                    2 => found.child_id = value,
                    3 => found.occurred_at = value,
                    _ => found.session_id = value,
                }
            } else {
                let object = map.next_value_seed(ObjectSeed {
                    name: &key,
                    max_depth,
                    found,
                })?;
                match field {
                    5 => found.device = object,
                    6 => found.attributes = object,
                    _ => found.data = object,
                }
            }
        }
        Ok(())
    }
}

/// `device`, `attributes` or `data`.
struct ObjectSeed<'s, 'a> {
    name: &'s str,
    max_depth: u8,
    found: &'s mut Scanned<'a>,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_, 'de> {
    type Value = Object<'de>;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_, 'de> {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Pairs<'de> = Vec::with_capacity(16);
        let mut many = Keys::default();
        while let Some(key) = map.next_key_seed(TextSeed)? {
            let mut audio = false;
            let value = map.next_value_seed(ValueSeed {
                levels: self.max_depth - 2,
                audio: &mut audio,
            })?;
            if audio || is_audio_key(&key) || is_audio_text(&key) {
                self.found.note_audio(self.name, &key);
            }
            if matches!(value, Value::Float(zero) if zero == 0.0 && zero.is_sign_negative()) {
                self.found.minus_zero = true;
            }
            if pairs.len() < FEW_KEYS {
                if pairs.iter().any(|(earlier, _)| *earlier == key) {
                    return Err(A::Error::custom(TWICE));
                }
            } else {
                if pairs.len() == FEW_KEYS {
                    for (earlier, _) in &pairs {
                        many.insert(earlier.clone())?;
                    }
                }
                many.insert(key.clone())?;
            }
            pairs.push((key, value));
        }
        Ok(Object::Fields(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let mut audio = false;
        ValueSeed {
            levels: self.max_depth - 1,
            audio: &mut audio,
        }
        .visit_seq(seq)?;
        if audio {
            self.found.note_audio("", self.name);
        }
        Ok(Object::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Object::Absent)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        if is_audio_text(text) {
            self.found.note_audio("", self.name);
        }
        Ok(Object::Other)
    }
}

/// Any value; `levels` containers may still be opened, `audio` is set where it holds sound.
struct ValueSeed<'s> {
    levels: u8,
    audio: &'s mut bool,
}

impl<'s> ValueSeed<'s> {
    /// Steps into this value, which turned out to be a container.
    fn enter<E: serde::de::Error>(self) -> Result<(u8, &'s mut bool), E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok((levels, self.audio)),
            None => Err(E::custom(TOO_DEEP)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value<'de>;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Value::Large(value), Value::Int))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        *self.audio |= is_audio_text(text);
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        *self.audio |= is_audio_text(text);
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (levels, audio) = self.enter()?;
        while seq
            .next_element_seed(ValueSeed { levels, audio })?
            .is_some()
        {}
        Ok(Value::Container)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (levels, audio) = self.enter()?;
        let mut keys = Keys::default();
        while let Some(key) = map.next_key_seed(TextSeed)? {
            *audio |= is_audio_key(&key) || is_audio_text(&key);
            keys.insert(key)?;
            map.next_value_seed(ValueSeed { levels, audio })?;
        }
        Ok(Value::Container)
    }
}

/// A key, borrowed where it has no escapes.
struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The keys of one object, to see one given twice without quadratic time for thousands.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    fn insert<E: serde::de::Error>(&mut self, key: Cow<'a, str>) -> Result<(), E> {
        let new = if self.many.is_empty() && self.few.len() < FEW_KEYS {
            let new = !self.few.contains(&key);
            self.few.push(key);
            new
        } else {
            self.many.extend(self.few.drain(..));
            self.many.insert(key)
        };
        if new { Ok(()) } else { Err(E::custom(TWICE)) }
    }
}
