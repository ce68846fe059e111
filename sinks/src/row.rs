//! A record as one row of the table `events`, in `RowBinaryWithNamesAndTypes`.
//!
//! Written by hand rather than through serde: a column of another event type is not sent at all
//! (the server fills in NULL), the columns that say where a row came from are encoded once a
//! partition, and the first bytes of a row have a fixed layout, so that a row's identity and
//! offset can be read back from it and need no memory of their own.

use chrono::NaiveDate;
use rivulet_events::{
    AttributeValue, ChildId, ConsentVersion, Consented, Device, EventType, Identity, Record,
    contract::{ColumnWriter, Declaration},
};
use uuid::Uuid;

/// A column: its name and its type as ClickHouse prints it.
pub(crate) type Column = (&'static str, &'static str);

/// The columns every row has, in the order they are sent. The first four are what [`RowHead`] reads.
const COMMON: &[Column] = &[
    ("child_id", "UUID"),
    ("event_id", "UUID"),
    ("id_day", "Date"),
    ("kafka_offset", "UInt64"),
    ("parent_id", "UUID"),
    ("age_group", "LowCardinality(String)"),
    ("session_id", "Nullable(UUID)"),
    ("occurred_at", "DateTime64(3, 'UTC')"),
    ("event_time", "DateTime64(3, 'UTC')"),
    ("received_at", "DateTime64(3, 'UTC')"),
    ("local_date", "Date"),
    ("consent_version", "LowCardinality(Nullable(String))"),
];

const ATTRIBUTES: &[Column] = &[("attributes", "Map(String, String)")];

/// Where a row came from; the same in every row of a partition.
const ORIGIN: &[Column] = &[
    ("event_type", "LowCardinality(String)"),
    ("kafka_topic", "LowCardinality(String)"),
    ("kafka_partition", "Int32"),
    ("topic_incarnation", "LowCardinality(String)"),
];

/// The columns of a row of this type, in the order [`Encoder::row`] writes them.
pub(crate) fn columns(event_type: EventType) -> impl Iterator<Item = Column> {
    let declared = |object: Declaration| {
        let columns = object.columns.iter();
        columns.map(|column| (column.name, column.kind))
    };
    let own = |columns: &'static [Column]| columns.iter().copied();
    own(COMMON)
        .chain(declared(Device::DECLARATION))
        .chain(own(ATTRIBUTES))
        .chain(declared(event_type.declaration()))
        .chain(own(ORIGIN))
}

/// What goes before the rows of an insert. ClickHouse compares it with the table, so that a column
/// somebody has altered is an error and not a misread value.
pub(crate) fn header(event_type: EventType) -> Vec<u8> {
    let mut out = Vec::new();
    length(&mut out, columns(event_type).count());
    columns(event_type).for_each(|(name, _)| string(&mut out, name));
    columns(event_type).for_each(|(_, kind)| string(&mut out, kind));
    out
}

const DAY_MS: i64 = 86_400_000;

/// Encodes the rows of one partition.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The [`ORIGIN`] columns.
    origin: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(
        event_type: EventType,
        topic: &str,
        partition: i32,
        incarnation: &str,
    ) -> Self {
        let mut origin = Vec::new();
        string(&mut origin, event_type.as_str());
        string(&mut origin, topic);
        origin.extend_from_slice(&partition.to_le_bytes());
        string(&mut origin, incarnation);
        Self { origin }
    }

    /// Appends the row of a record that was read at `offset`.
    pub(crate) fn row(
        &self,
        record: Consented<'_, '_>,
        id_day: NaiveDate,
        offset: u64,
        out: &mut Vec<u8>,
    ) {
        let record = record.record();
        uuid(out, record.child_id.uuid());
        uuid(out, record.id);
        date(out, id_day);
        out.extend_from_slice(&offset.to_le_bytes());
        uuid(out, record.parent_id.uuid());
        string(out, record.age_group.as_str());
        nullable(out, record.session_id, uuid);
        instant(out, record.occurred_at);
        instant(out, record.event_time);
        instant(out, record.received_at);
        date(out, record.local_date);
        let version = record.consent_version.as_ref();
        nullable(out, version.map(ConsentVersion::as_str), string);
        let device = record.device.as_ref();
        device
            .unwrap_or(&Device::NONE)
            .write_columns(&mut Nullable(out));
        attributes(out, record);
        record.data.write_columns(&mut Nullable(out));
        out.extend_from_slice(&self.origin);
    }
}

/// What the first bytes of a row say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowHead {
    pub(crate) child: Uuid,
    event_id: Uuid,
    id_day: u16,
    pub(crate) offset: u64,
}

impl RowHead {
    /// Reads the head of a row that [`Encoder::row`] wrote; `None` if it is too short to be one.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let (child, rest) = row.split_first_chunk()?;
        let (event_id, rest) = rest.split_first_chunk()?;
        let (id_day, rest) = rest.split_first_chunk()?;
        let (offset, _) = rest.split_first_chunk()?;
        Some(Self {
            child: read_uuid(*child),
            event_id: read_uuid(*event_id),
            id_day: u16::from_le_bytes(*id_day),
            offset: u64::from_le_bytes(*offset),
        })
    }

    /// `received_at` of a row that [`Encoder::row`] wrote, Unix milliseconds; `None` if it is too short to be one.
    pub(crate) fn received_at(row: &[u8]) -> Option<i64> {
        const PARENT: usize = 16 + 16 + 2 + 8;
        const ID: usize = 16;
        let rest = row.get(PARENT + ID..)?;
        // The word of an age group is shorter than 128 bytes, so its length is one byte.
        let (age_group, rest) = rest.split_first()?;
        let (no_session, rest) = rest.get(usize::from(*age_group)..)?.split_first()?;
        let session = if *no_session == 1 { 0 } else { ID };
        let times = rest.get(session + 2 * size_of::<i64>()..)?;
        Some(i64::from_le_bytes(*times.first_chunk()?))
    }

    /// The key of the event's identity. The midnight of the id-day stands in for `occurred_at`,
    /// of which the identity takes nothing but that day.
    pub(crate) fn key(&self, event_type: EventType) -> [u8; 16] {
        let midnight = i64::from(self.id_day) * DAY_MS;
        Identity::of(
            event_type,
            ChildId::new(self.child),
            self.event_id,
            midnight,
        )
        .key
    }
}

/// Columns that may be NULL.
struct Nullable<'o>(&'o mut Vec<u8>);

impl ColumnWriter for Nullable<'_> {
    fn uuid(&mut self, value: Option<Uuid>) {
        nullable(self.0, value, uuid);
    }
    fn boolean(&mut self, value: Option<bool>) {
        nullable(self.0, value, |out, value| out.push(u8::from(value)));
    }
    fn u8(&mut self, value: Option<u8>) {
        nullable(self.0, value, |out, value| out.push(value));
    }
    fn u16(&mut self, value: Option<u16>) {
        nullable(self.0, value, |out, value| {
            out.extend_from_slice(&value.to_le_bytes())
        });
    }
    fn u32(&mut self, value: Option<u32>) {
        nullable(self.0, value, |out, value| {
            out.extend_from_slice(&value.to_le_bytes())
        });
    }
    fn u64(&mut self, value: Option<u64>) {
        nullable(self.0, value, |out, value| {
            out.extend_from_slice(&value.to_le_bytes())
        });
    }
    fn f64(&mut self, value: Option<f64>) {
        nullable(self.0, value, |out, value| {
            out.extend_from_slice(&value.to_le_bytes())
        });
    }
    fn text(&mut self, value: Option<&str>) {
        nullable(self.0, value, string);
    }
}

/// Numbers and booleans as JSON prints them: analysts read `5`, `0.5`, `true`.
fn attributes(out: &mut Vec<u8>, record: &Record<'_>) {
    length(out, record.attributes.len());
    for (key, value) in &record.attributes {
        string(out, key);
        match value {
            AttributeValue::Bool(value) => string(out, if *value { "true" } else { "false" }),
            AttributeValue::Int(value) => string(out, itoa::Buffer::new().format(*value)),
            // Debug, not Display: the shortest text that reads back, with an exponent where
            // Display would print three hundred zeros.
            AttributeValue::Float(value) => string(out, &format!("{value:?}")),
            AttributeValue::Text(value) => string(out, value),
        }
    }
}

fn nullable<T>(out: &mut Vec<u8>, value: Option<T>, write: impl Fn(&mut Vec<u8>, T)) {
    match value {
        Some(value) => {
            out.push(0);
            write(out, value);
        }
        None => out.push(1),
    }
}

fn string(out: &mut Vec<u8>, value: &str) {
    length(out, value.len());
    out.extend_from_slice(value.as_bytes());
}

/// An unsigned LEB128.
fn length(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Two little-endian 64-bit halves, the high one first.
fn uuid(out: &mut Vec<u8>, value: Uuid) {
    let (high, low) = value.as_u64_pair();
    out.extend_from_slice(&high.to_le_bytes());
    out.extend_from_slice(&low.to_le_bytes());
}

fn read_uuid(bytes: [u8; 16]) -> Uuid {
    let swapped = u128::from_le_bytes(bytes);
    Uuid::from_u128(swapped.rotate_left(64))
}

/// `DateTime64(3)` holds 1900-01-01 to 2299-12-31; a device's clock may say anything.
fn instant(out: &mut Vec<u8>, unix_ms: i64) {
    const FIRST: i64 = -2_208_988_800_000;
    const LAST: i64 = 10_413_791_999_999;
    out.extend_from_slice(&unix_ms.clamp(FIRST, LAST).to_le_bytes());
}

/// Days since 1970-01-01. The type `Date` holds those until 2149, as do records.
fn date(out: &mut Vec<u8>, date: NaiveDate) {
    let days = u16::try_from(date.to_epoch_days()).unwrap_or_default();
    out.extend_from_slice(&days.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_head_reads_back_with_the_identity_of_its_record() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let noon = i64::from(day.to_epoch_days()) * DAY_MS + DAY_MS / 2;
        for id in [
            "0195508a-8f00-7abc-8def-0123456789ab",
            "3b241101-e2bb-4255-8caf-4136c566a962",
        ] {
            let (child, id) = (
                Uuid::from_u128(0x1234_5678_9abc_def0_0fed_cba9_8765_4321),
                Uuid::parse_str(id).unwrap(),
            );
            let identity = Identity::of(EventType::Speech, ChildId::new(child), id, noon);
            let mut row = Vec::new();
            uuid(&mut row, child);
            uuid(&mut row, id);
            date(&mut row, identity.day);
            row.extend_from_slice(&77u64.to_le_bytes());
            let head = RowHead::read(&row).unwrap();
            assert_eq!((head.child, head.offset), (child, 77));
            assert_eq!(head.key(EventType::Speech), identity.key);
        }
        assert!(RowHead::read(&[0; 41]).is_none());
    }

    #[test]
    fn lengths_are_leb128() {
        let encoded = |value| {
            let mut out = Vec::new();
            length(&mut out, value);
            out
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [127]);
        assert_eq!(encoded(128), [0x80, 1]);
        assert_eq!(encoded(300), [0xac, 2]);
    }
}
