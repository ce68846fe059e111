//! Events as an app's SDK sends them: about 500 bytes of JSON, the four types mixed.

use chrono::{DateTime, SecondsFormat};
use rand::{Rng, RngCore, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

const LESSONS: &[(&str, &str)] = &[
    ("mathematics", "adding within twenty"),
    ("mathematics", "telling the time"),
    ("reading", "rhyming words"),
    ("reading", "first sentences"),
    ("science", "how plants drink"),
    ("science", "day and night"),
    ("music", "clapping rhythms"),
    ("world", "continents and oceans"),
];

const SAID: &[&str] = &[
    "Why do the leaves turn red when it gets cold outside, and where does the green go?",
    "I think the whale is bigger than the bus because it would not fit into our street.",
    "Can we do the one with the rockets again? I want to try it without the hint this time.",
    "That is a lovely idea! What do you think happens to the water when the sun comes out?",
];

/// Composes events; the same seed gives the same stream but for the clock.
pub(crate) struct Author {
    rng: ChaCha8Rng,
}

/// A child at its tablet for a few minutes.
pub(crate) struct Visit {
    pub(crate) child: Uuid,
    session: Uuid,
    conversation: Uuid,
    audio: Uuid,
    device: u32,
    lessons: [(&'static str, &'static str); 2],
    sequence: u32,
    events: u32,
    /// Unix milliseconds of the last event.
    pub(crate) at: i64,
}

impl Author {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(crate) fn id(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A visit that began at `at`, Unix milliseconds.
    pub(crate) fn visit(&mut self, child: Uuid, at: i64) -> Visit {
        let lesson = |rng: &mut ChaCha8Rng| LESSONS.choose(rng).copied().unwrap_or(LESSONS[0]);
        Visit {
            child,
            session: self.id(),
            conversation: self.id(),
            audio: self.id(),
            device: self.rng.random(),
            lessons: [lesson(&mut self.rng), lesson(&mut self.rng)],
            sequence: 0,
            events: 0,
            at,
        }
    }

    /// So many events of a visit that began at `at`.
    pub(crate) fn batch(&mut self, child: Uuid, at: i64, events: usize) -> Vec<String> {
        let mut visit = self.visit(child, at);
        (0..events).map(|_| self.event(&mut visit)).collect()
    }

    /// The next event of a visit: half are interactions, a quarter messages, the rest sessions and
    /// speech windows.
    pub(crate) fn event(&mut self, visit: &mut Visit) -> String {
        visit.at += self.rng.random_range(500..4_000);
        visit.events += 1;
        let (kind, data) = match self.rng.random_range(0..20) {
            _ if visit.events == 1 => ("session", self.session("start")),
            0..10 => ("interaction", self.interaction(visit)),
            10..15 => ("message", self.message(visit)),
            15..18 => ("session", self.session("heartbeat")),
            _ => ("speech", self.speech(visit)),
        };
        self.write(visit, kind, &data)
    }

    /// An interaction about a topic.
    pub(crate) fn about(&mut self, visit: &mut Visit, topic: &str) -> String {
        let data = format!(r#""action":"view","subject":"world","topic":"{topic}""#);
        self.write(visit, "interaction", &data)
    }

    fn write(&mut self, visit: &Visit, kind: &str, data: &str) -> String {
        let mut random = [0; 10];
        self.rng.fill_bytes(&mut random);
        let id = uuid::Builder::from_unix_timestamp_millis(visit.at.unsigned_abs(), &random);
        let time = DateTime::from_timestamp_millis(visit.at).unwrap_or_default();
        let attributes = if self.rng.random_ratio(1, 5) {
            let (battery, level) = (self.rng.random_range(5..100), self.rng.random_range(1..30));
            format!(
                r#","attributes":{{"screen":"lesson","battery":0.{battery:02},"level":{level}}}"#
            )
        } else {
            String::new()
        };
        format!(
            r#"{{"id":"{}","type":"{kind}","child_id":"{}","occurred_at":"{}","session_id":"{}","device":{{"id":"tablet-{:08x}","platform":"ios","app_version":"4.12.1"}}{attributes},"data":{{{data}}}}}"#,
            id.into_uuid(),
            visit.child,
            time.to_rfc3339_opts(SecondsFormat::Millis, true),
            visit.session,
            visit.device,
        )
    }

    fn interaction(&mut self, visit: &Visit) -> String {
        let (subject, topic) = visit.lessons[self.rng.random_range(0..2)];
        let activity = self.id();
        let duration = self.rng.random_range(2_000..60_000);
        let (action, more) = match self.rng.random_range(0..10) {
            0 => ("start", String::new()),
            1 => ("hint", String::new()),
            2 => (
                "complete",
                format!(r#","stars":{}"#, self.rng.random_range(1..4)),
            ),
            3 => (
                "rate",
                format!(r#","rating":{}"#, self.rng.random_range(1..6)),
            ),
            _ => {
                let response = self.rng.random_range(400..20_000);
                let right = self.rng.random_ratio(7, 10);
                (
                    "answer",
                    format!(r#","is_correct":{right},"response_time_ms":{response}"#),
                )
            }
        };
        format!(
            r#""action":"{action}","activity_id":"{activity}","subject":"{subject}","topic":"{topic}","duration_ms":{duration},"confidence":0.{:02},"difficulty":{},"xp":{}{more}"#,
            self.rng.random_range(1..100),
            self.rng.random_range(1..6),
            self.rng.random_range(1..20),
        )
    }

    fn message(&mut self, visit: &mut Visit) -> String {
        visit.sequence += 1;
        let role = if visit.sequence % 2 == 1 {
            "user"
        } else {
            "assistant"
        };
        let said = SAID.choose(&mut self.rng).copied().unwrap_or_default();
        format!(
            r#""conversation_id":"{}","sequence":{},"role":"{role}","topic":"{}","content":"{said}","is_question":{},"is_free_form":true,"depth_level":{},"tokens_used":{}"#,
            visit.conversation,
            visit.sequence,
            visit.lessons[0].1,
            self.rng.random_bool(0.4),
            1 + visit.sequence / 3,
            self.rng.random_range(20..400),
        )
    }

    fn speech(&mut self, visit: &Visit) -> String {
        let words = self.rng.random_range(5..90);
        format!(
            r#""audio_session_id":"{}","window_ms":30000,"child_words":{words},"adult_words":{},"child_vocalizations":{},"conversational_turns":{},"utterances":{},"unique_words":{},"new_words":{},"snr_db":{}.5,"language":"en-GB","model_version":"hear-2.3.0""#,
            visit.audio,
            self.rng.random_range(0..120),
            self.rng.random_range(0..12),
            self.rng.random_range(0..9),
            self.rng.random_range(1..20),
            words / 2 + 1,
            self.rng.random_range(0..3),
            self.rng.random_range(5..40),
        )
    }

    fn session(&mut self, action: &str) -> String {
        let active = self.rng.random_range(1_000..30_000);
        format!(
            r#""action":"{action}","active_ms":{active},"kind":"learning","device_type":"tablet""#
        )
    }
}
