//! What happens in one session of a child with the app, step by step.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::family::{Device, Habit, SUBJECTS, pick, random_id};

/// Topics in all, the length of a [`Skills`].
pub(crate) const TOPICS: usize = SUBJECTS.len() * SUBJECTS[0].1.len();

/// Answers a child has given so far, by topic: what makes it better.
pub(crate) type Skills = [u32; TOPICS];

/// What children say. The text must go no further than ingest, so a test looks for these phrases
/// in logs and stores.
pub const CHILD_PHRASES: [&str; 6] = [
    "why do volcanoes get so very angry",
    "my grandma's cat is called Pumpernickel",
    "¿por qué el cielo nunca se cae?",
    "is seven bigger than a hungry dinosaur",
    "なぜ月はついてくるの",
    "I had a dream about a purple submarine",
];

/// What the assistant answers; see [`CHILD_PHRASES`].
pub const ASSISTANT_PHRASES: [&str; 4] = [
    "What a wonderful thing to wonder about!",
    "Let us find out together, step by step.",
    "Imagine a pot of soup that is too hot inside the mountain.",
    "Almost! Look at the bottom number once more.",
];

/// One event of a session, not yet given an id and a time.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Time since the step before, milliseconds.
    pub(crate) gap_ms: i64,
    /// The event's type.
    pub(crate) kind: &'static str,
    /// The event's `data`.
    pub(crate) data: Value,
}

/// Everything of one session, from `start` to `end`.
pub(crate) fn session(
    rng: &mut ChaCha8Rng,
    habit: &Habit,
    device: &Device,
    audio: bool,
    skills: &mut Skills,
) -> Vec<Step> {
    let mut inner = Vec::new();
    let kind = pick(
        rng,
        &[
            "learning", "learning", "play", "story", "quiz", "review", "other",
        ],
    );
    for _ in 0..rng.random_range(1..=habit.attention) {
        match rng.random_range(0..10) {
            0..=5 => lesson(rng, habit, skills, &mut inner),
            6..=8 => conversation(rng, habit, &mut inner),
            _ if audio => speech(rng, &mut inner),
            _ => {}
        }
    }
    let mut steps = vec![session_step(0, "start", 0, kind, device)];
    let mut unreported = 0;
    for step in inner {
        unreported += step.gap_ms;
        steps.push(step);
        if unreported > 60_000 {
            if rng.random_bool(0.1) {
                steps.push(session_step(500, "pause", unreported + 500, kind, device));
                let away = rng.random_range(20_000..900_000);
                steps.push(session_step(away, "resume", 0, kind, device));
            } else {
                steps.push(session_step(0, "heartbeat", unreported, kind, device));
            }
            unreported = 0;
        }
    }
    steps.push(session_step(1_500, "end", unreported + 1_500, kind, device));
    if device.app_version.ends_with("beta") {
        for step in &mut steps {
            if rng.random_bool(0.2) {
                step.data["frame_rate"] = json!(60);
            }
        }
    }
    steps
}

fn session_step(gap_ms: i64, action: &str, active_ms: i64, kind: &str, device: &Device) -> Step {
    let active_ms = active_ms.min(600_000);
    let data = json!({
        "action": action, "active_ms": active_ms, "kind": kind, "device_type": device.device_type,
    });
    Step {
        gap_ms,
        kind: "session",
        data,
    }
}

fn lesson(rng: &mut ChaCha8Rng, habit: &Habit, skills: &mut Skills, steps: &mut Vec<Step>) {
    let subject = if rng.random_bool(0.6) {
        habit.favourite
    } else {
        rng.random_range(0..SUBJECTS.len())
    };
    let (name, topics) = SUBJECTS[subject];
    let topic = rng.random_range(0..topics.len());
    let answered = &mut skills[subject * topics.len() + topic];
    let activity = random_id(rng);
    let difficulty = rng.random_range(1..=5);
    // A free game has no subject: it counts as `general`.
    let free = rng.random_bool(0.05);
    let interaction = |steps: &mut Vec<Step>, gap_ms: i64, mut data: Value| {
        data["activity_id"] = json!(activity);
        if !free {
            data["subject"] = json!(name);
            data["topic"] = json!(topics[topic]);
        }
        steps.push(Step {
            gap_ms,
            kind: "interaction",
            data,
        });
    };
    let view = rng.random_range(1_000..20_000);
    interaction(steps, view, json!({"action": "view", "duration_ms": view}));
    interaction(
        steps,
        800,
        json!({"action": "start", "difficulty": difficulty}),
    );
    let (mut spent, mut right) = (0, 0);
    let questions = rng.random_range(3..=8);
    for _ in 0..questions {
        let skill = habit.talent + (1.0 - habit.talent) * (f64::from(*answered) / 60.0).min(0.9);
        let chance = (skill - 0.06 * f64::from(difficulty - 2)).clamp(0.05, 0.98);
        let mut took: i64 = rng.random_range(1_500..12_000) + ((1.0 - skill) * 8_000.0) as i64;
        if rng.random_bool((1.0 - chance) * 0.4) {
            interaction(steps, took, json!({"action": "hint", "duration_ms": took}));
            spent += took;
            took /= 2;
        }
        if rng.random_bool(0.04) {
            interaction(
                steps,
                took,
                json!({"action": "skip", "response_time_ms": took}),
            );
            continue;
        }
        let correct = rng.random_bool(chance);
        right += i64::from(correct);
        *answered += 1;
        let mut data = json!({"action": "answer", "is_correct": correct, "duration_ms": took});
        if rng.random_bool(0.95) {
            data["response_time_ms"] = json!(took);
        }
        if rng.random_bool(0.3) {
            data["confidence"] = json!(f64::from(rng.random_range(0..=1_000)) / 1_000.0);
        }
        if rng.random_bool(0.5) {
            data["difficulty"] = json!(difficulty);
        }
        interaction(steps, took, data);
        spent += took;
    }
    if rng.random_bool(0.85) {
        let stars = 3 * right / questions;
        let xp = 10 * right;
        let data = json!({"action": "complete", "duration_ms": spent, "xp": xp, "stars": stars});
        interaction(steps, 1_200, data);
        if rng.random_bool(0.1) {
            let badge = pick(
                rng,
                &["first-steps", "bee-friend", "Löwenherz", "night-owl"],
            );
            interaction(
                steps,
                400,
                json!({"action": "reward", "badge": badge, "xp": 50}),
            );
        }
        if rng.random_bool(0.25) {
            let rating = rng.random_range(2..=5);
            interaction(steps, 2_500, json!({"action": "rate", "rating": rating}));
        }
    }
}

fn conversation(rng: &mut ChaCha8Rng, habit: &Habit, steps: &mut Vec<Step>) {
    let id = random_id(rng);
    let (_, topics) = SUBJECTS[habit.favourite];
    let topic = rng.random_bool(0.9).then(|| pick(rng, &topics));
    let mut sequence = 0;
    let mut say = |steps: &mut Vec<Step>, gap_ms: i64, role: &str, mut data: Value| {
        sequence += 1;
        data["conversation_id"] = json!(id);
        data["sequence"] = json!(sequence);
        data["role"] = json!(role);
        if let Some(topic) = topic {
            data["topic"] = json!(topic);
        }
        steps.push(Step {
            gap_ms,
            kind: "message",
            data,
        });
    };
    if rng.random_bool(0.2) {
        say(steps, 300, "system", json!({"tokens_used": 40}));
    }
    let mut depth = 1;
    for _ in 0..rng.random_range(2..=7) {
        let mut child = json!({
            "is_question": rng.random_bool(0.5), "is_free_form": rng.random_bool(0.7),
            "depth_level": depth,
        });
        if child["is_free_form"] == json!(true) {
            child["content"] = json!(pick(rng, &CHILD_PHRASES));
        } else {
            child["selected_choice"] = json!(rng.random_range(0..4));
        }
        if rng.random_bool(0.08) {
            child["aha_moment"] = json!(true);
        }
        if rng.random_bool(0.02) {
            child["was_filtered"] = json!(true);
            child["filter_reason"] = json!("personal_data");
        }
        say(steps, rng.random_range(3_000..20_000), "user", child);
        let thought = rng.random_range(400..3_000);
        let answer = json!({
            "content": pick(rng, &ASSISTANT_PHRASES), "tokens_used": rng.random_range(60..400),
            "processing_time_ms": thought, "depth_level": depth,
        });
        say(steps, thought, "assistant", answer);
        depth += i32::from(rng.random_bool(0.6));
    }
}

fn speech(rng: &mut ChaCha8Rng, steps: &mut Vec<Step>) {
    let id = random_id(rng);
    let language = pick(rng, &["en", "it", "pt-BR", "ja", "de-CH"]);
    for _ in 0..rng.random_range(1..=4) {
        let window = rng.random_range(30_000..300_000);
        // A silent window is a window, but no activity.
        let child_words = if rng.random_bool(0.15) {
            0
        } else {
            rng.random_range(5..160)
        };
        let mut data = json!({
            "audio_session_id": id, "window_ms": window, "child_words": child_words,
            "adult_words": rng.random_range(0..240), "utterances": child_words / 4,
            "conversational_turns": rng.random_range(0..30), "unique_words": child_words * 2 / 3,
            "child_vocalizations": rng.random_range(0..20), "new_words": rng.random_range(0..4),
            "language": language, "model_version": "vad-2.3",
        });
        if rng.random_bool(0.8) {
            data["snr_db"] = json!(f64::from(rng.random_range(-50..400)) / 10.0);
        }
        steps.push(Step {
            gap_ms: window,
            kind: "speech",
            data,
        });
    }
}
