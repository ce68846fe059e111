//! The two conversations with a server: the backend's registration and the SDK's batches.

use std::{io::Write, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use reqwest::{
    Method, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Config, Error,
    event::Planned,
    family::{Device, Encoding, Family},
    ledger::Outcome,
};

/// Speaks HTTP to one server.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    ingest_key: String,
    admin_key: String,
    timeout: Duration,
}

/// What one request came to.
pub(crate) enum Answer {
    /// Understood: an outcome for each event.
    Events {
        received_at: i64,
        outcomes: Vec<(Outcome, Option<String>)>,
        wait: Option<Duration>,
    },
    /// Refused as a whole, for now.
    Later {
        status: StatusCode,
        wait: Option<Duration>,
    },
    /// No answer: whether it was taken is unknown.
    None,
}

#[derive(Deserialize)]
struct Body {
    received_at: DateTime<Utc>,
    results: Vec<EventResult>,
}

#[derive(Deserialize)]
struct EventResult {
    index: usize,
    outcome: Outcome,
    code: Option<String>,
}

impl Client {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        // No proxy: the load is for the server named and nobody else.
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(Error::Client)?;
        Ok(Self {
            http,
            url: config.url.trim_end_matches('/').to_owned(),
            ingest_key: config.ingest_key.clone(),
            admin_key: config.admin_key.clone(),
            timeout: config.timeout,
        })
    }

    /// Tells the registry of a family. Repeating it changes nothing.
    pub(crate) async fn register(&self, family: &Family) -> Result<(), Error> {
        let parent = format!("parents/{}", family.parent_id);
        let body = json!({"timezone": family.timezone.name(), "consents": family.consents});
        self.put(&parent, &body).await?;
        for child in &family.children {
            let body = json!({"parent_id": family.parent_id, "age_group": child.age_group});
            self.put(&format!("children/{}", child.id), &body).await?;
        }
        Ok(())
    }

    async fn put(&self, what: &str, body: &Value) -> Result<(), Error> {
        const ATTEMPTS: u32 = 60;
        for attempt in 1.. {
            let sent = self
                .http
                .request(Method::PUT, format!("{}/v1/admin/{what}", self.url))
                .bearer_auth(&self.admin_key)
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string())
                .timeout(self.timeout)
                .send()
                .await;
            match sent {
                Ok(response) if response.status().is_success() => break,
                Ok(response) if !passes(response.status()) || attempt == ATTEMPTS => {
                    return Err(refused(response).await);
                }
                Err(error) if attempt == ATTEMPTS => return Err(Error::Unreachable(error)),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        Ok(())
    }

    /// Posts one batch.
    pub(crate) async fn post(
        &self,
        device: &Device,
        events: &[&Planned],
        sent_at: Option<i64>,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let mut request = self
            .http
            .post(format!("{}/v1/events", self.url))
            .bearer_auth(&self.ingest_key)
            .timeout(timeout.min(self.timeout));
        let sent_at = sent_at.map(|millis| {
            let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
            time.to_rfc3339_opts(SecondsFormat::Millis, true)
        });
        let events_of = |separator: &str| {
            events
                .iter()
                .map(|event| &*event.json)
                .collect::<Vec<_>>()
                .join(separator)
        };
        let body = if device.ndjson {
            request = request.header(CONTENT_TYPE, "application/x-ndjson");
            if let Some(sent_at) = sent_at {
                request = request.header("X-Sent-At", sent_at);
            }
            events_of("\n")
        } else {
            request = request.header(CONTENT_TYPE, "application/json");
            let sent_at = sent_at
                .map(|time| format!(r#""sent_at":"{time}","#))
                .unwrap_or_default();
            format!(r#"{{{sent_at}"events":[{}]}}"#, events_of(","))
        };
        let (body, name) = encode(body.into_bytes(), device.encoding).map_err(Error::Encode)?;
        if let Some(name) = name {
            request = request.header(CONTENT_ENCODING, name);
        }
        let Ok(response) = request.body(body).send().await else {
            return Ok(Answer::None);
        };
        let status = response.status();
        let wait = retry_after(&response);
        if status == StatusCode::OK {
            let Ok(body) = response.bytes().await else {
                return Ok(Answer::None);
            };
            let body: Body = serde_json::from_slice(&body).map_err(Error::Answer)?;
            let in_order = body
                .results
                .iter()
                .enumerate()
                .all(|(index, of)| index == of.index);
            if body.results.len() != events.len() || !in_order {
                return Err(Error::Results);
            }
            let outcomes = body
                .results
                .into_iter()
                .map(|of| (of.outcome, of.code))
                .collect();
            return Ok(Answer::Events {
                received_at: body.received_at.timestamp_millis(),
                outcomes,
                wait,
            });
        }
        if passes(status) {
            return Ok(Answer::Later { status, wait });
        }
        Err(refused(response).await)
    }
}

/// Whether the same request may succeed later.
fn passes(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

async fn refused(response: Response) -> Error {
    let status = response.status().as_u16();
    let body: Value = match response.bytes().await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    Error::Refused {
        status,
        code: body["code"].as_str().unwrap_or("unknown").to_owned(),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn encode(body: Vec<u8>, encoding: Encoding) -> std::io::Result<(Vec<u8>, Option<&'static str>)> {
    Ok(match encoding {
        Encoding::Identity => (body, None),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body)?;
            (encoder.finish()?, Some("gzip"))
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body)?;
            (encoder.finish()?, Some("deflate"))
        }
        Encoding::Zstd => (zstd::encode_all(&body[..], 1)?, Some("zstd")),
    })
}
