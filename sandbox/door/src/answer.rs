//! The answer to a query, written by the thread that runs it.

use std::{
    io::{self, BufWriter, Write},
    time::Instant,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header, response::Builder},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    codec::{Encoder, Encoding},
    exception::Exception,
    ffi::Summary,
};

/// As long as no more than this was written, in bytes, an error still becomes a status.
const BUFFER: usize = 1 << 20;

/// What the answer says of itself.
pub(crate) struct Head {
    pub(crate) query_id: String,
    pub(crate) timezone: String,
    pub(crate) version: String,
    pub(crate) encoding: Encoding,
    /// `wait_end_of_query`: nothing is sent before the end.
    pub(crate) whole: bool,
}

/// An answer in the making.
pub(crate) struct Answer {
    head: Head,
    format: String,
    reply: Option<oneshot::Sender<Response>>,
    buffer: Vec<u8>,
    /// Set once the head is sent.
    body: Option<Encoder<BufWriter<Sender>>>,
    tag: String,
    started: Instant,
}

impl Answer {
    pub(crate) fn new(head: Head, reply: oneshot::Sender<Response>) -> Self {
        // 16 lower-case letters, which no data will hold by chance.
        let tag = Uuid::new_v4()
            .as_bytes()
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        Self {
            head,
            format: "TabSeparated".to_owned(),
            reply: Some(reply),
            buffer: Vec::new(),
            body: None,
            tag,
            started: Instant::now(),
        }
    }

    /// Names the format of what will be written.
    pub(crate) fn set_format(&mut self, format: &str) {
        format.clone_into(&mut self.format);
    }

    /// Ends the answer with the result or the error of its query.
    pub(crate) fn end(mut self, result: Result<Summary, Exception>) {
        // A failed send means that the client is gone, and that is how it ends.
        let _ = match (result, self.body.is_some()) {
            (Ok(summary), false) => self.send_whole(&summary),
            (Err(exception), false) => self.send_exception(&exception),
            (Ok(_), true) => self.end_stream(),
            (Err(exception), true) => self.break_stream(&exception),
        };
    }

    fn headers(&self) -> Builder {
        let mut builder = Response::builder()
            .header(header::CONTENT_TYPE, content_type(&self.format))
            .header("X-ClickHouse-Server-Display-Name", "clickhouse-door")
            .header("X-ClickHouse-Query-Id", text(&self.head.query_id))
            .header("X-ClickHouse-Timezone", text(&self.head.timezone))
            .header("X-ClickHouse-Format", text(&self.format));
        if let Some(name) = self.head.encoding.name() {
            builder = builder.header(header::CONTENT_ENCODING, name);
        }
        builder
    }

    fn send_whole(&mut self, summary: &Summary) -> io::Result<()> {
        let mut encoder = Encoder::new(self.head.encoding, Vec::new())?;
        encoder.write_all(&self.buffer)?;
        let summary = self.summary(summary);
        self.reply(
            self.headers().header("X-ClickHouse-Summary", summary),
            encoder.finish()?.into(),
        )
    }

    fn send_exception(&mut self, exception: &Exception) -> io::Result<()> {
        // Not compressed, and said so by the absence of a Content-Encoding.
        self.head.encoding = Encoding::Identity;
        self.format = "TabSeparated".to_owned();
        let headers = self
            .headers()
            .status(exception.status())
            .header("X-ClickHouse-Exception-Code", exception.code);
        self.reply(headers, exception.text(&self.head.version).into())
    }

    /// Sends the head, and what was written so far.
    fn start_stream(&mut self) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(4);
        let body = stream::unfold(receiver, async |mut receiver| {
            receiver
                .recv()
                .await
                .map(|chunk| (Ok::<Bytes, io::Error>(chunk), receiver))
        });
        let headers = self
            .headers()
            .header("X-ClickHouse-Exception-Tag", self.tag.as_str())
            .header("X-ClickHouse-Summary", self.summary(&Summary::default()));
        self.reply(headers, Body::from_stream(body))?;
        let body = BufWriter::with_capacity(64 << 10, Sender(sender));
        let mut encoder = Encoder::new(self.head.encoding, body)?;
        encoder.write_all(&std::mem::take(&mut self.buffer))?;
        self.body = Some(encoder);
        Ok(())
    }

    fn end_stream(&mut self) -> io::Result<()> {
        match self.body.take() {
            Some(encoder) => encoder.finish()?.flush(),
            None => Ok(()),
        }
    }

    /// Tells of an error after the head was sent: clients look for the tag of the head at the end.
    fn break_stream(&mut self, exception: &Exception) -> io::Result<()> {
        let (text, tag) = (exception.text(&self.head.version), &self.tag);
        let length = text.len();
        if let Some(encoder) = &mut self.body {
            // Flushed first: clients want to find it in one piece.
            encoder.flush()?;
            let end =
                format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n");
            encoder.write_all(end.as_bytes())?;
        }
        self.end_stream()
    }

    fn reply(&mut self, headers: Builder, body: Body) -> io::Result<()> {
        let response = headers.body(body).map_err(io::Error::other)?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.reply
            .take()
            .ok_or_else(gone)?
            .send(response)
            .map_err(|_| gone())
    }

    fn summary(&self, summary: &Summary) -> String {
        serde_json::json!({
            "read_rows": summary.read_rows.to_string(),
            "read_bytes": summary.read_bytes.to_string(),
            "written_rows": summary.written_rows.to_string(),
            "written_bytes": summary.written_bytes.to_string(),
            "total_rows_to_read": "0",
            "result_rows": summary.result_rows.to_string(),
            "result_bytes": self.buffer.len().to_string(),
            "elapsed_ns": self.started.elapsed().as_nanos().to_string(),
        })
        .to_string()
    }
}

/// Fails when the client is gone.
impl Write for Answer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Some(body) = &mut self.body {
            return body.write(data);
        }
        self.buffer.extend_from_slice(data);
        if self.buffer.len() > BUFFER && !self.head.whole {
            self.start_stream()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands chunks to the server, which sends them as fast as the client takes them.
struct Sender(mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Bytes::copy_from_slice(data))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error that needs no query to have run.
pub(crate) fn refusal(exception: &Exception, version: &str) -> Response {
    let mut response = Response::new(exception.text(version).into());
    *response.status_mut() = exception.status();
    response
        .headers_mut()
        .insert("X-ClickHouse-Exception-Code", exception.code.into());
    response
}

/// The answer when the thread of a query died.
pub(crate) fn broken() -> Response {
    let mut response = Response::new("The query's thread ended without an answer\n".into());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    match format.as_str() {
        "jsoneachrow" | "jsonlines" | "ndjson" | "jsoncompacteachrow" => {
            "application/x-ndjson; charset=UTF-8"
        }
        "native" | "parquet" => "application/octet-stream",
        json if json.starts_with("json") => "application/json; charset=UTF-8",
        csv if csv.starts_with("csv") => "text/csv; charset=UTF-8",
        tabs if tabs.starts_with("tabseparated") || tabs.starts_with("tsv") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        rows if rows.starts_with("rowbinary") || rows.starts_with("arrow") => {
            "application/octet-stream"
        }
        _ => "text/plain; charset=UTF-8",
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
