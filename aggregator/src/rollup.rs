//! What a batch of events adds to the rollup tables: a commutative merge of integer sums, extremes
//! and sets, so that any order, split or repetition of batches leads to the same rows.
//!
//! Field names are column names; docs/contract.md, "PostgreSQL", and docs/rollups.md say what each counts.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap;
use chrono::NaiveDate;
use rivulet_events::{
    ChildId, Data, EventType, Interaction, InteractionAction, Message, Record, Role, Session,
    SessionAction, data::Speech, sabotage::sabotaged,
};

use crate::text_set::TextSet;

/// The subject of interactions that name none.
pub const GENERAL_SUBJECT: &str = "general";

/// A struct of sums that knows its columns: the statements of this crate are made from the list.
macro_rules! sums {
    ($(#[$doc:meta])* $name:ident { $($column:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = concat!("The column `", stringify!($column), "`.")] pub $column: i64),+
        }

        impl $name {
            /// The columns, in the order of [`Self::values`].
            pub const COLUMNS: &[&str] = &[$(stringify!($column)),+];

            /// The sums, in the order of [`Self::COLUMNS`].
            #[must_use]
            pub fn values(&self) -> [i64; Self::COLUMNS.len()] {
                [$(self.$column),+]
            }

            fn merge(&mut self, other: &Self) {
                $(self.$column += other.$column;)+
            }
        }
    };
}

sums!(
    /// The sums of a row of `daily_child_metrics`.
    DailySums {
        events, sessions, active_ms,
        interactions, starts, answers, correct_answers, hints, skips, completions,
        response_time_ms, response_time_count, xp, stars,
        messages_sent, messages_received, questions_asked, conversations_started,
        aha_moments, messages_filtered, tokens_used,
        speech_windows, speech_ms, child_words, adult_words, conversational_turns,
        child_vocalizations, utterances, new_words,
        qualifying_events, withheld_events, speech_qualifying_events, speech_withheld_events,
    }
);
sums!(
    /// The sums of a row of `learning_analytics`, which is nothing but sums.
    LearningSums {
        interactions, starts, completions, answers, correct_answers, hints, skips,
        response_time_ms, response_time_count, duration_ms,
        difficulty_sum, difficulty_count, rating_sum, rating_count,
        confidence_milli_sum, confidence_count, withheld_events,
    }
);
sums!(
    /// The sums of a row of `topic_progress`.
    TopicSums {
        interactions, answers, correct_answers, duration_ms,
        messages, questions_asked, conversations, withheld_events,
    }
);

/// The first and last `event_time` of a row, Unix milliseconds. Only ever made from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTimes {
    /// Smallest.
    pub first: i64,
    /// Largest.
    pub last: i64,
}

impl EventTimes {
    fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// A child's local day: its row of `daily_child_metrics` and those of `learning_analytics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// The sums of the daily row.
    pub sums: DailySums,
    /// Largest `depth_level`.
    pub max_depth: Option<i64>,
    /// Largest `unique_words`.
    pub max_unique_words: Option<i64>,
    /// Topics of interactions and messages.
    pub topics: TextSet,
    /// Badges won.
    pub badges: TextSet,
    /// Of the first and of the last of its events.
    pub event_times: EventTimes,
    /// The same without speech, which goes when the consent `audio` is withdrawn; `None` where there is nothing else.
    pub other_times: Option<EventTimes>,
    /// By subject.
    pub learning: BTreeMap<Box<str>, Box<LearningSums>>,
}

/// A child's row of `topic_progress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The sums.
    pub sums: TopicSums,
    /// Largest `depth_level`.
    pub max_depth: Option<i64>,
    /// Smallest `event_time` of a message at depth 5 or more.
    pub first_depth_5_at: Option<i64>,
    /// Of the first and of the last of its events.
    pub event_times: EventTimes,
}

/// All of one child. Boxes, because a map has room for eleven values where there is one or two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Child {
    /// By local date.
    pub days: BTreeMap<NaiveDate, Box<Day>>,
    /// By topic.
    pub topics: BTreeMap<Box<str>, Box<Topic>>,
}

/// What a set of events adds to the rollup tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    children: AHashMap<ChildId, Child>,
}

impl Rollup {
    /// Counts one event. The caller sees to it that no event is counted twice.
    pub fn add(&mut self, record: &Record<'_>) {
        let child = self.children.entry(record.child_id).or_default();
        let event_times = EventTimes {
            first: record.event_time,
            last: record.event_time,
        };
        let withheld = i64::from(!record.analytics);
        let day = child
            .days
            .entry(record.local_date)
            .or_insert_with(|| Box::new(Day::new(event_times)));
        day.event_times.merge(event_times);
        if record.event_type != EventType::Speech {
            day.other_times = merged(day.other_times, Some(event_times));
        }
        day.sums.events += 1;
        day.sums.withheld_events += withheld;
        match &record.data {
            Data::Interaction(interaction) => {
                day.interaction(interaction);
                let subject = interaction.subject.as_deref().unwrap_or(GENERAL_SUBJECT);
                let learning = entry(&mut day.learning, subject, Box::default);
                learning.interaction(interaction);
                learning.withheld_events += withheld;
                if let Some(name) = &interaction.topic {
                    day.topics.insert(name);
                    child
                        .topic(name, event_times, withheld)
                        .interaction(interaction);
                }
            }
            Data::Message(message) => {
                day.message(message);
                if let Some(name) = &message.topic {
                    day.topics.insert(name);
                    child
                        .topic(name, event_times, withheld)
                        .message(message, record.event_time);
                }
            }
            Data::Speech(speech) => {
                day.speech(speech);
                day.sums.speech_withheld_events += withheld;
            }
            Data::Session(session) => day.session(session),
        }
    }

    /// Adds what another set of events adds. Commutative and associative.
    pub fn merge(&mut self, other: Self) {
        for (id, theirs) in other.children {
            let ours = self.children.entry(id).or_default();
            for (date, day) in theirs.days {
                match ours.days.get_mut(&date) {
                    Some(mine) => mine.merge(*day),
                    None => drop(ours.days.insert(date, day)),
                }
            }
            for (name, topic) in theirs.topics {
                match ours.topics.get_mut(&name) {
                    Some(mine) => mine.merge(&topic),
                    None => drop(ours.topics.insert(name, topic)),
                }
            }
        }
    }

    /// Takes a child out, as if none of its events had been counted.
    pub fn forget(&mut self, child: ChildId) {
        self.children.remove(&child);
    }

    /// Every local date that has a row.
    pub(crate) fn dates(&self) -> BTreeSet<NaiveDate> {
        self.children
            .values()
            .flat_map(|child| child.days.keys().copied())
            .collect()
    }

    /// Every day of every child, in no order.
    pub(crate) fn days(&self) -> impl Iterator<Item = (ChildId, NaiveDate)> {
        self.children
            .iter()
            .flat_map(|(id, child)| child.days.keys().map(|date| (*id, *date)))
    }

    /// Every child, in the order of its id, which is the order in which rows are locked.
    #[must_use]
    pub fn sorted(&self) -> Vec<(ChildId, &Child)> {
        let mut children: Vec<_> = self
            .children
            .iter()
            .map(|(id, child)| (*id, child))
            .collect();
        if !sabotaged("sorted-keys") {
            children.sort_unstable_by_key(|(id, _)| *id);
        }
        children
    }
}

impl Child {
    fn topic(&mut self, name: &str, event_times: EventTimes, withheld: i64) -> &mut Topic {
        let topic = entry(&mut self.topics, name, || {
            Box::new(Topic {
                sums: TopicSums::default(),
                max_depth: None,
                first_depth_5_at: None,
                event_times,
            })
        });
        topic.event_times.merge(event_times);
        topic.sums.withheld_events += withheld;
        topic
    }
}

impl Day {
    fn new(event_times: EventTimes) -> Self {
        Self {
            sums: DailySums::default(),
            max_depth: None,
            max_unique_words: None,
            topics: TextSet::default(),
            badges: TextSet::default(),
            event_times,
            other_times: None,
            learning: BTreeMap::new(),
        }
    }

    fn interaction(&mut self, event: &Interaction<'_>) {
        let sums = &mut self.sums;
        sums.interactions += 1;
        sums.qualifying_events += i64::from(event.action != InteractionAction::View);
        sums.xp += event.xp.map_or(0, i64::from);
        sums.stars += event.stars.map_or(0, i64::from);
        match event.action {
            InteractionAction::Start => sums.starts += 1,
            InteractionAction::Answer => {
                sums.answers += 1;
                sums.correct_answers += i64::from(event.is_correct == Some(true));
                sums.response_time_ms += event.response_time_ms.map_or(0, i64::from);
                sums.response_time_count += i64::from(event.response_time_ms.is_some());
            }
            InteractionAction::Hint => sums.hints += 1,
            InteractionAction::Skip => sums.skips += 1,
            InteractionAction::Complete => sums.completions += 1,
            InteractionAction::View | InteractionAction::Rate | InteractionAction::Reward => {}
        }
        if let Some(badge) = &event.badge {
            self.badges.insert(badge);
        }
    }

    fn message(&mut self, event: &Message<'_>) {
        let sums = &mut self.sums;
        match event.role {
            Role::User => {
                sums.messages_sent += 1;
                sums.qualifying_events += 1;
                sums.questions_asked += i64::from(event.is_question);
            }
            Role::Assistant => sums.messages_received += 1,
            Role::System => {}
        }
        sums.conversations_started += i64::from(event.sequence == 1);
        sums.aha_moments += i64::from(event.aha_moment);
        sums.messages_filtered += i64::from(event.was_filtered);
        sums.tokens_used += event.tokens_used.map_or(0, i64::from);
        self.max_depth = self.max_depth.max(event.depth_level.map(i64::from));
    }

    fn speech(&mut self, event: &Speech<'_>) {
        let sums = &mut self.sums;
        sums.speech_windows += 1;
        sums.speech_ms += i64::from(event.window_ms);
        sums.child_words += i64::from(event.child_words);
        sums.adult_words += i64::from(event.adult_words);
        sums.conversational_turns += i64::from(event.conversational_turns);
        sums.child_vocalizations += i64::from(event.child_vocalizations);
        sums.utterances += i64::from(event.utterances);
        sums.new_words += i64::from(event.new_words);
        let qualifies = i64::from(event.child_words > 0);
        sums.qualifying_events += qualifies;
        sums.speech_qualifying_events += qualifies;
        self.max_unique_words = self
            .max_unique_words
            .max(Some(i64::from(event.unique_words)));
    }

    fn session(&mut self, event: &Session) {
        self.sums.sessions += i64::from(event.action == SessionAction::Start);
        self.sums.active_ms += i64::from(event.active_ms);
    }

    fn merge(&mut self, other: Self) {
        self.sums.merge(&other.sums);
        self.max_depth = self.max_depth.max(other.max_depth);
        self.max_unique_words = self.max_unique_words.max(other.max_unique_words);
        self.topics.merge(other.topics);
        self.badges.merge(other.badges);
        self.event_times.merge(other.event_times);
        self.other_times = merged(self.other_times, other.other_times);
        for (subject, sums) in other.learning {
            self.learning.entry(subject).or_default().merge(&sums);
        }
    }
}

impl LearningSums {
    fn interaction(&mut self, event: &Interaction<'_>) {
        self.interactions += 1;
        match event.action {
            InteractionAction::Start => self.starts += 1,
            InteractionAction::Complete => self.completions += 1,
            InteractionAction::Answer => {
                self.answers += 1;
                self.correct_answers += i64::from(event.is_correct == Some(true));
                self.response_time_ms += event.response_time_ms.map_or(0, i64::from);
                self.response_time_count += i64::from(event.response_time_ms.is_some());
            }
            InteractionAction::Hint => self.hints += 1,
            InteractionAction::Skip => self.skips += 1,
            InteractionAction::View | InteractionAction::Rate | InteractionAction::Reward => {}
        }
        self.duration_ms += event.duration_ms.map_or(0, i64::from);
        self.difficulty_sum += event.difficulty.map_or(0, i64::from);
        self.difficulty_count += i64::from(event.difficulty.is_some());
        self.rating_sum += event.rating.map_or(0, i64::from);
        self.rating_count += i64::from(event.rating.is_some());
        self.confidence_milli_sum += event.confidence.map_or(0, confidence_milli);
        self.confidence_count += i64::from(event.confidence.is_some());
    }
}

impl Topic {
    fn interaction(&mut self, event: &Interaction<'_>) {
        let sums = &mut self.sums;
        sums.interactions += 1;
        sums.answers += i64::from(event.action == InteractionAction::Answer);
        sums.correct_answers +=
            i64::from(event.action == InteractionAction::Answer && event.is_correct == Some(true));
        sums.duration_ms += event.duration_ms.map_or(0, i64::from);
    }

    fn message(&mut self, event: &Message<'_>, event_time: i64) {
        let sums = &mut self.sums;
        sums.messages += 1;
        sums.questions_asked += i64::from(event.role == Role::User && event.is_question);
        sums.conversations += i64::from(event.sequence == 1);
        self.max_depth = self.max_depth.max(event.depth_level.map(i64::from));
        if event.depth_level.is_some_and(|depth| depth >= 5) {
            self.first_depth_5_at = earliest(self.first_depth_5_at, Some(event_time));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sums.merge(&other.sums);
        self.max_depth = self.max_depth.max(other.max_depth);
        self.first_depth_5_at = earliest(self.first_depth_5_at, other.first_depth_5_at);
        self.event_times.merge(other.event_times);
    }
}

/// `confidence` times 1 000, rounded half away from zero, of a finite `confidence` of 0..=1.
///
/// It rounds the number as it was written, that is its shortest decimal: 0.2345 is 235, though
/// the nearest `f64` times 1 000 is 234.49999999999997.
#[must_use]
pub fn confidence_milli(confidence: f64) -> i64 {
    let milli = confidence * 1000.0;
    // Unless it is near a tie, both ways of rounding give the same.
    if (milli.fract() - 0.5).abs() > 1e-6 {
        return milli.round() as i64;
    }
    // `Display` of an f64 is the shortest decimal that reads back the same, never with an exponent.
    let decimal = confidence.to_string();
    let (whole, fraction) = decimal.split_once('.').unwrap_or((&decimal, ""));
    let digit =
        |place: usize| i64::from(fraction.as_bytes().get(place).map_or(0, |byte| byte - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    i64::from(whole == "1") * 1000 + thousandths + i64::from(digit(3) >= 5)
}

/// The times of both, as far as there are any.
fn merged(a: Option<EventTimes>, b: Option<EventTimes>) -> Option<EventTimes> {
    a.into_iter().chain(b).reduce(|mut a, b| {
        a.merge(b);
        a
    })
}

/// The smaller of two times; for `Option`'s own order `None` would be the smallest.
fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

/// `entry` that copies the key only when it is new.
fn entry<'m, V>(
    map: &'m mut BTreeMap<Box<str>, V>,
    key: &str,
    new: impl FnOnce() -> V,
) -> &'m mut V {
    if !map.contains_key(key) {
        map.insert(key.into(), new());
    }
    #[expect(clippy::expect_used, reason = "inserted above when it was not there")]
    map.get_mut(key).expect("there")
}
