//! Events as JSON Schema, in the order of the contract's tables. A test holds every rule here against
//! the parser's.

//!
//! What makes clients of it is why the shapes are plain: no schema narrows another, whatever has a name
//! is named here, numbers say how wide they are, and no event has a discriminator. What a plain shape
//! cannot say, that an answer needs `is_correct`, is where generators do not look and validators do.

use rivulet_events::{
    EventType, InteractionAction, Role, SessionAction,
    data::{DeviceType, Platform, SessionKind},
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
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let events = [
        (EventType::Interaction, "InteractionEvent", "Interaction"),
        (EventType::Message, "MessageEvent", "Message"),
        (EventType::Speech, "SpeechEvent", "Speech"),
        (EventType::Session, "SessionEvent", "Session"),
    ];
    let any = events.iter().fold(OneOf::builder(), |any, (_, name, _)| {
        any.item(Ref::from_schema_name(*name))
    });
    let mut schemas = vec![("Event", any.build().into())];
    schemas.extend(events.map(|(kind, name, data)| (name, event(kind, data).into())));
    schemas.extend([
        ("Interaction", interaction().into()),
        ("Message", message().into()),
        ("Speech", speech().into()),
        ("Session", session().into()),
        ("Device", device().into()),
        ("Platform", words(Platform::ALL, Platform::as_str).into()),
        ("Attributes", attributes().into()),
        ("AttributeValue", attribute_value().into()),
        (
            "SessionKind",
            words(SessionKind::ALL, SessionKind::as_str).into(),
        ),
        (
            "DeviceType",
            words(DeviceType::ALL, DeviceType::as_str).into(),
        ),
    ]);
    schemas
}

/// A field of an object.
struct Field {
    name: &'static str,
    required: bool,
    schema: RefOr<Schema>,
}

fn optional(name: &'static str, about: &str, schema: Object) -> Field {
    Field {
        required: false,
        ..required(name, about, nullable(schema))
    }
}

/// What has a name of its own, or `null`.
fn optional_of(name: &'static str, schema: &str) -> Field {
    let null = Object::with_type(Type::Null);
    let schema = Ref::from_schema_name(schema);
    let schema = OneOf::builder().item(null).item(schema).build();
    Field {
        name,
        required: false,
        schema: Schema::from(schema).into(),
    }
}

/// `null` is the same as absent.
pub(super) fn nullable(mut schema: Object) -> Object {
    schema.schema_type = match schema.schema_type {
        SchemaType::Type(one) => SchemaType::from_iter([one, Type::Null]),
        several => several,
    };
    schema
}

fn required(name: &'static str, about: &str, mut schema: Object) -> Field {
    if !about.is_empty() {
        schema.description = Some(about.to_owned());
    }
    Field {
        name,
        required: true,
        schema: schema.into(),
    }
}

fn object(about: &str, fields: impl IntoIterator<Item = Field>) -> Object {
    let about = (!about.is_empty()).then_some(about);
    let mut object = Object::builder().description(about);
    for Field {
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

/// Of at most so many Unicode scalars.
fn text(max: usize) -> Object {
    Object::builder()
        .schema_type(Type::String)
        .max_length(Some(max))
        .build()
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Object {
    one_word(all.iter().map(|value| word(*value)))
}

/// One of these words.
pub(super) fn one_word(words: impl Iterator<Item = &'static str>) -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

fn int(min: isize, max: isize) -> Object {
    let format = match i32::try_from(max) {
        Ok(_) => KnownFormat::Int32,
        Err(_) => KnownFormat::Int64,
    };
    bounded(Type::Integer, format, min, max)
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

fn boolean() -> Object {
    Object::with_type(Type::Boolean)
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
            required("type", "", words(&[kind], EventType::as_str)),
            required("child_id", "The child, as the registry knows it.", uuid()),
            required(
                "occurred_at",
                "When it happened, by the device's clock.",
                string(KnownFormat::DateTime),
            ),
            session,
            optional_of("device", "Device"),
            optional_of("attributes", "Attributes"),
            Field {
                name: "data",
                required: true,
                schema: Ref::from_schema_name(data).into(),
            },
        ],
    )
}

fn device() -> Object {
    object(
        "",
        [
            optional("id", "", text(64)),
            optional_of("platform", "Platform"),
            optional("app_version", "", text(32)),
        ],
    )
}

fn attributes() -> Object {
    Object::builder()
        .description(Some("For BI only. A key that names sound is refused."))
        .max_properties(Some(16))
        .property_names(Some(text(64)))
        .additional_properties(Some(Ref::from_schema_name("AttributeValue")))
        .build()
}

fn attribute_value() -> OneOf {
    let number = Object::builder()
        .schema_type(Type::Number)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Double)));
    OneOf::builder()
        .item(text(256))
        .item(number)
        .item(boolean())
        .item(Object::with_type(Type::Null))
        .build()
}

fn interaction() -> Object {
    let mut interaction = object(
        "What a child did with an activity.",
        [
            required(
                "action",
                "",
                words(InteractionAction::ALL, InteractionAction::as_str),
            ),
            optional("activity_id", "", uuid()),
            optional("subject", "", text(100)),
            optional("topic", "", text(100)),
            optional(
                "is_correct",
                "Required for `answer`, else dropped.",
                boolean(),
            ),
            optional("response_time_ms", "", int(0, 3_600_000)),
            optional("duration_ms", "Time on task.", int(0, 14_400_000)),
            optional("confidence", "", number(0.0, 1.0)),
            optional("difficulty", "", int(1, 5)),
            optional("rating", "Required for `rate`.", int(1, 5)),
            optional("xp", "", int(0, 10_000)),
            optional("stars", "", int(0, 10_000)),
            optional("badge", "", text(100)),
        ],
    );
    // `action` is always there.
    let by_action = json!({"action": {"anyOf": by_action()}});
    interaction.extensions = Some(Extensions::from_iter([("dependentSchemas", by_action)]));
    interaction
}

/// What an action needs.
fn by_action() -> [Value; 3] {
    let needs = |action: InteractionAction, field: &str, kind: &str| {
        json!({
            "required": [field],
            "properties": {"action": {"enum": [action.as_str()]}, field: {"type": kind}},
        })
    };
    let others = InteractionAction::ALL
        .iter()
        .filter(|action| !matches!(action, InteractionAction::Answer | InteractionAction::Rate));
    let others: Vec<_> = others.map(|action| action.as_str()).collect();
    [
        json!({"properties": {"action": {"enum": others}}}),
        needs(InteractionAction::Answer, "is_correct", "boolean"),
        needs(InteractionAction::Rate, "rating", "integer"),
    ]
}

fn message() -> Object {
    let flag = |name| optional(name, "", boolean());
    object(
        "A turn of a conversation between a child and an assistant.",
        [
            required("conversation_id", "", uuid()),
            required("sequence", "Place in the conversation.", int(1, isize::MAX)),
            required("role", "", words(Role::ALL, Role::as_str)),
            optional("topic", "", text(100)),
            optional(
                "content",
                "At most 8 192 bytes as UTF-8. It is measured (characters and words) and dropped.",
                text(8_192),
            ),
            flag("is_question"),
            flag("is_free_form"),
            flag("aha_moment"),
            flag("was_filtered"),
            optional("selected_choice", "", int(0, 255)),
            optional("depth_level", "", int(0, 100)),
            optional("tokens_used", "", int(0, 10_000_000)),
            optional("processing_time_ms", "", int(0, 10_000_000)),
            optional("filter_reason", "", text(100)),
        ],
    )
}

fn speech() -> Object {
    let count = |name| optional(name, "", int(0, 100_000));
    let mut language = text(35);
    language.pattern = Some(LANGUAGE.to_owned());
    object(
        "Metrics of a window of speech, computed on the device. Sound itself is never accepted.",
        [
            required("audio_session_id", "", uuid()),
            required(
                "window_ms",
                "How long the analysed window was.",
                int(1, 3_600_000),
            ),
            count("child_words"),
            count("adult_words"),
            count("child_vocalizations"),
            count("conversational_turns"),
            count("utterances"),
            count("unique_words"),
            count("new_words"),
            optional("snr_db", "", number(-100.0, 200.0)),
            optional("language", "A BCP 47 tag, such as `pt-BR`.", language),
            optional("model_version", "", text(64)),
        ],
    )
}

/// The shape of BCP 47.
const LANGUAGE: &str = "^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$";

fn session() -> Object {
    object(
        "A step in a session's life.",
        [
            required(
                "action",
                "",
                words(SessionAction::ALL, SessionAction::as_str),
            ),
            optional(
                "active_ms",
                "Active time since this session's previous event.",
                int(0, 600_000),
            ),
            optional_of("kind", "SessionKind"),
            optional_of("device_type", "DeviceType"),
        ],
    )
}
