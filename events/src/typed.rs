//! `data` by type: which fields each has, which are required, and each field's rule.

use std::borrow::Cow;

use crate::{
    bounds::{self, is_language_tag},
    data::{
        Data, DeviceType, EventType, Interaction, InteractionAction, Message, Role, Session,
        SessionAction, SessionKind, Speech,
    },
    fields::{Field, fields, slots},
    rejection::Rejection,
    scan::{Pairs, Scanned, Value},
};

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

impl EventType {
    /// The names of the fields of its `data`, in the order of the contract's table.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Interaction => &INTERACTION,
            Self::Message => &MESSAGE,
            Self::Speech => &SPEECH,
            Self::Session => &SESSION,
        }
    }
}

/// `data`, its fields in the order of the contract's table.
pub(crate) enum Slots<'a> {
    Interaction([Field<'static, 'a>; 13]),
    Message([Field<'static, 'a>; 14]),
    Speech([Field<'static, 'a>; 12]),
    Session([Field<'static, 'a>; 4]),
}

impl<'a> Slots<'a> {
    pub(crate) fn new(kind: EventType, pairs: Pairs<'a>, found: &mut Scanned<'a>) -> Self {
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

    pub(crate) fn first_missing(&self) -> Option<Rejection> {
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

    pub(crate) fn read(self) -> Result<Data<'a>, Rejection> {
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
        subject: subject.text(bounds::LABEL)?,
        topic: topic.text(bounds::LABEL)?,
        is_correct: if done == InteractionAction::Answer {
            is_correct.boolean()?
        } else {
            None
        },
        response_time_ms: response_time_ms.int(bounds::RESPONSE_TIME_MS)?,
        duration_ms: duration_ms.int(bounds::DURATION_MS)?,
        confidence: confidence.number(bounds::CONFIDENCE)?,
        difficulty: difficulty.int(bounds::GRADE)?,
        rating: rating.int(bounds::GRADE)?,
        xp: xp.int(bounds::REWARD)?,
        stars: stars.int(bounds::REWARD)?,
        badge: badge.text(bounds::LABEL)?,
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
        .int(bounds::SEQUENCE)
        .and_then(|v| sequence.required(v))?;
    let role = role
        .word(Role::from_word, Role::ALL, Role::as_str, true)
        .and_then(|v| role.required(v))?;
    let topic = topic.text(bounds::LABEL)?;
    // The text is measured here and goes no further.
    let content = content.text_bytes(bounds::CONTENT_BYTES)?;
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
        selected_choice: selected_choice.int(bounds::SELECTED_CHOICE)?,
        depth_level: depth_level.int(bounds::DEPTH_LEVEL)?,
        tokens_used: tokens_used.int(bounds::TOKENS_USED)?,
        processing_time_ms: processing_time_ms.int(bounds::PROCESSING_TIME_MS)?,
        filter_reason: filter_reason.text(bounds::LABEL)?,
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
        .int(bounds::WINDOW_MS)
        .and_then(|v| window_ms.required(v))?;
    let count = |field: &mut Field<'_, 'a>| Ok(field.int(bounds::SPEECH_COUNT)?.unwrap_or(0));
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
        snr_db: snr_db.number(bounds::SNR_DB)?,
        language: match language.text(bounds::LANGUAGE)?.map(with_hyphens) {
            Some(tag) if !is_language_tag(&tag) => {
                return Err(language.invalid("must be a BCP 47 language tag, such as pt-BR"));
            }
            tag => tag,
        },
        model_version: model_version.text(bounds::MODEL_VERSION)?,
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
        active_ms: active_ms.int(bounds::ACTIVE_MS)?.unwrap_or(0),
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

/// `en_US`, as Java and POSIX write it, is `en-US`.
fn with_hyphens(tag: Cow<'_, str>) -> Cow<'_, str> {
    if tag.contains('_') {
        Cow::Owned(tag.replace('_', "-"))
    } else {
        tag
    }
}
