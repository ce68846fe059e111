//! The four event types and their `data`, as the contract's tables list them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[doc = concat!("`", $word, "`")] #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the contract's order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire and in every store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value for a word of the contract.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(
    /// What kind of event it is; decides topic and `data`.
    EventType { Interaction = "interaction", Message = "message", Speech = "speech", Session = "session" }
);

impl EventType {
    /// A stable byte for hashes. Never renumber: stored identities depend on it.
    #[must_use]
    pub const fn wire_code(self) -> u8 {
        match self {
            Self::Interaction => 1,
            Self::Message => 2,
            Self::Speech => 3,
            Self::Session => 4,
        }
    }
}

words!(
    /// What a child did with an activity.
    InteractionAction {
        Start = "start", Answer = "answer", Hint = "hint", Skip = "skip",
        View = "view", Complete = "complete", Rate = "rate", Reward = "reward",
    }
);
words!(
    /// Who spoke a turn of a conversation.
    Role { User = "user", Assistant = "assistant", System = "system" }
);
words!(
    /// A step in a session's life.
    SessionAction { Start = "start", Heartbeat = "heartbeat", Pause = "pause", Resume = "resume", End = "end" }
);
words!(
    /// What a session was for.
    SessionKind { Learning = "learning", Play = "play", Story = "story", Quiz = "quiz", Review = "review", Other = "other" }
);
words!(
    /// The kind of device a session ran on.
    DeviceType { Desktop = "desktop", Mobile = "mobile", Tablet = "tablet", Unknown = "unknown" }
);
words!(
    /// The operating platform in `device`.
    Platform { Ios = "ios", Android = "android", Web = "web", Other = "other" }
);
words!(
    /// The age group the product backend registered a child under.
    AgeGroup { WonderCubs = "wonder_cubs", CuriousExplorers = "curious_explorers", MindMasters = "mind_masters" }
);

/// `data` of an interaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interaction<'a> {
    /// What was done.
    pub action: InteractionAction,
    /// The activity it was done in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_id: Option<Uuid>,
    /// School subject, at most 100 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'a, str>>,
    /// Topic within the subject, at most 100 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Cow<'a, str>>,
    /// Whether an `answer` was right; `None` on any other action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_correct: Option<bool>,
    /// 0..=3 600 000 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_time_ms: Option<u32>,
    /// Time on task, 0..=14 400 000 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u32>,
    /// 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// 1..=5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difficulty: Option<u8>,
    /// 1..=5; always there on `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    /// Points won, 0..=10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xp: Option<u16>,
    /// Stars won, 0..=10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stars: Option<u16>,
    /// Badge won, at most 100 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub badge: Option<Cow<'a, str>>,
}

/// `data` of a message: a turn of a conversation. Its text is measured and gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Place in the conversation, from 1.
    pub sequence: u64,
    /// Who spoke.
    pub role: Role,
    /// Topic, at most 100 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Cow<'a, str>>,
    /// Unicode scalars of the content, `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chars: Option<u32>,
    /// White-space separated words of the content, `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<u32>,
    /// The turn asks something.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_question: bool,
    /// Typed or spoken freely, not chosen from a list.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_free_form: bool,
    /// The app saw a moment of insight.
    #[serde(default, skip_serializing_if = "is_false")]
    pub aha_moment: bool,
    /// A safety filter acted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub was_filtered: bool,
    /// Chosen answer, 0..=255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_choice: Option<u8>,
    /// How deep the conversation has gone, 0..=100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth_level: Option<u8>,
    /// Model tokens, 0..=10 000 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_used: Option<u32>,
    /// 0..=10 000 000 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing_time_ms: Option<u32>,
    /// Why the filter acted, at most 100 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_reason: Option<Cow<'a, str>>,
}

/// `data` of a speech window: metrics computed on the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speech<'a> {
    /// The recording session on the device.
    pub audio_session_id: Uuid,
    /// Length of the analysed window, 1..=3 600 000 ms.
    pub window_ms: u32,
    /// Each count is 0..=100 000.
    pub child_words: u32,
    /// Words of adults near the child.
    pub adult_words: u32,
    /// Vocalisations that are no words.
    pub child_vocalizations: u32,
    /// Turns between child and adult.
    pub conversational_turns: u32,
    /// Utterances of the child.
    pub utterances: u32,
    /// Distinct words in the window.
    pub unique_words: u32,
    /// Words not heard from the child before.
    pub new_words: u32,
    /// Signal to noise, -100..=200 dB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr_db: Option<f64>,
    /// BCP 47 tag, at most 35 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Cow<'a, str>>,
    /// Version of the on-device model, at most 64 scalars.
    #[serde(borrow, default, deserialize_with = "text::option")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<Cow<'a, str>>,
}

/// `data` of a session event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The step.
    pub action: SessionAction,
    /// Active time since this session's previous event, 0..=600 000 ms.
    pub active_ms: u32,
    /// What the session was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SessionKind>,
    /// What it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<DeviceType>,
}

/// The `data` of an event, by type. On the wire it is the inner object alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    /// An interaction.
    Interaction(Interaction<'a>),
    /// A message.
    Message(Message<'a>),
    /// A speech window.
    Speech(Speech<'a>),
    /// A session event.
    Session(Session),
}

impl Data<'_> {
    /// The type this data belongs to.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Interaction(_) => EventType::Interaction,
            Self::Message(_) => EventType::Message,
            Self::Speech(_) => EventType::Speech,
            Self::Session(_) => EventType::Session,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}
