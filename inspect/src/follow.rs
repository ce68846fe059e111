//! Reads what ingest nodes tell, through every failure that may pass.

use std::{error::Error as _, time::Duration};

use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{Filter, Missed, Observation};

/// A node says something every 15 s. A connection that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(40);

/// How long a node may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

/// The first and the longest wait before another try.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Bytes of an unfinished event, at most. An observation is a few hundred.
const LONGEST_EVENT: usize = 1 << 20;

/// An ingest node, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its address, as [`node`](crate::node()) returns it.
    pub url: String,
    /// Whose key it is asked with.
    pub key: String,
    /// What is wanted.
    pub filter: Filter,
}

/// What is told of a node.
#[derive(Debug)]
pub enum Told {
    /// It tells from now on.
    Up,
    /// An event, or a request that was refused.
    Seen(Box<Observation>),
    /// It could not tell so many.
    Missed(u64),
    /// It tells nothing now. It is tried again, unless the trouble [will not pass](Trouble::is_final).
    Down(Trouble),
}

/// Why a node tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// 401.
    #[error("the key is unknown or was revoked")]
    Unauthorized,
    /// 403.
    #[error("the key may not do this: it takes one of scope `admin`")]
    Forbidden,
    /// 404.
    #[error(
        "the node does not tell what arrives: it was started without RIVULET_INSPECT=on, or is no ingest node"
    )]
    Off,
    /// The filter is not good, with what the node says of it.
    #[error("{0}")]
    BadFilter(String),
    /// 503, with what the node says.
    #[error("{0}")]
    Busy(String),
    /// Any other status.
    #[error("the node answered {0}")]
    Status(StatusCode),
    /// Nobody answers, or not any more.
    #[error("{0}")]
    Unreachable(String),
    /// The stream ended: after an hour, because the node stops, or because the key was revoked.
    #[error("the node has ended the stream")]
    Ended,
}

impl Trouble {
    /// Whether another try would end alike.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized | Self::Forbidden | Self::Off | Self::BadFilter(_)
        )
    }
}

/// reqwest's own text leaves out why.
impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Unreachable(text)
    }
}

/// A client whose connections end when nobody is at the other end.
///
/// # Errors
/// TLS cannot be set up.
pub fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        // The key is for the node alone.
        .redirect(Policy::none())
        .build()
}

/// Tells `to`, with this `number`, what the node tells, and comes back to it whenever the stream ends, later each time that it
/// fails. Returns when the trouble will not pass, or when nobody listens any more.
pub async fn follow(client: Client, node: Node, number: usize, to: mpsc::Sender<(usize, Told)>) {
    let mut wait = FIRST_WAIT;
    loop {
        let trouble = match open(&client, &node).await {
            Ok(response) => {
                if to.send((number, Told::Up)).await.is_err() {
                    return;
                }
                match read(response, number, &to, &mut wait).await {
                    Some(trouble) => trouble,
                    None => return,
                }
            }
            Err(trouble) => trouble,
        };
        let is_final = trouble.is_final();
        if to.send((number, Told::Down(trouble))).await.is_err() || is_final {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = to.closed() => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn open(client: &Client, node: &Node) -> Result<Response, Trouble> {
    let request = client
        .get(format!(
            "{}/v1/admin/tail?{}",
            node.url,
            node.filter.query()
        ))
        .bearer_auth(&node.key)
        .header(header::ACCEPT, "text/event-stream");
    let response = request.send().await?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let problem: Value = response.json().await.unwrap_or_default();
    let detail = problem["detail"]
        .as_str()
        .unwrap_or("the node does not say why")
        .to_owned();
    Err(match status {
        StatusCode::UNAUTHORIZED => Trouble::Unauthorized,
        StatusCode::FORBIDDEN => Trouble::Forbidden,
        StatusCode::NOT_FOUND => Trouble::Off,
        StatusCode::UNPROCESSABLE_ENTITY => Trouble::BadFilter(detail),
        StatusCode::SERVICE_UNAVAILABLE => Trouble::Busy(detail),
        _ => Trouble::Status(status),
    })
}

/// Reads to the end of a stream; `None` when nobody listens any more.
async fn read(
    mut response: Response,
    number: usize,
    to: &mpsc::Sender<(usize, Told)>,
    wait: &mut Duration,
) -> Option<Trouble> {
    let mut rest = Vec::new();
    loop {
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk,
            () = to.closed() => return None,
        };
        match chunk {
            Ok(Some(chunk)) => rest.extend_from_slice(&chunk),
            Ok(None) => return Some(Trouble::Ended),
            Err(error) => return Some(error.into()),
        }
        *wait = FIRST_WAIT;
        let (told, used) = events(&rest);
        rest.drain(..used);
        if rest.len() > LONGEST_EVENT {
            return Some(Trouble::Unreachable(
                "what it sends are no events".to_owned(),
            ));
        }
        for told in told {
            to.send((number, told)).await.ok()?;
        }
    }
}

/// The whole events at the beginning of `bytes`, and how many bytes they are.
fn events(bytes: &[u8]) -> (Vec<Told>, usize) {
    let (mut told, mut used) = (Vec::new(), 0);
    while let Some(length) = bytes[used..].windows(2).position(|pair| pair == b"\n\n") {
        let event = &bytes[used..used + length];
        used += length + 2;
        let field = |name: &str| {
            let mut lines = event.split(|byte| *byte == b'\n');
            lines.find_map(|line| line.strip_prefix(name.as_bytes()))
        };
        let Some(data) = field("data: ") else {
            continue;
        };
        // A newer node may tell what nobody here knows of.
        told.extend(match field("event: ") {
            Some(b"event") => serde_json::from_slice(data)
                .ok()
                .map(|seen| Told::Seen(Box::new(seen))),
            Some(b"missed") => serde_json::from_slice(data)
                .ok()
                .map(|Missed { missed }| Told::Missed(missed)),
            _ => None,
        });
    }
    (told, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_when_they_are_whole() {
        let text = b"retry: 1000\n\n:\n\nevent: missed\ndata: {\"missed\":7}\n\nevent: later\ndata: {}\n\nevent: mis";
        for length in 0..=text.len() {
            let (told, used) = events(&text[..length]);
            let missed: u64 = told
                .iter()
                .map(|told| match told {
                    Told::Missed(missed) => *missed,
                    _ => 0,
                })
                .sum();
            assert_eq!(missed, if length >= 50 { 7 } else { 0 }, "{length}");
            assert!(used <= length);
        }
        assert_eq!(events(text).1, text.len() - 10);
    }
}
