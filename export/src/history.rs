//! The events of a child, as the view `history` has them: each once.

use std::{collections::BTreeMap, time::Duration};

use clickhouse::{Client, query::BytesCursor};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    Error, csv,
    fields::Field,
    row_binary::{Sent, Wire, take, wire},
};

/// A query about how much there is may take this long.
const COUNTING: Duration = Duration::from_secs(30);

/// ClickHouse may be silent for so long, while it sorts.
const SILENCE: Duration = Duration::from_secs(300);

/// What every query of an export is run with. What is sorted beyond so many bytes goes to ClickHouse's disk, in pieces
/// that are few and are merged in small blocks: however long a history is, it takes the same memory. Who reads the
/// history beside it is left a core.
const SETTINGS: &[(&str, &str)] = &[
    ("max_threads", "2"),
    ("max_block_size", "2048"),
    ("max_read_buffer_size", "65536"),
    ("max_bytes_before_external_sort", "201326592"),
    // By default nothing goes to the disk before half of the server's memory is used.
    ("max_bytes_ratio_before_external_sort", "0"),
    ("prefer_external_sort_block_bytes", "1048576"),
    ("max_memory_usage", "1000000000"),
    ("max_query_size", "1048576"),
    // A reader that goes away ends the query.
    ("cancel_http_readonly_queries_on_client_close", "1"),
];

/// The columns of `history`, in order.
#[derive(Debug)]
pub(crate) struct Columns {
    pub(crate) fields: Vec<Field>,
    /// Beside it.
    sent: Vec<(Wire, bool)>,
    /// `{parent}` stands for the parent who is told.
    select: String,
}

/// How much there is of a child, and up to where: what arrives later is not exported.
#[derive(Debug, Default)]
pub(crate) struct Extent {
    /// By type: how many, the first and the last event time, milliseconds.
    pub(crate) types: BTreeMap<String, (u64, i64, i64)>,
    /// By topic, partition and incarnation: the last offset.
    ends: BTreeMap<(String, i32, String), u64>,
}

impl Extent {
    pub(crate) fn events(&self) -> u64 {
        self.types.values().map(|(events, ..)| events).sum()
    }
}

/// What a file of events is written as.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// A JSON object a line.
    Ndjson,
    /// CSV.
    Csv,
}

impl Columns {
    /// Asks ClickHouse, whose comments say what each column means.
    pub(crate) async fn read(client: &Client) -> Result<Self, Error> {
        let described = client
            .query(
                "SELECT name, type, comment FROM system.columns
                    WHERE database = currentDatabase() AND table = 'history' ORDER BY position",
            )
            .with_setting("max_execution_time", COUNTING.as_secs().to_string())
            .fetch_all();
        let described: Vec<(String, String, String)> = in_time(COUNTING, described).await?;
        if described.is_empty() {
            return Err(Error::Malformed);
        }
        let mut columns = Self {
            fields: Vec::new(),
            sent: Vec::new(),
            select: String::new(),
        };
        for (name, kind, comment) in described {
            let quoted = format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"));
            let (expression, sent) = match wire(&kind) {
                // A child that has moved had another parent before, who is nobody's business now.
                Some((wire, _)) if name == "parent_id" => (
                    format!("if({quoted} = '{{parent}}', {quoted}, NULL)"),
                    (wire, true),
                ),
                Some(sent) => (quoted, sent),
                // A type that is not known here is told as ClickHouse prints it.
                None => (
                    format!("CAST(toString({quoted}) AS Nullable(String))"),
                    (Wire::Text, true),
                ),
            };
            if !columns.select.is_empty() {
                columns.select.push_str(", ");
            }
            columns.select.push_str(&expression);
            columns.sent.push(sent);
            columns.fields.push(Field {
                name,
                kind: sent.0.kind(),
                nullable: sent.1,
                about: comment,
            });
        }
        Ok(columns)
    }
}

/// Looks how much there is of a child.
pub(crate) async fn extent(client: &Client, child: Uuid) -> Result<Extent, Error> {
    type Group = (String, i32, String, String, u64, i64, i64, u64);
    let groups = settings(client.query(
        "SELECT kafka_topic, kafka_partition, topic_incarnation, event_type, count(),
                toUnixTimestamp64Milli(min(event_time)), toUnixTimestamp64Milli(max(event_time)), max(kafka_offset)
         FROM history WHERE child_id = ? GROUP BY 1, 2, 3, 4",
    ))
    .with_setting("max_execution_time", COUNTING.as_secs().to_string())
    .bind(child)
    .fetch_all();
    let groups: Vec<Group> = in_time(COUNTING, groups).await?;
    let mut extent = Extent::default();
    for (topic, partition, incarnation, kind, events, first, last, offset) in groups {
        let (sum, earliest, latest) = extent.types.entry(kind).or_insert((0, first, last));
        *sum += events;
        *earliest = first.min(*earliest);
        *latest = last.max(*latest);
        let end = extent
            .ends
            .entry((topic, partition, incarnation))
            .or_default();
        *end = offset.max(*end);
    }
    Ok(extent)
}

/// The rows of a child, as they come.
pub(crate) struct Rows<'c> {
    columns: &'c Columns,
    form: Form,
    cursor: Option<BytesCursor>,
    /// What came and is not written yet.
    came: Vec<u8>,
    /// How many are still to come.
    left: u64,
}

impl<'c> Rows<'c> {
    /// Asks for the events of the child up to its `extent`.
    pub(crate) fn of(
        client: &Client,
        columns: &'c Columns,
        child: Uuid,
        parent: Uuid,
        extent: &Extent,
        form: Form,
        longest: Duration,
    ) -> Result<Self, Error> {
        let ends: Vec<_> = extent
            .ends
            .iter()
            .map(|((topic, partition, incarnation), end)| {
                format!(
                    "(kafka_topic = {} AND kafka_partition = {partition} AND topic_incarnation = {}
                      AND kafka_offset <= {end})",
                    text(topic),
                    text(incarnation)
                )
            })
            .collect();
        let cursor = if ends.is_empty() {
            None
        } else {
            let sql = format!(
                "SELECT {} FROM history WHERE child_id = '{child}' AND ({})
                 ORDER BY event_time, toString(event_id), event_type, id_day",
                columns.select.replace("{parent}", &parent.to_string()),
                ends.join(" OR "),
            );
            let query = settings(client.query_raw(&sql))
                .with_setting("max_execution_time", longest.as_secs().to_string());
            Some(query.fetch_bytes("RowBinary")?)
        };
        Ok(Self {
            columns,
            form,
            cursor,
            came: Vec::new(),
            left: extent.events(),
        })
    }

    /// Appends what comes before the first row.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) {
        if matches!(self.form, Form::Csv) {
            csv::header(
                out,
                self.columns.fields.iter().map(|field| field.name.as_str()),
            );
        }
    }

    /// Appends some rows; `false` after the last. There are as many as there were when it was begun, or it fails.
    pub(crate) async fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        let Some(chunk) = in_time(SILENCE, cursor.next()).await? else {
            return match (self.came.is_empty(), self.left) {
                (true, 0) => Ok(false),
                (true, _) => Err(Error::Changed),
                (false, _) => Err(Error::Malformed),
            };
        };
        self.came.extend_from_slice(&chunk);
        let mut rest = self.came.as_slice();
        let mut written = 0;
        while !rest.is_empty() {
            let start = out.len();
            let mut row = rest;
            if !self.row(&mut row, out)? {
                out.truncate(start);
                break;
            }
            rest = row;
            written += 1;
        }
        let used = self.came.len() - rest.len();
        self.came.drain(..used);
        self.left = self.left.checked_sub(written).ok_or(Error::Changed)?;
        Ok(true)
    }

    /// Appends a row, or returns `false` where not all of it has come.
    fn row(&self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        let mut is_first = true;
        if matches!(self.form, Form::Ndjson) {
            out.push(b'{');
        }
        for (field, (wire, nullable)) in self.columns.fields.iter().zip(&self.columns.sent) {
            let Some(value) = take(bytes, *wire, *nullable) else {
                return Ok(false);
            };
            match self.form {
                Form::Ndjson => {
                    if value == Sent::Null {
                        continue;
                    }
                    if !is_first {
                        out.push(b',');
                    }
                    Sent::Text(field.name.as_str().into()).json(out)?;
                    out.push(b':');
                    value.json(out)?;
                }
                Form::Csv => {
                    if !is_first {
                        out.push(b',');
                    }
                    value.csv(out)?;
                }
            }
            is_first = false;
        }
        out.extend_from_slice(match self.form {
            Form::Ndjson => b"}\n",
            Form::Csv => b"\r\n",
        });
        Ok(true)
    }
}

/// The server ends a query that takes too long, unless it has stopped answering.
async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, Error> {
    match timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(clickhouse::error::Error::TimedOut.into()),
    }
}

/// A literal of ClickHouse.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn settings(mut query: clickhouse::query::Query) -> clickhouse::query::Query {
    for (name, value) in SETTINGS {
        query = query.with_setting(*name, *value);
    }
    query
}
