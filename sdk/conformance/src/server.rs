//! A server of events that does what it is told to, on loopback: it answers as the contract says until a [`Fault`] comes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat};
use flate2::read::GzDecoder;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rivulet_sdk::{Http, Request, Response, Transport as _};
use serde_json::{Value, json};
use uuid::Uuid;

/// 30 days: what is older is refused (docs/contract.md#time).
const OLDEST_MS: i64 = 30 * 24 * 3_600_000;

/// No honest batch is larger.
const LARGEST_BODY: u64 = 8 << 20;

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is cut after so many bytes of the body; nothing is stored.
    CutRequest(usize),
    /// Everything is stored; the connection is cut after so many bytes of the answer.
    CutAnswer(usize),
    /// Everything is stored, and no answer comes.
    Silent,
    /// This status, nothing is stored.
    Status {
        /// Any but 200.
        status: u16,
        /// The header `Retry-After`.
        retry_after: Option<String>,
    },
    /// A page that wants somebody to log in, with status 200.
    Portal,
    /// Everything is stored, and the answer has one result too few.
    TooFewResults,
    /// This share of the events is answered `retry`, and not stored.
    Retry(f64),
    /// This share of the events is refused for ever, with this code.
    Reject(f64, &'static str),
}

/// An event that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As it came first.
    pub event: Value,
    /// Its event time by the rule of the contract, Unix milliseconds.
    pub event_time_ms: i64,
    /// How often it came.
    pub times: u32,
}

/// What the server knows.
#[derive(Debug)]
pub struct State {
    /// What happens to the next batches, in order.
    pub faults: VecDeque<Fault>,
    /// What happens to the next questions for the config.
    pub config_faults: VecDeque<Fault>,
    /// Its clock.
    pub now_ms: i64,
    /// What it answers to `GET /v1/config`; 404 where it is nothing.
    pub config: Option<Value>,
    /// The credentials that it takes; all where there is none.
    pub credentials: HashSet<String>,
    /// Events by id.
    pub stored: HashMap<Uuid, Stored>,
    /// The codes of events that it has refused, by id.
    pub rejected: HashMap<Uuid, String>,
    /// What clients said that they lost.
    pub dropped: HashMap<String, u64>,
    /// Sizes of the batches that came whole.
    pub batches: Vec<usize>,
    /// What no client may do, and one did.
    pub violations: Vec<String>,
    /// A batch of more is `413`.
    pub max_events: usize,
    /// Requests that came.
    pub requests: u64,
    /// No request is allowed before.
    pub not_before_ms: i64,
    rng: ChaCha8Rng,
}

/// A real Rivulet behind the scripted server: it decides about what would be stored here.
pub struct Upstream {
    /// Where its ingest is.
    pub url: String,
    /// A key of scope `ingest`.
    pub key: String,
    http: Http,
}

impl Upstream {
    /// A Rivulet at `url`.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        let http = Http::new(Duration::from_secs(60));
        Self {
            url: url.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
            http,
        }
    }
}

/// A server that listens until its process ends.
#[derive(Clone)]
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Listens on a port of its own. Where there is an `upstream`, what would be stored goes there.
    ///
    /// # Errors
    /// There is no port.
    pub fn start(seed: u64, now_ms: i64, upstream: Option<Upstream>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State {
            faults: VecDeque::new(),
            config_faults: VecDeque::new(),
            now_ms,
            config: None,
            credentials: HashSet::new(),
            stored: HashMap::new(),
            rejected: HashMap::new(),
            dropped: HashMap::new(),
            batches: Vec::new(),
            violations: Vec::new(),
            max_events: 1_000,
            requests: 0,
            not_before_ms: i64::MIN,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }));
        let shared = Arc::clone(&state);
        let upstream = upstream.map(Arc::new);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, upstream) = (Arc::clone(&shared), upstream.clone());
                // A connection that breaks is what this server is for.
                thread::spawn(move || _ = serve(&stream, &state, upstream.as_deref()));
            }
        });
        Ok(Self { url, state })
    }

    /// Looks at what it knows, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }
}

/// A request that came whole.
struct Whole {
    method: String,
    path: String,
    credential: String,
    sent_at: Option<i64>,
    is_gzip: bool,
    body: Vec<u8>,
}

fn serve(stream: &TcpStream, state: &Mutex<State>, upstream: Option<&Upstream>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut input = BufReader::new(stream);
    loop {
        let Some(head) = head(&mut input)? else {
            return Ok(());
        };
        let fault = {
            let mut state = state.lock();
            state.requests += 1;
            match head.starts_with(b"POST") {
                true => state.faults.pop_front(),
                false => state.config_faults.pop_front(),
            }
        };
        let cut = match &fault {
            Some(Fault::CutRequest(at)) => Some(*at as u64),
            _ => None,
        };
        let Some(request) = whole(stream, &mut input, &head, cut)? else {
            return stream.shutdown(Shutdown::Both);
        };
        let answer = answer(state, upstream, &request, fault.as_ref());
        let mut bytes = Vec::new();
        write!(
            bytes,
            "HTTP/1.1 {} x\r\nContent-Length: {}\r\n",
            answer.status,
            answer.body.len()
        )?;
        if let Some(wait) = &answer.retry_after {
            write!(bytes, "Retry-After: {wait}\r\n")?;
        }
        write!(bytes, "Content-Type: application/json\r\n\r\n")?;
        bytes.extend(&answer.body);
        match fault {
            Some(Fault::Silent) => {
                // Until the client hangs up.
                _ = input.read(&mut [0]);
                return Ok(());
            }
            Some(Fault::CutAnswer(at)) if at < bytes.len() => {
                let mut output = stream;
                output.write_all(&bytes[..at])?;
                return stream.shutdown(Shutdown::Both);
            }
            _ => (&mut &*stream).write_all(&bytes)?,
        }
    }
}

/// The lines of a head, nothing at the end of the connection.
fn head(input: &mut BufReader<&TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if input.read_until(b'\n', &mut head)? == 0 || head.len() > 32 << 10 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

/// Reads the body; nothing where it is cut or no HTTP.
fn whole(
    stream: &TcpStream,
    input: &mut BufReader<&TcpStream>,
    head: &[u8],
    cut: Option<u64>,
) -> io::Result<Option<Whole>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return Ok(None);
    }
    let header = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    if header("Expect").is_some() {
        (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if header("Transfer-Encoding").is_some() {
        while cut.is_none_or(|cut| (body.len() as u64) < cut) {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Ok(size) = u64::from_str_radix(line.trim(), 16) else {
                return Ok(None);
            };
            input.by_ref().take(size).read_to_end(&mut body)?;
            input.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length: u64 = header("Content-Length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let wanted = length.min(cut.unwrap_or(LARGEST_BODY));
        if input.by_ref().take(wanted).read_to_end(&mut body)? < length as usize {
            return Ok(None);
        }
    }
    if cut.is_some() {
        return Ok(None);
    }
    let credential = header("Authorization").unwrap_or_default();
    Ok(Some(Whole {
        method: request.method.unwrap_or_default().to_owned(),
        path: request
            .path
            .unwrap_or_default()
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned(),
        credential: credential
            .strip_prefix("Bearer ")
            .unwrap_or_default()
            .to_owned(),
        sent_at: header("X-Sent-At").as_deref().and_then(millis),
        is_gzip: header("Content-Encoding").is_some_and(|encoding| encoding == "gzip"),
        body,
    }))
}

fn problem(status: u16, code: &str) -> Response {
    Response {
        status,
        retry_after: None,
        body: json!({"code": code}).to_string().into_bytes(),
    }
}

fn answer(
    state: &Mutex<State>,
    upstream: Option<&Upstream>,
    request: &Whole,
    fault: Option<&Fault>,
) -> Response {
    let mut state = state.lock();
    let is_events = match (&*request.method, &*request.path) {
        ("POST", "/v1/events") => true,
        ("GET", "/v1/config") => false,
        (method, path) => {
            state
                .violations
                .push(format!("{method} {path} is no request of the contract"));
            return problem(404, "not_found");
        }
    };
    if is_events && state.now_ms < state.not_before_ms {
        let early = state.not_before_ms - state.now_ms;
        state.violations.push(format!(
            "a batch came {early} ms before Retry-After was over"
        ));
    }
    match fault {
        Some(Fault::Status {
            status,
            retry_after,
        }) => {
            if let Some(seconds) = retry_after
                .as_ref()
                .and_then(|wait| wait.parse::<i64>().ok())
                && is_events
            {
                state.not_before_ms = state.now_ms + seconds * 1000;
            }
            let code = format!("status_{status}");
            return Response {
                retry_after: retry_after.clone(),
                ..problem(*status, &code)
            };
        }
        Some(Fault::Portal) => {
            let body = b"<!doctype html><title>Log in to the hotel</title>".to_vec();
            return Response {
                status: 200,
                retry_after: None,
                body,
            };
        }
        _ => {}
    }
    if !state.credentials.is_empty() && !state.credentials.contains(&request.credential) {
        return problem(401, "unauthorized");
    }
    if !is_events {
        return match &state.config {
            Some(config) => Response {
                status: 200,
                retry_after: None,
                body: config.to_string().into_bytes(),
            },
            None => problem(404, "not_found"),
        };
    }
    match take(&mut state, upstream, request, fault) {
        Ok(response) => response,
        Err(why) => {
            state.violations.push(why);
            problem(400, "invalid_body")
        }
    }
}

/// Judges a batch that came whole.
fn take(
    state: &mut State,
    upstream: Option<&Upstream>,
    request: &Whole,
    fault: Option<&Fault>,
) -> Result<Response, String> {
    let mut text = String::new();
    match request.is_gzip {
        true => GzDecoder::new(&request.body[..])
            .take(LARGEST_BODY)
            .read_to_string(&mut text),
        false => (&request.body[..]).read_to_string(&mut text),
    }
    .map_err(|error| format!("a body cannot be read: {error}"))?;
    let mut body: Value =
        serde_json::from_str(&text).map_err(|error| format!("a body is no JSON: {error}"))?;
    let sent_at = request
        .sent_at
        .or_else(|| millis(body["sent_at"].as_str()?));
    let sent_at = sent_at.ok_or("a batch does not say when it was sent")?;
    let Value::Array(events) = body["events"].take() else {
        return Err("a body has no events".to_owned());
    };
    if events.len() > state.max_events {
        return Ok(problem(413, "too_many_events"));
    }
    state.batches.push(events.len());
    if events.len() > 200 {
        state.violations.push(format!(
            "a batch of {} events; 200 are enough",
            events.len()
        ));
    }
    if let Some(dropped) = body["dropped"].as_object() {
        for (reason, count) in dropped {
            *state.dropped.entry(reason.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    let mut outcomes: Vec<Value> = Vec::with_capacity(events.len());
    let mut pass_on = Vec::new();
    for event in &events {
        let id: Uuid = event["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or("an event has no id")?;
        let outcome = judge(state, id, event, sent_at, fault);
        if outcome["outcome"] == "accepted" {
            pass_on.push((outcomes.len(), id));
        }
        outcomes.push(outcome);
    }
    if let Some(upstream) = upstream.filter(|_| !pass_on.is_empty()) {
        let events: Vec<_> = pass_on.iter().map(|(at, _)| &events[*at]).collect();
        ask_upstream(upstream, sent_at, &events, &pass_on, &mut outcomes)?;
    }
    for (at, event) in events.iter().enumerate() {
        let Some(id) = event["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()) else {
            continue;
        };
        match outcomes[at]["outcome"].as_str() {
            Some("accepted") => keep(state, id, event, sent_at),
            Some("rejected") => {
                let code = outcomes[at]["code"].as_str().unwrap_or_default().to_owned();
                state.rejected.insert(id, code);
            }
            _ => {}
        }
        outcomes[at]["index"] = at.into();
        outcomes[at]["id"] = id.to_string().into();
    }
    if matches!(fault, Some(Fault::TooFewResults)) {
        outcomes.pop();
    }
    let retries = outcomes.iter().any(|outcome| outcome["outcome"] == "retry");
    let received_at = text_of(state.now_ms);
    let body = json!({"request_id": "r", "received_at": received_at, "results": outcomes});
    if retries {
        state.not_before_ms = state.now_ms + 1000;
    }
    let retry_after = retries.then(|| "1".to_owned());
    Ok(Response {
        status: 200,
        retry_after,
        body: body.to_string().into_bytes(),
    })
}

/// What this server says of an event, and always the same of one that it has judged for good.
fn judge(state: &mut State, id: Uuid, event: &Value, sent_at: i64, fault: Option<&Fault>) -> Value {
    let rejected = |code: &str| json!({"outcome": "rejected", "code": code, "pointer": "/data", "message": "by the script"});
    if let Some(code) = state.rejected.get(&id) {
        return rejected(code);
    }
    if !state.stored.contains_key(&id) {
        match fault {
            Some(Fault::Retry(share)) if state.rng.random_bool(*share) => {
                return json!({"outcome": "retry"});
            }
            Some(Fault::Reject(share, code)) if state.rng.random_bool(*share) => {
                return rejected(code);
            }
            _ => {}
        }
        if event_time(state, event, sent_at) < state.now_ms - OLDEST_MS {
            return rejected("too_old");
        }
    }
    json!({"outcome": "accepted"})
}

/// docs/contract.md#time
fn event_time(state: &State, event: &Value, sent_at: i64) -> i64 {
    let occurred = event["occurred_at"].as_str().and_then(millis).unwrap_or(0);
    let off = state.now_ms - sent_at;
    if off.abs() > 60_000 {
        occurred + off
    } else {
        occurred
    }
}

fn keep(state: &mut State, id: Uuid, event: &Value, sent_at: i64) {
    let event_time_ms = event_time(state, event, sent_at);
    let stored = state.stored.entry(id).or_insert_with(|| Stored {
        event: event.clone(),
        event_time_ms,
        times: 0,
    });
    stored.times += 1;
    if stored.event != *event {
        let mut what = String::from("an event was sent again, and not as before: ");
        _ = write!(what, "{} {event}", stored.event);
        state.violations.push(what);
    }
}

/// The real one decides.
fn ask_upstream(
    upstream: &Upstream,
    sent_at: i64,
    events: &[&Value],
    at: &[(usize, Uuid)],
    outcomes: &mut [Value],
) -> Result<(), String> {
    let body = json!({"sent_at": text_of(sent_at), "events": events})
        .to_string()
        .into_bytes();
    let request = Request {
        method: "POST",
        url: format!("{}/v1/events", upstream.url),
        headers: vec![
            ("Authorization", format!("Bearer {}", upstream.key)),
            ("Content-Type", "application/json".to_owned()),
        ],
        body,
    };
    let answer = upstream
        .http
        .send(&request)
        .map_err(|error| format!("the server behind: {error}"))?;
    if answer.status != 200 {
        return Err(format!(
            "the server behind: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        ));
    }
    let answer: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let results = answer["results"]
        .as_array()
        .ok_or("the server behind has no results")?;
    for ((at, _), result) in at.iter().zip(results) {
        outcomes[*at] = result.clone();
    }
    Ok(())
}

fn millis(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.timestamp_millis())
}

fn text_of(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}
