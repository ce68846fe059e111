//! Events as JSON Schema, in the order of the contract's tables. A test holds every rule here against
//! the parser's.

use rivulet_events::{
    EventType, InteractionAction, Role, SessionAction,
    data::{DeviceType, Platform, SessionKind},
};
use rivulet_web::openapi::one_of;
use serde_json::Value;
use utoipa::{
    Number,
    openapi::{
        AllOf, KnownFormat, Object, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::{AnyOf, SchemaType},
    },
};

/// An event of each type, with its schema's name.
pub(super) fn events() -> [(EventType, &'static str, Schema); 4] {
    [
        (EventType::Interaction, "InteractionEvent", "Interaction"),
        (EventType::Message, "MessageEvent", "Message"),
        (EventType::Speech, "SpeechEvent", "Speech"),
        (EventType::Session, "SessionEvent", "Session"),
    ]
    .map(|(kind, name, data)| (kind, name, event(kind, Ref::from_schema_name(data).into())))
}

/// The `data` of each, likewise.
pub(super) fn data() -> [(&'static str, Schema); 4] {
    [
        ("Interaction", interaction()),
        ("Message", message().into()),
        ("Speech", speech().into()),
        ("Session", session().into()),
    ]
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

/// `null` is the same as absent.
pub(super) fn nullable(mut schema: Object) -> Object {
    schema.schema_type = match schema.schema_type {
        SchemaType::Type(one) => SchemaType::from_iter([one, Type::Null]),
        several => several,
    };
    if let Some(values) = &mut schema.enum_values {
        values.push(Value::Null);
    }
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
    bounded(Type::Integer, min, max)
}

fn number(min: f64, max: f64) -> Object {
    bounded(Type::Number, min, max)
}

fn bounded(kind: Type, min: impl Into<Number>, max: impl Into<Number>) -> Object {
    let object = Object::builder().schema_type(kind);
    object.minimum(Some(min)).maximum(Some(max)).build()
}

fn boolean() -> Object {
    Object::with_type(Type::Boolean)
}

fn event(kind: EventType, data: RefOr<Schema>) -> Schema {
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
            optional("device", "", device()),
            optional(
                "attributes",
                "For BI only. A key that names sound is refused.",
                attributes(),
            ),
            Field {
                name: "data",
                required: true,
                schema: data,
            },
        ],
    )
    .into()
}

fn device() -> Object {
    object(
        "",
        [
            optional("id", "", text(64)),
            optional("platform", "", words(Platform::ALL, Platform::as_str)),
            optional("app_version", "", text(32)),
        ],
    )
}

fn attributes() -> Object {
    let of = |kind| Object::with_type(kind);
    let value = AnyOf::builder()
        .item(text(256))
        .item(of(Type::Number))
        .item(of(Type::Boolean))
        .item(of(Type::Null));
    Object::builder()
        .max_properties(Some(16))
        .property_names(Some(text(64)))
        .additional_properties(Some(Schema::from(value.build())))
        .build()
}

fn interaction() -> Schema {
    let fields = object(
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
    let needs = |action: InteractionAction, field: &str, kind: Type| {
        Object::builder()
            .property("action", one_of([action.as_str()]))
            .property(field, Object::with_type(kind))
            .required(field)
    };
    let others = InteractionAction::ALL
        .iter()
        .filter(|action| !matches!(action, InteractionAction::Answer | InteractionAction::Rate));
    let others = one_of(others.map(|action| action.as_str()));
    let by_action = AnyOf::builder()
        .item(Object::builder().property("action", others))
        .item(needs(
            InteractionAction::Answer,
            "is_correct",
            Type::Boolean,
        ))
        .item(needs(InteractionAction::Rate, "rating", Type::Integer));
    AllOf::builder()
        .item(fields)
        .item(Schema::from(by_action.build()))
        .build()
        .into()
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
            optional("kind", "", words(SessionKind::ALL, SessionKind::as_str)),
            optional(
                "device_type",
                "",
                words(DeviceType::ALL, DeviceType::as_str),
            ),
        ],
    )
}
