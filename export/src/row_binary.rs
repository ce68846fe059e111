//! ClickHouse's format RowBinary, as far as the columns of the history need it, and its values as JSON and CSV.

use std::{borrow::Cow, io::Write as _};

use chrono::{DateTime, Days, NaiveDate, SecondsFormat};
use serde_json::to_writer;
use uuid::Uuid;

use crate::{csv, fields::Kind};

/// How a value is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Uuid,
    Text,
    Bool,
    /// Unsigned, of so many bytes.
    Unsigned(usize),
    /// Signed, of so many bytes.
    Signed(usize),
    Float,
    /// Days since 1970.
    Date,
    /// Milliseconds since 1970.
    Millis,
    /// Text by text.
    Map,
}

/// A type of ClickHouse: how it is sent and whether it may be NULL. `None` for those that are asked for as text.
pub(crate) fn wire(kind: &str) -> Option<(Wire, bool)> {
    if let Some(inner) = inside(kind, "LowCardinality") {
        return wire(inner);
    }
    if let Some(inner) = inside(kind, "Nullable") {
        return wire(inner).map(|(wire, _)| (wire, true));
    }
    let wire = match kind {
        "UUID" => Wire::Uuid,
        "String" => Wire::Text,
        "Bool" => Wire::Bool,
        "UInt8" => Wire::Unsigned(1),
        "UInt16" => Wire::Unsigned(2),
        "UInt32" => Wire::Unsigned(4),
        "UInt64" => Wire::Unsigned(8),
        "Int8" => Wire::Signed(1),
        "Int16" => Wire::Signed(2),
        "Int32" => Wire::Signed(4),
        "Int64" => Wire::Signed(8),
        "Float64" => Wire::Float,
        "Date" => Wire::Date,
        "DateTime64(3, 'UTC')" => Wire::Millis,
        "Map(String, String)" => Wire::Map,
        _ => return None,
    };
    Some((wire, false))
}

fn inside<'a>(kind: &'a str, outer: &str) -> Option<&'a str> {
    kind.strip_prefix(outer)?
        .strip_prefix('(')?
        .strip_suffix(')')
}

impl Wire {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Uuid => Kind::Uuid,
            Self::Text => Kind::Text,
            Self::Bool => Kind::Boolean,
            Self::Unsigned(_) | Self::Signed(_) => Kind::Integer,
            Self::Float => Kind::Number,
            Self::Date => Kind::Date,
            Self::Millis => Kind::Time,
            Self::Map => Kind::Map,
        }
    }
}

/// A value that was sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Sent<'a> {
    Null,
    Uuid(Uuid),
    Text(Cow<'a, str>),
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Date(u16),
    Millis(i64),
    Map(Vec<(Cow<'a, str>, Cow<'a, str>)>),
}

/// Takes the next value off the bytes; `None` where they end before it does.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], wire: Wire, nullable: bool) -> Option<Sent<'a>> {
    if nullable && take_array::<1>(bytes)? == [1] {
        return Some(Sent::Null);
    }
    Some(match wire {
        // Two little-endian halves, the high one first.
        Wire::Uuid => {
            let swapped = u128::from_le_bytes(take_array(bytes)?);
            Sent::Uuid(Uuid::from_u128(swapped.rotate_left(64)))
        }
        Wire::Text => Sent::Text(take_text(bytes)?),
        Wire::Bool => Sent::Bool(take_array::<1>(bytes)? != [0]),
        Wire::Unsigned(length) => {
            let mut wide = [0; 8];
            wide[..length].copy_from_slice(bytes.split_off(..length)?);
            Sent::Unsigned(u64::from_le_bytes(wide))
        }
        Wire::Signed(length) => {
            let sent = bytes.split_off(..length)?;
            let is_negative = sent.last().is_some_and(|last| last & 0x80 != 0);
            let mut wide = if is_negative { [0xff; 8] } else { [0; 8] };
            wide[..length].copy_from_slice(sent);
            Sent::Signed(i64::from_le_bytes(wide))
        }
        Wire::Float => Sent::Float(f64::from_le_bytes(take_array(bytes)?)),
        Wire::Date => Sent::Date(u16::from_le_bytes(take_array(bytes)?)),
        Wire::Millis => Sent::Millis(i64::from_le_bytes(take_array(bytes)?)),
        Wire::Map => {
            let pairs = take_length(bytes)?;
            let mut map = Vec::new();
            for _ in 0..pairs {
                map.push((take_text(bytes)?, take_text(bytes)?));
            }
            Sent::Map(map)
        }
    })
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<Cow<'a, str>> {
    let length = take_length(bytes)?;
    Some(String::from_utf8_lossy(bytes.split_off(..length)?))
}

/// An unsigned LEB128.
fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let (mut value, mut shift) = (0_usize, 0);
    loop {
        let [byte] = take_array(bytes)?;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

impl Sent<'_> {
    /// Appends it as JSON.
    pub(crate) fn json(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Text(text) => to_writer(out, text)?,
            Self::Float(number) => to_writer(out, number)?,
            Self::Map(map) => {
                out.push(b'{');
                for (index, (name, value)) in map.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    to_writer(&mut *out, name)?;
                    out.push(b':');
                    to_writer(&mut *out, value)?;
                }
                out.push(b'}');
            }
            Self::Bool(_) | Self::Unsigned(_) | Self::Signed(_) => self.plain(out)?,
            Self::Uuid(_) | Self::Date(_) | Self::Millis(_) => {
                out.push(b'"');
                self.plain(out)?;
                out.push(b'"');
            }
        }
        Ok(())
    }

    /// Appends it as a cell of CSV.
    pub(crate) fn csv(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Null => {}
            Self::Text(text) => csv::guarded(out, text),
            Self::Map(_) => {
                let mut json = Vec::new();
                self.json(&mut json)?;
                csv::cell(out, &json);
            }
            Self::Float(_) => self.json(out)?,
            _ => self.plain(out)?,
        }
        Ok(())
    }

    /// What needs no quotes.
    fn plain(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Self::Uuid(id) => write!(out, "{id}"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Unsigned(number) => write!(out, "{number}"),
            Self::Signed(number) => write!(out, "{number}"),
            Self::Date(days) => {
                let date = NaiveDate::default().checked_add_days(Days::new((*days).into()));
                write!(out, "{}", date.unwrap_or_default())
            }
            Self::Millis(millis) => out.write_all(time(*millis).as_bytes()),
            _ => Ok(()),
        }
    }
}

/// RFC 3339, to the millisecond.
pub(crate) fn time(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_seen_through_their_wrappers() {
        assert_eq!(
            wire("LowCardinality(Nullable(String))"),
            Some((Wire::Text, true))
        );
        assert_eq!(wire("Nullable(UInt16)"), Some((Wire::Unsigned(2), true)));
        assert_eq!(wire("DateTime64(3, 'UTC')"), Some((Wire::Millis, false)));
        assert_eq!(wire("Array(String)"), None);
        assert_eq!(wire("Nullable(Decimal(9, 2))"), None);
    }

    #[test]
    fn values_read_back_and_one_that_is_cut_is_not_read() {
        let id = Uuid::from_u128(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
        let (high, low) = id.as_u64_pair();
        let mut sent = Vec::new();
        sent.extend(high.to_le_bytes());
        sent.extend(low.to_le_bytes());
        sent.extend([0, 2]);
        sent.extend("é".as_bytes());
        sent.push(1);
        sent.extend((-7_i32).to_le_bytes());
        sent.extend([1, 1, b'k', 2, b'"', b',']);
        let columns = [
            (Wire::Uuid, false),
            (Wire::Text, true),
            (Wire::Unsigned(4), true),
            (Wire::Signed(4), false),
            (Wire::Map, false),
        ];
        let read = |mut bytes: &[u8]| -> Option<Vec<String>> {
            let mut values = Vec::new();
            for (wire, nullable) in columns {
                let mut out = Vec::new();
                take(&mut bytes, wire, nullable)?.json(&mut out).unwrap();
                values.push(String::from_utf8(out).unwrap());
            }
            assert!(bytes.is_empty());
            Some(values)
        };
        let expected = [
            format!("\"{id}\""),
            "\"é\"".into(),
            "null".into(),
            "-7".into(),
            r#"{"k":"\","}"#.into(),
        ];
        assert_eq!(read(&sent).unwrap(), expected);
        for cut in 0..sent.len() {
            assert_eq!(read(&sent[..cut]), None, "{cut}");
        }
        let mut cell = Vec::new();
        Sent::Map(vec![("k".into(), "\",".into())])
            .csv(&mut cell)
            .unwrap();
        assert_eq!(cell, br#""{""k"":""\"",""}""#);
        for (value, text) in [
            (Sent::Date(20_513), "2026-03-01"),
            (Sent::Millis(-1), "1969-12-31T23:59:59.999Z"),
        ] {
            let mut out = Vec::new();
            value.csv(&mut out).unwrap();
            assert_eq!(out, text.as_bytes());
        }
    }
}
