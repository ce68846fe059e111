//! What a request asks for: the URL, the headers, and form data if that is what it brings.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Multipart},
    http::{HeaderMap, Method, Request, header},
};
use uuid::Uuid;

use crate::{codec::Encoding, exception::Exception, session::Wish};

/// Everything of a request but its body.
pub(crate) struct Asked {
    pub(crate) query: String,
    pub(crate) database: Option<String>,
    pub(crate) default_format: Option<String>,
    /// Settings of this query, as given.
    pub(crate) settings: Vec<(String, String)>,
    /// `param_*`, without the prefix.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) session: Option<Wish>,
    pub(crate) query_id: String,
    /// A GET may not change anything.
    pub(crate) read_only: bool,
    pub(crate) whole: bool,
    pub(crate) content_encoding: String,
    /// The body is in ClickHouse's blocks.
    pub(crate) blocks: bool,
    pub(crate) answer_encoding: Encoding,
}

/// Parameters of the interface that are no settings and that the door has no use for.
const IGNORED: [&str; 8] = [
    "buffer_size",
    "client_protocol_version",
    "close_session",
    "password",
    "quota_key",
    "role",
    "stacktrace",
    "user",
];

/// Reads the request, and gives back the body if that is not used up.
pub(crate) async fn read(request: Request<Body>) -> Result<(Asked, Body), Exception> {
    let headers = request.headers().clone();
    let read_only = request.method() != Method::POST;
    let url = request.uri().query().unwrap_or_default();
    let mut fields: Vec<(String, String)> = form_urlencoded::parse(url.as_bytes())
        .into_owned()
        .collect();

    let is_form = named(&headers, header::CONTENT_TYPE.as_str()).starts_with("multipart/form-data");
    let body = if is_form {
        let bad = |error: String| Exception::new(36, "BAD_ARGUMENTS", &error);
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|error| bad(error.body_text()))?;
        while let Some(field) = form
            .next_field()
            .await
            .map_err(|error| bad(error.body_text()))?
        {
            if field.file_name().is_some() {
                let message = "The door knows no external tables";
                return Err(Exception::new(48, "NOT_IMPLEMENTED", message));
            }
            let name = field.name().unwrap_or_default().to_owned();
            fields.push((
                name,
                field.text().await.map_err(|error| bad(error.body_text()))?,
            ));
        }
        Body::empty()
    } else {
        request.into_body()
    };

    let mut asked = Asked {
        query: String::new(),
        database: optional(named(&headers, "x-clickhouse-database")),
        default_format: optional(named(&headers, "x-clickhouse-format")),
        settings: Vec::new(),
        parameters: Vec::new(),
        session: None,
        query_id: named(&headers, "x-clickhouse-query-id").to_owned(),
        read_only,
        whole: false,
        content_encoding: if is_form {
            ""
        } else {
            named(&headers, "content-encoding")
        }
        .to_owned(),
        blocks: false,
        answer_encoding: Encoding::accepted(named(&headers, "accept-encoding")),
    };
    asked.fill(fields)?;
    Ok((asked, body))
}

impl Asked {
    fn fill(&mut self, fields: Vec<(String, String)>) -> Result<(), Exception> {
        let (mut check, mut timeout) = (false, 60);
        let mut compress = false;
        for (name, value) in fields {
            match name.as_str() {
                "query" => self.query += &value,
                "database" => self.database = optional(&value),
                "default_format" => self.default_format = optional(&value),
                "query_id" => self.query_id = value,
                "session_id" => {
                    self.session = Some(Wish {
                        id: value,
                        timeout: Duration::ZERO,
                        check: false,
                    });
                }
                "session_check" => check = value == "1",
                "session_timeout" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds <= 3600);
                    timeout = seconds.ok_or_else(|| {
                        let message = "Invalid session timeout";
                        Exception::new(374, "INVALID_SESSION_TIMEOUT", message)
                    })?;
                }
                "wait_end_of_query" => self.whole = is_true(&value),
                "compress" => compress = is_true(&value),
                "decompress" => self.blocks = is_true(&value),
                "enable_http_compression" if !is_true(&value) => {
                    self.answer_encoding = Encoding::Identity;
                }
                ignored if IGNORED.contains(&ignored) => {}
                _ => match name.strip_prefix("param_") {
                    Some(parameter) => self.parameters.push((parameter.to_owned(), value)),
                    None => self.settings.push((name, value)),
                },
            }
        }
        if let Some(session) = &mut self.session {
            session.check = check;
            session.timeout = Duration::from_secs(timeout);
        }
        if compress {
            self.answer_encoding = Encoding::Blocks;
        }
        if self.query_id.is_empty() {
            self.query_id = Uuid::new_v4().to_string();
        }
        Ok(())
    }
}

fn named<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn optional(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn is_true(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}
