//! What the OpenAPI document says of consents.

use chrono::{DateTime, Utc};
use rivulet_events::ConsentVersion;
use rivulet_registry::consents::Method;
use utoipa::{
    ToSchema,
    openapi::{Object, OneOf, Ref, Schema, Type, schema::AdditionalProperties},
};
use uuid::Uuid;

use crate::event_schema;

const EVIDENCE: &str = "Consent";
const METHOD: &str = "ConsentMethod";

/// What the parent allows; no other name is taken.
pub(crate) fn consents() -> Object {
    let mut consents = event_schema::nullable(Object::new());
    consents.description =
        Some("What the parent allows. Left out: as before, at first not granted.".to_owned());
    consents.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    for (name, about) in [
        ("coppa", "Any processing at all."),
        ("audio", "Speech events."),
        ("analytics", "The history for analysts."),
    ] {
        let consent = OneOf::builder()
            .item(Object::with_type(Type::Null))
            .item(Object::with_type(Type::Boolean))
            .item(Ref::from_schema_name(EVIDENCE))
            .description(Some(about))
            .build();
        let consent = Schema::from(consent);
        consents.properties.insert(name.to_owned(), consent.into());
    }
    consents
}

/// The schemas that [`consents`] names.
pub(crate) fn schemas() -> [(String, Schema); 2] {
    let mut version = event_schema::nullable(Object::with_type(Type::String));
    version.description = Some(
        "The version of the text that the parent was shown. Events that are taken under it name it."
            .to_owned(),
    );
    version.min_length = Some(1);
    version.max_length = Some(ConsentVersion::MAX);
    version.pattern = Some("^[A-Za-z0-9._+:/-]+$".to_owned());
    let given_by = OneOf::builder()
        .item(Object::with_type(Type::Null))
        .item(Ref::from_schema_name(METHOD))
        .build();
    let mut evidence = Object::builder()
        .description(Some(
            "A consent with its evidence. `true` and `false` are one without: its version is null, its method `other`.",
        ))
        .property("granted", Object::with_type(Type::Boolean))
        .required("granted")
        .property("version", version)
        .property("method", Schema::from(given_by))
        .build();
    evidence.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    let mut method = event_schema::one_word(Method::ALL.iter().map(|method| method.as_str()));
    method.description = Some(
        "How consent was given (16 CFR 312.5(b)): a signed form, a payment by card, an official identification, questions \
         that only a parent can answer, a text or e-mail with a further step, or another way."
            .to_owned(),
    );
    [
        (EVIDENCE.to_owned(), evidence.into()),
        (METHOD.to_owned(), method.into()),
    ]
}

fn method() -> Ref {
    Ref::from_schema_name(METHOD)
}

/// What the parent allows.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct RegisteredConsents {
    coppa: RegisteredConsent,
    audio: RegisteredConsent,
    analytics: RegisteredConsent,
}

/// A consent, and since when it is so.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RegisteredConsent {
    granted: bool,
    /// The version of the text that the parent was shown; null where none was declared.
    #[schema(required = true)]
    version: Option<String>,
    #[schema(schema_with = method)]
    method: (),
    /// When any of this last changed; null where nothing was ever declared of it.
    #[schema(required = true)]
    changed_at: Option<DateTime<Utc>>,
}

/// A page of what a family consented to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ConsentHistory {
    parent_id: Uuid,
    /// In the order in which they took effect; at most 1 000.
    consents: Vec<ConsentChange>,
    /// Ask for what is after it, with `after`; null at the end.
    #[schema(required = true)]
    next: Option<i64>,
}

/// A change of a consent.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ConsentChange {
    consent: ConsentName,
    granted: bool,
    /// The version of the text that the parent was shown; null where none was declared.
    #[schema(required = true)]
    version: Option<String>,
    #[schema(schema_with = method)]
    method: (),
    changed_at: DateTime<Utc>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum ConsentName {
    Coppa,
    Audio,
    Analytics,
}
