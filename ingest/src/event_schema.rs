//! Events as JSON Schema, made from the declarations in `rivulet_events`. A test compares the schema with the parser.
//!
//! The schemas are plain, because generators make clients from them: no schema narrows another, every schema that has a
//! name is named here, numbers say how wide they are, and no event has a discriminator. One rule does not fit a plain
//! schema: that an answer needs `is_correct`. It is written where validators look and generators do not.

use rivulet_events::{
    Device, EventType,
    bounds::{ATTRIBUTE_KEY, ATTRIBUTE_TEXT, ATTRIBUTES},
    contract::{self, Declaration, LANGUAGE_TAG, Need, Rule},
};
use serde_json::{Value, json};
use utoipa::{
    Number,
    openapi::{
        KnownFormat, Object, OneOf, Ref, RefOr, Schema, SchemaFormat, Type, extensions::Extensions,
        schema::SchemaType,
    },
};

/// An event, with all that it is made of.
pub(crate) fn schemas() -> Vec<(String, Schema)> {
    let names = EventType::ALL.iter().map(|kind| {
        let (first, rest) = kind.as_str().split_at(1);
        (*kind, first.to_uppercase() + rest)
    });
    let mut any = OneOf::builder();
    let (mut events, mut objects) = (Vec::new(), Vec::new());
    for (kind, name) in names {
        let event_name = format!("{name}Event");
        any = any.item(Ref::from_schema_name(&event_name));
        events.push((event_name, event(kind, &name).into()));
        objects.push((name, data(kind).into()));
    }
    objects.extend([
        (
            "Device".to_owned(),
            declared(Device::DECLARATION, "").into(),
        ),
        ("Attributes".to_owned(), attributes().into()),
        ("AttributeValue".to_owned(), attribute_value().into()),
    ]);
    let declarations = EventType::ALL.iter().map(|kind| kind.declaration());
    let fields = declarations
        .chain([Device::DECLARATION])
        .flat_map(|object| object.fields);
    let words = fields
        .filter_map(named_words)
        .map(|(name, words)| (name.to_owned(), one_word(words.iter().copied()).into()));
    [("Event".to_owned(), any.build().into())]
        .into_iter()
        .chain(events)
        .chain(objects)
        .chain(words)
        .collect()
}

/// The name of a list of words, if a field with these words is optional. Generators of clients need a name to say that
/// the field may be absent.
fn named_words(field: &contract::Field) -> Option<(&'static str, &'static [&'static str])> {
    match field {
        contract::Field {
            need: Need::Optional,
            rule: Rule::Word { name, words },
            ..
        } => Some((*name, *words)),
        _ => None,
    }
}

/// An object as it is declared.
fn declared(object: Declaration, about: &str) -> Object {
    self::object(about, object.fields.iter().map(property))
}

fn property(field: &'static contract::Field) -> Property {
    if let Some((name, _)) = named_words(field) {
        return optional_of(field.name, name);
    }
    let schema = match &field.rule {
        Rule::Uuid => uuid(),
        Rule::Boolean => Object::with_type(Type::Boolean),
        Rule::Integer { min, max } => int(*min, *max),
        Rule::Number { min, max } => number(*min, *max),
        Rule::Text { max_chars } => text(*max_chars),
        Rule::LanguageTag { max_chars } => {
            let mut tag = text(*max_chars);
            tag.pattern = Some(LANGUAGE_TAG.to_owned());
            tag
        }
        Rule::MeasuredText { max_bytes } => text(*max_bytes),
        Rule::Word { words, .. } => one_word(words.iter().copied()),
    };
    let mut about = field.about.to_owned();
    // What the schema itself does not say.
    match &field.need {
        Need::For { word, only, .. } => {
            let otherwise = if *only { ", else dropped" } else { "" };
            about += &format!(" Required for `{word}`{otherwise}.");
        }
        Need::Required | Need::Optional | Need::Default => {}
    }
    if let Rule::MeasuredText { .. } = field.rule {
        about += &format!(" {}", field.rule);
    }
    match field.need {
        Need::Required => required(field.name, &about, schema),
        _ => optional(field.name, &about, schema),
    }
}

/// A property of an object.
struct Property {
    name: &'static str,
    required: bool,
    schema: RefOr<Schema>,
}

fn optional(name: &'static str, about: &str, schema: Object) -> Property {
    Property {
        required: false,
        ..required(name, about, nullable(schema))
    }
}

/// A schema that has a name of its own, or `null`.
fn optional_of(name: &'static str, schema: &str) -> Property {
    let null = Object::with_type(Type::Null);
    let schema = Ref::from_schema_name(schema);
    let schema = OneOf::builder().item(null).item(schema).build();
    Property {
        name,
        required: false,
        schema: Schema::from(schema).into(),
    }
}

/// `null` is the same as absent.
pub(crate) fn nullable(mut schema: Object) -> Object {
    schema.schema_type = match schema.schema_type {
        SchemaType::Type(one) => SchemaType::from_iter([one, Type::Null]),
        several => several,
    };
    schema
}

fn required(name: &'static str, about: &str, mut schema: Object) -> Property {
    if !about.is_empty() {
        schema.description = Some(about.to_owned());
    }
    Property {
        name,
        required: true,
        schema: schema.into(),
    }
}

fn object(about: &str, fields: impl IntoIterator<Item = Property>) -> Object {
    let about = (!about.is_empty()).then_some(about);
    let mut object = Object::builder().description(about);
    for Property {
        name,
        required,
        schema,
    } in fields
    {
        object = object.property(name, schema);
        if required {
            object = object.required(name);
        }
    }
    object.build()
}

fn string(format: KnownFormat) -> Object {
    let format = SchemaFormat::KnownFormat(format);
    Object::builder()
        .schema_type(Type::String)
        .format(Some(format))
        .build()
}

fn uuid() -> Object {
    string(KnownFormat::Uuid)
}

/// A string of at most `max` Unicode scalars.
fn text(max: usize) -> Object {
    Object::builder()
        .schema_type(Type::String)
        .max_length(Some(max))
        .build()
}

/// One of these words.
pub(crate) fn one_word(words: impl Iterator<Item = &'static str>) -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

fn int(min: i64, max: i64) -> Object {
    let format = match i32::try_from(max) {
        Ok(_) => KnownFormat::Int32,
        Err(_) => KnownFormat::Int64,
    };
    bounded(Type::Integer, format, min as isize, max as isize)
}

fn number(min: f64, max: f64) -> Object {
    bounded(Type::Number, KnownFormat::Double, min, max)
}

fn bounded(
    kind: Type,
    format: KnownFormat,
    min: impl Into<Number>,
    max: impl Into<Number>,
) -> Object {
    let object = Object::builder().schema_type(kind);
    let object = object.format(Some(SchemaFormat::KnownFormat(format)));
    object.minimum(Some(min)).maximum(Some(max)).build()
}

fn event(kind: EventType, data: &str) -> Object {
    let session = match kind {
        EventType::Session => required("session_id", "The session.", uuid()),
        _ => optional("session_id", "The session that it is part of.", uuid()),
    };
    object(
        "",
        [
            required(
                "id",
                "The idempotency key, made once by the client; UUIDv7 advised.",
                uuid(),
            ),
            required("type", "", one_word([kind.as_str()].into_iter())),
            required("child_id", "The child, as the registry knows it.", uuid()),
            required(
                "occurred_at",
                "When it happened, by the device's clock.",
                string(KnownFormat::DateTime),
            ),
            session,
            optional_of("device", "Device"),
            optional_of("attributes", "Attributes"),
            Property {
                name: "data",
                required: true,
                schema: Ref::from_schema_name(data).into(),
            },
        ],
    )
}

fn attributes() -> Object {
    Object::builder()
        .description(Some("For BI only. A key that names sound is refused."))
        .max_properties(Some(ATTRIBUTES))
        .property_names(Some(text(ATTRIBUTE_KEY)))
        .additional_properties(Some(Ref::from_schema_name("AttributeValue")))
        .build()
}

fn attribute_value() -> OneOf {
    let number = Object::builder()
        .schema_type(Type::Number)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Double)));
    OneOf::builder()
        .item(text(ATTRIBUTE_TEXT))
        .item(number)
        .item(Object::with_type(Type::Boolean))
        .item(Object::with_type(Type::Null))
        .build()
}

fn data(kind: EventType) -> Object {
    let declaration = kind.declaration();
    let mut data = declared(declaration, declaration.about);
    let by_word = by_word(declaration);
    if !by_word.is_empty() {
        data.extensions = Some(Extensions::from_iter([("dependentSchemas", by_word)]));
    }
    data
}

/// For each word of a field, which fields it needs, if there are fields that only some words need. The field itself is
/// always there.
fn by_word(object: Declaration) -> serde_json::Map<String, Value> {
    let mut by_word = serde_json::Map::new();
    for steering in object.fields {
        let Rule::Word { words, .. } = steering.rule else {
            continue;
        };
        let needs: Vec<_> = object
            .fields
            .iter()
            .filter_map(|field| match field.need {
                Need::For {
                    field: of, word, ..
                } if of == steering.name => Some((word, field)),
                _ => None,
            })
            .collect();
        if needs.is_empty() {
            continue;
        }
        let others: Vec<_> = words
            .iter()
            .filter(|word| !needs.iter().any(|(needy, _)| needy == *word))
            .collect();
        let mut any = vec![json!({"properties": {steering.name: {"enum": others}}})];
        any.extend(needs.into_iter().map(|(word, field)| {
            json!({
                "required": [field.name],
                "properties": {
                    steering.name: {"enum": [word]},
                    field.name: {"type": kind_of(&field.rule)},
                },
            })
        }));
        by_word.insert(steering.name.to_owned(), json!({"anyOf": any}));
    }
    by_word
}

/// The JSON type of a field, without `null`.
fn kind_of(rule: &Rule) -> &'static str {
    match rule {
        Rule::Boolean => "boolean",
        Rule::Integer { .. } => "integer",
        Rule::Number { .. } => "number",
        _ => "string",
    }
}
