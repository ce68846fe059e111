//! The event types, and the fields of the `data` of each, declared here alone ([`rivulet_declare`] says how).

use std::borrow::Cow;

use rivulet_declare::declare;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    contract::{ColumnWriter, Declaration},
    fields::Word,
    free_text::Guard,
    rejection::Rejection,
    rules::Checked,
    scan::{Pairs, Value},
};

/// Unicode scalars of `subject`, `topic`, `badge` and `filter_reason` at most.
const LABEL: usize = 100;

/// Bytes of the text of a message at most.
const CONTENT_BYTES: i64 = 8_192;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[doc = concat!("`", $word, "`")] #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The words, in the same order.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The word on the wire and in every store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value for one of the words.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Word for $name {
            const WORDS: &[&str] = Self::WORDS;

            fn from_word(word: &str) -> Option<Self> {
                Self::from_word(word)
            }
        }
    };
}

/// Event types: the struct that declares its `data`, its word, and the byte that stands for it in hashes.
macro_rules! event_types {
    ($($(#[$about:meta])* $name:ident $(<$life:lifetime>)? = $word:literal, $code:literal;)+) => {
        words!(
            /// What kind of event it is; decides topic and `data`.
            EventType { $($(#[$about])* $name = $word),+ }
        );

        impl EventType {
            /// A stable byte for hashes. Never renumber: stored identities depend on it.
            #[must_use]
            pub const fn wire_code(self) -> u8 {
                match self { $(Self::$name => $code),+ }
            }

            /// The names of the fields of its `data`, in the order of the declaration.
            #[must_use]
            pub const fn fields(self) -> &'static [&'static str] {
                match self { $(Self::$name => $name::NAMES),+ }
            }

            /// What its `data` is.
            #[must_use]
            pub const fn declaration(self) -> Declaration {
                match self { $(Self::$name => $name::DECLARATION),+ }
            }
        }

        /// The `data` of an event, by type. On the wire it is the inner object alone.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Data<'a> {
            $($(#[$about])* $name($name $(<$life>)?),)+
        }

        impl<'a> Data<'a> {
            /// The type this data belongs to.
            #[must_use]
            pub const fn event_type(&self) -> EventType {
                match self { $(Self::$name(_) => EventType::$name),+ }
            }

            /// Hands over the values of its type's columns.
            pub fn write_columns(&self, to: &mut impl ColumnWriter) {
                match self { $(Self::$name(data) => data.write_columns(to)),+ }
            }

            pub(crate) fn parse(
                kind: EventType,
                values: Values<'a>,
                guard: &mut Guard,
            ) -> Result<Self, Rejection> {
                match kind { $(EventType::$name => $name::parse(values, guard).map(Self::$name)),+ }
            }

            pub(crate) fn check(&self) -> Checked {
                match self { $(Self::$name(data) => data.check()),+ }
            }
        }
    };
}

event_types!(
    /// What a child did with an activity.
    Interaction<'a> = "interaction", 1;
    /// A turn of a conversation.
    Message<'a> = "message", 2;
    /// A window of speech.
    Speech<'a> = "speech", 3;
    /// A step in a session's life.
    Session = "session", 4;
);

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

/// What a child did with an activity.
#[declare(object = "data")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interaction<'a> {
    /// What was done.
    #[field(column = "interaction_action")]
    pub action: InteractionAction,
    /// The activity.
    pub activity_id: Option<Uuid>,
    /// School subject.
    #[field(max_chars = LABEL)]
    pub subject: Option<Cow<'a, str>>,
    /// Topic.
    #[field(max_chars = LABEL)]
    pub topic: Option<Cow<'a, str>>,
    /// Whether an answer was right.
    #[field(only_for(action = Answer))]
    pub is_correct: Option<bool>,
    /// Time to respond, in milliseconds.
    #[field(range = 0..=3_600_000)]
    pub response_time_ms: Option<u32>,
    /// Time on task, in milliseconds.
    #[field(range = 0..=14_400_000)]
    pub duration_ms: Option<u32>,
    /// How sure the child was.
    #[field(range = 0.0..=1.0)]
    pub confidence: Option<f64>,
    /// How difficult the activity was, 1 being the easiest.
    #[field(range = 1..=5)]
    pub difficulty: Option<u8>,
    /// How the child liked it, 5 being the best.
    #[field(range = 1..=5, required_for(action = Rate))]
    pub rating: Option<u8>,
    /// Points won.
    #[field(range = 0..=10_000)]
    pub xp: Option<u16>,
    /// Stars won.
    #[field(range = 0..=10_000)]
    pub stars: Option<u16>,
    /// Badge won.
    #[field(max_chars = LABEL)]
    pub badge: Option<Cow<'a, str>>,
}

/// A turn of a conversation between a child and an assistant.
#[declare(object = "data")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Place in the conversation.
    #[field(range = 1..=i64::MAX)]
    pub sequence: u64,
    /// Who spoke.
    pub role: Role,
    /// Topic.
    #[field(max_chars = LABEL)]
    pub topic: Option<Cow<'a, str>>,
    /// Unicode scalars of the text.
    #[field(range = 1..=CONTENT_BYTES, measures(
        content, max_bytes = CONTENT_BYTES as usize, with = count_chars,
        about = "The text of the turn. It is measured (characters and words) and dropped.",
    ))]
    pub chars: Option<u32>,
    /// Words of the text, separated by white space.
    // Between two words is a byte at least.
    #[field(range = 1..=CONTENT_BYTES / 2, measures(content, with = count_words))]
    pub words: Option<u32>,
    /// The turn asks something.
    #[field(default)]
    pub is_question: bool,
    /// Typed or spoken freely, not chosen from a list.
    #[field(default)]
    pub is_free_form: bool,
    /// The app saw a moment of insight.
    #[field(default)]
    pub aha_moment: bool,
    /// A safety filter acted.
    #[field(default)]
    pub was_filtered: bool,
    /// Which answer of a list was chosen.
    #[field(range = 0..=255)]
    pub selected_choice: Option<u8>,
    /// How deep the conversation has gone.
    #[field(range = 0..=100)]
    pub depth_level: Option<u8>,
    /// Tokens that the model used.
    #[field(range = 0..=10_000_000)]
    pub tokens_used: Option<u32>,
    /// Time that the assistant took, in milliseconds.
    #[field(range = 0..=10_000_000)]
    pub processing_time_ms: Option<u32>,
    /// Why the filter acted.
    #[field(max_chars = LABEL)]
    pub filter_reason: Option<Cow<'a, str>>,
}

/// Metrics of a window of speech, computed on the device. Sound itself is never accepted.
#[declare(object = "data")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speech<'a> {
    /// The recording session on the device.
    pub audio_session_id: Uuid,
    /// Length of the analysed window, in milliseconds.
    #[field(range = 1..=3_600_000)]
    pub window_ms: u32,
    /// Words of the child.
    #[field(default, range = 0..=100_000)]
    pub child_words: u32,
    /// Words of adults near the child.
    #[field(default, range = 0..=100_000)]
    pub adult_words: u32,
    /// Vocalisations that are no words.
    #[field(default, range = 0..=100_000)]
    pub child_vocalizations: u32,
    /// Turns between child and adult.
    #[field(default, range = 0..=100_000)]
    pub conversational_turns: u32,
    /// Utterances of the child.
    #[field(default, range = 0..=100_000)]
    pub utterances: u32,
    /// Distinct words in the window.
    #[field(default, range = 0..=100_000)]
    pub unique_words: u32,
    /// Words not heard from the child before.
    #[field(default, range = 0..=100_000)]
    pub new_words: u32,
    /// Signal to noise ratio, in decibels.
    #[field(range = -100.0..=200.0)]
    pub snr_db: Option<f64>,
    /// Language, as a BCP 47 tag such as `pt-BR`.
    #[field(max_chars = 35, language_tag)]
    pub language: Option<Cow<'a, str>>,
    /// Version of the model on the device.
    #[field(max_chars = 64)]
    pub model_version: Option<Cow<'a, str>>,
}

/// A step in a session's life.
#[declare(object = "data")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The step.
    #[field(column = "session_action")]
    pub action: SessionAction,
    /// Active time since this session's previous event, in milliseconds.
    #[field(default, range = 0..=600_000)]
    pub active_ms: u32,
    /// What the session was for.
    pub kind: Option<SessionKind>,
    /// The kind of device that it ran on.
    pub device_type: Option<DeviceType>,
}

/// The device an event came from.
#[declare(object = "device")]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device<'a> {
    /// The app's id of the device.
    #[field(max_chars = 64, column = "device_id", many_values)]
    pub id: Option<Cow<'a, str>>,
    /// The platform.
    #[field(column = "device_platform")]
    pub platform: Option<Platform>,
    /// Version of the app.
    #[field(max_chars = 32, column = "device_app_version")]
    pub app_version: Option<Cow<'a, str>>,
}

impl Device<'_> {
    /// A device of which nothing is known.
    pub const NONE: Self = Self {
        id: None,
        platform: None,
        app_version: None,
    };
}

/// The number of fields of the object that has most of them.
const MOST: usize = {
    let counts = [
        Interaction::NAMES.len(),
        Message::NAMES.len(),
        Speech::NAMES.len(),
        Session::NAMES.len(),
        Device::NAMES.len(),
    ];
    let (mut most, mut at) = (0, 0);
    while at < counts.len() {
        if counts[at] > most {
            most = counts[at];
        }
        at += 1;
    }
    most
};

/// What was sent of an object: the value of each field, in the order of its declaration.
pub(crate) type Values<'a> = [Option<Value<'a>>; MOST];

/// Sorts the members of an object by these names. A member without one of these names is given to `unknown`.
pub(crate) fn values<'a>(
    names: &[&str],
    pairs: Pairs<'a>,
    mut unknown: impl FnMut(&str),
) -> Values<'a> {
    let mut values = [const { None }; MOST];
    for (key, value) in pairs {
        if matches!(value, Value::Null) {
            continue;
        }
        match names.iter().position(|name| *name == key) {
            Some(index) => values[index] = Some(value),
            None => unknown(&key),
        }
    }
    values
}

/// Unicode scalars of a text.
fn count_chars(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// Words of a text, separated by white space.
fn count_words(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}
