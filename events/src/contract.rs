//! What is known of each field of an event, for code that describes, stores or reads back events. The declarations
//! themselves are in [`crate::data`].

use std::fmt;

use uuid::Uuid;

/// An object of an event.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// What it means.
    pub about: &'static str,
    /// Its fields as clients send them, in order.
    pub fields: &'static [Field],
    /// The columns of ClickHouse that hold it, in the order in which `write_columns` writes them.
    pub columns: &'static [Column],
}

/// A field as clients send it.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Whether it has to be there.
    pub need: Need,
    /// Which values it takes.
    pub rule: Rule,
}

/// Whether a field has to be there.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Always.
    Required,
    /// Never.
    Optional,
    /// Never: without it, it is 0 or false.
    Default,
    /// When another field is a certain word.
    For {
        /// The other field.
        field: &'static str,
        /// The word.
        word: &'static str,
        /// With any other word its value is dropped.
        only: bool,
    },
}

/// Which values a field takes.
#[derive(Debug)]
pub enum Rule {
    /// A UUID.
    Uuid,
    /// `true` or `false`.
    Boolean,
    /// An integer, both ends included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A number, both ends included.
    Number {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// A text.
    Text {
        /// Unicode scalars at most.
        max_chars: usize,
    },
    /// A BCP 47 language tag, by its [shape](LANGUAGE_TAG).
    LanguageTag {
        /// Unicode scalars at most.
        max_chars: usize,
    },
    /// A text that is measured and dropped.
    MeasuredText {
        /// Bytes of UTF-8 at most.
        max_bytes: usize,
    },
    /// One of some words.
    Word {
        /// The name of the list.
        name: &'static str,
        /// The list.
        words: &'static [&'static str],
    },
}

/// As docs and comments say it; nothing where the description says it all.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid | Self::Boolean => Ok(()),
            Self::Integer { min, max: i64::MAX } => write!(f, "At least {min}."),
            Self::Integer { min, max } => write!(f, "{} to {}.", thousands(*min), thousands(*max)),
            Self::Number { min, max } => write!(f, "{min} to {max}."),
            Self::Text { max_chars } | Self::LanguageTag { max_chars } => {
                write!(f, "At most {max_chars} characters.")
            }
            Self::MeasuredText { max_bytes } => {
                write!(
                    f,
                    "At most {} bytes of UTF-8.",
                    thousands(*max_bytes as i64)
                )
            }
            Self::Word { words, .. } => write!(f, "One of {}.", words.join(", ")),
        }
    }
}

/// A number with a space between its thousands.
fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The shape of a BCP 47 language tag, as a regular expression.
pub const LANGUAGE_TAG: &str = "^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$";

/// A column of ClickHouse's table `events` that holds a field of a record.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type, as ClickHouse prints it.
    pub kind: &'static str,
    /// The field of the record.
    pub field: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Which values it has.
    pub rule: Rule,
    /// What the record has where the column is NULL, in SQL: rows are older than the column. `None`: nothing.
    pub default: Option<&'static str>,
}

/// Takes the values of columns, one call a column, in the order of `COLUMNS`. `None` is NULL.
pub trait ColumnWriter {
    /// For a column of type `UUID`.
    fn uuid(&mut self, value: Option<Uuid>);
    /// For a column of type `Bool`.
    fn boolean(&mut self, value: Option<bool>);
    /// For a column of type `UInt8`.
    fn u8(&mut self, value: Option<u8>);
    /// For a column of type `UInt16`.
    fn u16(&mut self, value: Option<u16>);
    /// For a column of type `UInt32`.
    fn u32(&mut self, value: Option<u32>);
    /// For a column of type `UInt64`.
    fn u64(&mut self, value: Option<u64>);
    /// For a column of type `Float64`.
    fn f64(&mut self, value: Option<f64>);
    /// For a column of type `String`, in a dictionary or not.
    fn text(&mut self, value: Option<&str>);
}

/// For serde's `skip_serializing_if`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}
