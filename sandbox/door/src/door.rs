//! The HTTP interface: from a request to the engine and back.

use std::{
    io::{Read, Write},
    sync::{Arc, TryLockError},
};

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::Request,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use futures_util::TryStreamExt;
use tokio::{sync::oneshot, task::spawn_blocking};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::{
    answer::{self, Answer, Head},
    codec::{self, BlockReader},
    exception::Exception,
    ffi::{Connection, Engine, Insert, Output, Summary},
    request::{self, Asked},
    session::Sessions,
    statement::{self, Statement},
};

/// How much of an INSERT's data is handed over at a time, in bytes.
const CHUNK: u64 = 256 << 10;

/// An engine and what its clients are told of it.
pub(crate) struct Door {
    engine: Engine,
    pub(crate) version: String,
    timezone: String,
    sessions: Sessions,
}

impl Door {
    pub(crate) fn new(engine: Engine) -> anyhow::Result<Self> {
        let answer = engine
            .connect()
            .and_then(|mut connection| {
                connection.query(b"SELECT version(), timezone()", "TSV", &[])
            })
            .context("the engine does not answer")?;
        let answer = String::from_utf8_lossy(answer.bytes()).into_owned();
        let (version, timezone) = answer
            .trim_end()
            .split_once('\t')
            .context("the engine has no version")?;
        Ok(Self {
            version: version.to_owned(),
            timezone: timezone.to_owned(),
            engine,
            sessions: Sessions::default(),
        })
    }

    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/ping", get(async || "Ok.\n"))
            .route("/replicas_status", get(async || "Ok.\n"))
            .route("/", any(serve))
            .layer(DefaultBodyLimit::disable())
            .with_state(self)
    }

    /// Closes the engine, if no query is running any more.
    pub(crate) fn close(self) {
        self.sessions.clear();
        self.engine.stop();
    }

    fn run(
        &self,
        asked: &Asked,
        body: impl Read,
        answer: &mut Answer,
    ) -> Result<Summary, Exception> {
        let body = codec::decoder(&asked.content_encoding, body)?;
        let body: Box<dyn Read> = if asked.blocks {
            Box::new(BlockReader::new(body))
        } else {
            body
        };
        let statement =
            statement::read(asked.query.clone(), asked.default_format.as_deref(), body)?;
        let Some(wish) = &asked.session else {
            return execute(&mut self.engine.connect()?, asked, statement, answer);
        };
        let session = self.sessions.find(&self.engine, wish)?;
        let mut connection = match session.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let message = "Session is locked by a concurrent client";
                return Err(Exception::new(373, "SESSION_IS_LOCKED", message));
            }
        };
        let result = execute(&mut connection, asked, statement, answer);
        // The URL's settings are the request's, not the session's.
        let names = asked
            .settings
            .iter()
            .map(|(name, _)| format!("{name} = DEFAULT"));
        let reset = set(&mut connection, names.collect());
        if result.is_err() {
            // Only with the next query does the engine let go of one that failed while it was
            // streamed: until then it would be listed as running.
            connection.query(b"SELECT 1", "Null", &[])?;
        }
        result.and_then(|summary| reset.map(|()| summary))
    }
}

async fn serve(State(door): State<Arc<Door>>, request: Request<Body>) -> Response {
    if request.method() != "POST" && request.uri().query().is_none() {
        return "Ok.\n".into_response();
    }
    let (asked, body) = match request::read(request).await {
        Ok(read) => read,
        Err(exception) => return answer::refusal(&exception, &door.version),
    };
    let zone = asked
        .settings
        .iter()
        .rfind(|(name, _)| name == "session_timezone");
    let head = Head {
        query_id: asked.query_id.clone(),
        timezone: zone.map_or(&door.timezone, |(_, zone)| zone).clone(),
        version: door.version.clone(),
        encoding: asked.answer_encoding,
        whole: asked.whole,
    };
    let (reply, response) = oneshot::channel();
    let body = body.into_data_stream().map_err(std::io::Error::other);
    let body = SyncIoBridge::new(StreamReader::new(body));
    spawn_blocking(move || {
        let mut answer = Answer::new(head, reply);
        let result = door.run(&asked, body, &mut answer);
        answer.end(result);
    });
    response.await.unwrap_or_else(|_| answer::broken())
}

fn execute<R: Read>(
    connection: &mut Connection,
    asked: &Asked,
    statement: Statement<R>,
    answer: &mut Answer,
) -> Result<Summary, Exception> {
    if let Some(database) = &asked.database {
        let quoted = database.replace('\\', "\\\\").replace('`', "\\`");
        connection.query(format!("USE `{quoted}`").as_bytes(), "Null", &[])?;
    }
    let mut settings = Vec::new();
    for (name, value) in &asked.settings {
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
        {
            let message = format!("Unknown setting '{name}'");
            return Err(Exception::new(115, "UNKNOWN_SETTING", &message));
        }
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        settings.push(format!("{name} = '{value}'"));
    }
    // Of a session it could not be taken back.
    if asked.read_only && asked.session.is_none() {
        settings.push("readonly = 2".to_owned());
    }
    set(connection, settings)?;

    let mut summary = Summary::default();
    match statement {
        Statement::Insert { head, format, data } => {
            let insert = connection.insert(&head, &format, &asked.parameters)?;
            fill(insert, data)?.count(&mut summary);
        }
        Statement::Query(sql) => query(connection, asked, &sql, answer, &mut summary)?,
    }
    Ok(summary)
}

fn set(connection: &mut Connection, settings: Vec<String>) -> Result<(), Exception> {
    if !settings.is_empty() {
        connection.query(
            format!("SET {}", settings.join(", ")).as_bytes(),
            "Null",
            &[],
        )?;
    }
    Ok(())
}

/// Sends the data of an INSERT. If they break off, it is cancelled.
fn fill(mut insert: Insert<'_>, mut data: impl Read) -> Result<Output, Exception> {
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        // Whole chunks, because some clients send every row as one of its own.
        (&mut data).take(CHUNK).read_to_end(&mut chunk)?;
        if chunk.is_empty() || !insert.append(&chunk) {
            return insert.finish();
        }
    }
}

fn query(
    connection: &mut Connection,
    asked: &Asked,
    sql: &[u8],
    answer: &mut Answer,
    summary: &mut Summary,
) -> Result<(), Exception> {
    let class = connection.classify(sql);
    if class.statements > 1 {
        let message = "Syntax error (Multi-statements are not allowed)";
        return Err(Exception::new(62, "SYNTAX_ERROR", message));
    }
    let format = statement::output_format(sql)
        .or_else(|| asked.default_format.clone())
        .unwrap_or_else(|| "TabSeparated".to_owned());
    answer.set_format(&format);
    if class.read_only
        && let Some(joint) = Joint::of(&format)
    {
        match connection.stream(sql, &format, &asked.parameters) {
            Ok(mut rows) => {
                let mut header = 0;
                while let Some(block) = rows.next()? {
                    block.count(summary);
                    answer.write_all(&block.bytes()[header..])?;
                    if joint == Joint::Header {
                        header = header_length(block.bytes());
                    }
                }
                return Ok(());
            }
            // SHOW, DESCRIBE and the like, whose results are small.
            Err(error)
                if error
                    .to_string()
                    .contains("Streaming query is not supported") => {}
            Err(error) => return Err(error),
        }
    }
    let output = connection.query(sql, &format, &asked.parameters)?;
    output.count(summary);
    answer.write_all(output.bytes())?;
    Ok(())
}

/// How the documents of a format, one a block, become one. Results in formats for which there is
/// no such way are collected in memory.
#[derive(Clone, Copy, PartialEq)]
enum Joint {
    /// They follow each other.
    Plain,
    /// Only the first keeps its header.
    Header,
}

impl Joint {
    fn of(format: &str) -> Option<Self> {
        match format.to_ascii_lowercase().as_str() {
            "csv" | "jsoncompacteachrow" | "jsoneachrow" | "jsonlines" | "native" | "ndjson"
            | "rowbinary" | "tabseparated" | "tabseparatedraw" | "tsv" | "tsvraw" => {
                Some(Self::Plain)
            }
            "rowbinarywithnamesandtypes" => Some(Self::Header),
            _ => None,
        }
    }
}

/// The length of RowBinaryWithNamesAndTypes' header: how many columns, their names, their types.
fn header_length(document: &[u8]) -> usize {
    let mut at = 0;
    let number = |at: &mut usize| {
        let (mut value, mut shift) = (0_usize, 0);
        while let Some(byte) = document.get(*at) {
            *at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        value
    };
    for _ in 0..2 * number(&mut at) {
        at += number(&mut at);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_ends_before_the_first_row() {
        let document = b"\x02\x06number\x01s\x06UInt64\x06Stringrow";
        assert_eq!(&document[header_length(document)..], b"row");
    }
}
