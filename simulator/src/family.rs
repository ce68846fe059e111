//! Who the simulated families are: zones, consents, children with habits, and their devices.

use rand::{Rng, RngCore, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rivulet_zones::Zone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Subjects and their topics; some outside ASCII, so that sorting by bytes shows.
pub(crate) const SUBJECTS: [(&str, [&str; 4]); 6] = [
    ("math", ["fractions", "counting", "shapes", "Brüche"]),
    ("reading", ["phonics", "rhymes", "stories", "Zungenbrecher"]),
    ("science", ["volcanoes", "planets", "insects", "água"]),
    ("languages", ["saludos", "colours", "ひらがな", "animals"]),
    ("music", ["rhythm", "notes", "instruments", "songs"]),
    ("nature", ["forests", "rivers", "weather", "bees"]),
];

/// Zones with daylight saving (northern, southern, half an hour, reversed), both sides of the date
/// line, and offsets of 30 and 45 minutes.
const ZONES: [&str; 20] = [
    "Europe/Rome",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "America/Los_Angeles",
    "Asia/Tokyo",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Europe/London",
    "Pacific/Chatham",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "America/Santiago",
    "Africa/Lagos",
    "Asia/Beirut",
    "Atlantic/Azores",
    "Pacific/Apia",
];

/// What a parent granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consents {
    /// Any processing at all.
    pub coppa: bool,
    /// Speech events.
    pub audio: bool,
    /// History for BI.
    pub analytics: bool,
}

/// A parent with children.
#[derive(Clone, Debug)]
pub struct Family {
    /// The parent's id.
    pub parent_id: Uuid,
    /// The parent's zone.
    pub timezone: Zone,
    /// What the parent granted.
    pub consents: Consents,
    /// `false`: the backend forgot to register it; its events must be refused.
    pub registered: bool,
    /// One to three.
    pub children: Vec<Child>,
}

/// A child, its habits and devices.
#[derive(Clone, Debug)]
pub struct Child {
    /// The child's id.
    pub id: Uuid,
    /// One of the age groups of docs/contract.md, "Registry".
    pub age_group: &'static str,
    /// What it does when.
    pub habit: Habit,
    /// One or two.
    pub devices: Vec<Device>,
}

/// How a child uses the app.
#[derive(Clone, Debug)]
pub struct Habit {
    /// Chance of a weekday with the app, 0..=1; near 1 makes long streaks.
    pub regularity: f64,
    /// The same for a Saturday or Sunday.
    pub weekend: f64,
    /// Local hour it likes best.
    pub hour: u32,
    /// Days before the start with a holiday from the app: first and last.
    pub holiday: (u32, u32),
    /// Lessons or talks in a session, at least 1.
    pub attention: u32,
    /// Index of the favourite subject.
    pub favourite: usize,
    /// Chance of a right answer on a new topic.
    pub talent: f64,
}

/// How a device's clock and its SDK behave.
#[derive(Clone, Debug)]
pub struct Device {
    /// The app's id for it.
    pub id: String,
    /// One of the platforms of docs/contract.md, "Events".
    pub platform: &'static str,
    /// One of the device types of docs/sending-events.md, "Fields".
    pub device_type: &'static str,
    /// Version of the app.
    pub app_version: &'static str,
    /// The device's clock minus the true one, milliseconds.
    pub clock_off_ms: i64,
    /// Whether its SDK says `sent_at`.
    pub says_sent_at: bool,
    /// UUIDv7 ids by its own clock, else random ones.
    pub ids_by_time: bool,
    /// Newline-delimited bodies.
    pub ndjson: bool,
    /// Content-Encoding of its bodies.
    pub encoding: Encoding,
    /// Events it collects before it sends.
    pub batch: usize,
}

/// Content-Encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
    /// `deflate`
    Deflate,
}

/// Families with `children` children in all, the same for the same generator.
pub fn families(rng: &mut ChaCha8Rng, children: usize, batch: usize) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut left = children;
    while left > 0 {
        let number = families.len();
        let size = rng.random_range(1..=3).min(left);
        left -= size;
        // The odd ones are at fixed places, so that a few dozen children have all of them.
        let all = Consents {
            coppa: true,
            audio: true,
            analytics: true,
        };
        let consents = match number % 24 {
            3 | 15 => Consents {
                analytics: false,
                ..all
            },
            5 | 17 => Consents {
                audio: false,
                ..all
            },
            9 => Consents {
                audio: false,
                analytics: false,
                ..all
            },
            7 => Consents {
                coppa: false,
                ..all
            },
            _ => all,
        };
        families.push(Family {
            parent_id: random_id(rng),
            timezone: Zone::named(ZONES[number % ZONES.len()]).unwrap_or_else(Zone::utc),
            consents,
            registered: number % 24 != 11,
            children: (0..size).map(|_| child(rng, batch)).collect(),
        });
    }
    families
}

/// A random (version 4) id.
pub(crate) fn random_id(rng: &mut ChaCha8Rng) -> Uuid {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn child(rng: &mut ChaCha8Rng, batch: usize) -> Child {
    let id = random_id(rng);
    let regularity = match rng.random_range(0..10) {
        0..=2 => 1.0,
        3..=5 => 0.9,
        6..=8 => 0.55,
        _ => 0.2,
    };
    let holiday = rng.random_range(3..60);
    Child {
        id,
        age_group: pick(rng, &["wonder_cubs", "curious_explorers", "mind_masters"]),
        habit: Habit {
            regularity,
            weekend: if rng.random_bool(0.3) {
                0.1
            } else {
                regularity
            },
            hour: pick(rng, &[7, 9, 15, 16, 16, 17, 18, 19, 20, 23]),
            holiday: (holiday, holiday + rng.random_range(0..6)),
            attention: rng.random_range(1..=4),
            favourite: rng.random_range(0..SUBJECTS.len()),
            talent: rng.random_range(0.35..0.75),
        },
        devices: (0..rng.random_range(1..=2))
            .map(|_| device(rng, batch))
            .collect(),
    }
}

fn device(rng: &mut ChaCha8Rng, batch: usize) -> Device {
    let (platform, device_type) = pick(
        rng,
        &[
            ("ios", "tablet"),
            ("ios", "mobile"),
            ("android", "tablet"),
            ("android", "mobile"),
            ("web", "desktop"),
            ("other", "unknown"),
        ],
    );
    let (clock_off_ms, says_sent_at) = clock(rng);
    Device {
        id: format!("dev-{:08x}", rng.next_u32()),
        platform,
        device_type,
        // The beta sends fields that docs/contract.md, "Events", does not have.
        app_version: pick(rng, &["4.2.0", "4.2.1", "4.3.0", "5.0.0-beta"]),
        clock_off_ms,
        says_sent_at,
        ids_by_time: rng.random_bool(0.8),
        ndjson: rng.random_bool(0.1),
        encoding: match rng.random_range(0..20) {
            0..=5 => Encoding::Gzip,
            6..=8 => Encoding::Zstd,
            9 => Encoding::Deflate,
            _ => Encoding::Identity,
        },
        batch: rng.random_range(1..=batch.max(1)),
    }
}

/// How far off, and whether `sent_at` gives it away.
fn clock(rng: &mut ChaCha8Rng) -> (i64, bool) {
    const SECOND: i64 = 1_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match rng.random_range(0..100) {
        0..=69 => (
            rng.random_range(-2 * SECOND..=2 * SECOND),
            rng.random_bool(0.7),
        ),
        70..=77 => (
            rng.random_range(-50 * SECOND..=50 * SECOND),
            rng.random_bool(0.7),
        ),
        78..=83 => (-rng.random_range(2 * MINUTE..12 * HOUR), true),
        84..=88 => (rng.random_range(2 * MINUTE..12 * HOUR), true),
        89..=91 => (-rng.random_range(DAY..3 * DAY), true),
        // Reset to when the tablet was made: the id-day is 1970-01-01, `sent_at` corrects their event times.
        92..=93 => (-rng.random_range(2_200 * DAY..2_400 * DAY), true),
        // Days, weeks or years off, so that the id-day is far from the day of arrival.
        94..=95 => match rng.random_range(0..4) {
            0 => (rng.random_range(2 * DAY..20 * DAY), true),
            1 => (-rng.random_range(35 * DAY..90 * DAY), true),
            2 => (rng.random_range(400 * DAY..800 * DAY), true),
            _ => (rng.random_range(4_200 * DAY..5_000 * DAY), true),
        },
        // Wrong and silent: taken at its word, or refused.
        96..=97 => (-rng.random_range(10 * MINUTE..6 * HOUR), false),
        98 => (rng.random_range(10 * MINUTE..6 * HOUR), false),
        _ => (-rng.random_range(2_200 * DAY..2_400 * DAY), false),
    }
}

/// One of a few.
pub(crate) fn pick<T: Copy>(rng: &mut ChaCha8Rng, few: &[T]) -> T {
    #[expect(
        clippy::expect_used,
        reason = "every caller passes a list that is not empty"
    )]
    *few.choose(rng).expect("not empty")
}
