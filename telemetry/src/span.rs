//! Spans of requests and batches, and the header that a record carries.
//!
//! A request that is not sampled has no span, and its records have no header. A batch has a span if a record in it is
//! of a request that has one.

use std::sync::OnceLock;

use axum::http::{HeaderMap, Method, StatusCode};
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        Link as OtelLink, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
        TraceFlags, TraceId, TraceState, Tracer as _,
    },
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracer};

use crate::metrics::TRACE_SPANS;

/// The header of W3C Trace Context, of HTTP requests and of Kafka records.
pub const TRACEPARENT: &str = "traceparent";

/// Requests that the span of a batch is linked to, at most: what OpenTelemetry keeps of them.
const MAX_LINKS: usize = 128;

static TRACING: OnceLock<Tracing> = OnceLock::new();

struct Tracing {
    tracer: SdkTracer,
    sampler: Sampler,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// Whether a request is not traced if its caller says so.
    pub(crate) asks_caller: bool,
    /// The share of the other requests that is traced, 0..=1.
    pub(crate) ratio: f64,
}

impl Sampler {
    /// Decides whether a request is traced. Strangers cannot switch tracing on: if a caller traces a request, that does
    /// not make it more likely to be traced here. The trace id does not matter either, because the caller chooses it.
    fn takes(self, caller: impl FnOnce() -> Option<SpanContext>) -> Option<Context> {
        if rand::random::<f64>() >= self.ratio {
            return None;
        }
        match caller() {
            Some(caller) if self.asks_caller && !caller.is_sampled() => None,
            Some(caller) => Some(Context::new().with_remote_span_context(caller)),
            None => Some(Context::new()),
        }
    }
}

/// Spans are made from now on. Only the first call counts.
pub(crate) fn install(tracer: SdkTracer, sampler: Sampler) {
    let _ = TRACING.set(Tracing { tracer, sampler });
}

/// Whether any spans are made at all.
#[must_use]
pub fn tracing_is_on() -> bool {
    TRACING.get().is_some()
}

/// A span that goes to the collector. It ends when the last clone of it is dropped.
///
/// Nobody redacts what is put into it: no id of a child, no key, no address, no text of an event.
#[derive(Clone, Debug)]
pub struct Span(Context);

impl Span {
    /// The span of a request, below the caller's span if it has one. `None` unless it is sampled. `route` is a name
    /// without ids.
    #[must_use]
    pub fn of_request(method: &Method, route: &'static str, headers: &HeaderMap) -> Option<Self> {
        let tracing = TRACING.get()?;
        let parent = tracing
            .sampler
            .takes(|| parse(headers.get(TRACEPARENT)?.to_str().ok()?))?;
        let (method, verb) = known(method);
        let builder = SpanBuilder::from_name(format!("{verb} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
            ]);
        Some(Self::start(tracing, builder, &parent))
    }

    /// The span of work on what came from many requests. It is linked to those of them that are traced; `None` if none
    /// of them is.
    #[must_use]
    pub fn of_batch(name: String, links: Links) -> Option<Self> {
        let tracing = TRACING.get()?;
        if links.traced.is_empty() {
            return None;
        }
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Consumer)
            .with_attributes([KeyValue::new(
                "messaging.batch.message_count",
                links.records,
            )])
            .with_links(links.traced.into_iter().map(Link::of_span).collect());
        Some(Self::start(tracing, builder, &Context::new()))
    }

    /// The span of a part of the work.
    #[must_use]
    pub fn child(&self, name: &'static str, kind: SpanKind) -> Self {
        // There are spans only if tracing is on.
        let Some(tracing) = TRACING.get() else {
            return self.clone();
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        Self::start(tracing, builder, &self.0)
    }

    /// The span of a call to a database. `database` is its name in OpenTelemetry's conventions.
    #[must_use]
    pub fn database_call(&self, name: &'static str, database: &'static str) -> Self {
        let span = self.child(name, SpanKind::Client);
        span.set("db.system.name", database);
        span
    }

    fn start(tracing: &Tracing, builder: SpanBuilder, parent: &Context) -> Self {
        TRACE_SPANS.with(["started"]).increment(1);
        let span = tracing.tracer.build_with_context(builder, parent);
        Self(parent.with_span(span))
    }

    /// Puts an attribute on it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// Puts an attribute on it that is a list.
    pub fn set_list(&self, key: &'static str, values: impl IntoIterator<Item = String>) {
        let values: Vec<StringValue> = values.into_iter().map(Into::into).collect();
        self.set(key, Value::Array(Array::String(values)));
    }

    /// A request's answer, with the code of its problem or `ok`.
    pub fn answered(&self, status: StatusCode, code: &'static str) {
        self.set("http.response.status_code", i64::from(status.as_u16()));
        self.set("rivulet.code", code);
        if status.is_server_error() {
            self.failed(code);
        }
    }

    /// The work came to nothing. `reason` is one of few words, as in a metric's label.
    pub fn failed(&self, reason: &'static str) {
        self.set("error.type", reason);
        self.0.span().set_status(Status::error(reason));
    }

    /// What a record takes along, for the header [`TRACEPARENT`].
    #[must_use]
    pub fn traceparent(&self) -> String {
        let span = self.0.span();
        let context = span.span_context();
        format!("00-{}-{}-01", context.trace_id(), context.span_id())
    }

    /// The trace that it is in: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.0.span().span_context().trace_id().to_string()
    }
}

/// The span of a sampled request, as a record knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    trace: TraceId,
    span: SpanId,
}

impl Link {
    /// Reads the header [`TRACEPARENT`] of a record; `None` too where the request was not sampled.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let context = parse(str::from_utf8(header).ok()?)?;
        context.is_sampled().then_some(Self {
            trace: context.trace_id(),
            span: context.span_id(),
        })
    }

    fn of_span(self) -> OtelLink {
        let state = TraceState::default();
        let Self { trace, span } = self;
        let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, state);
        OtelLink::with_context(context)
    }
}

/// What the records of a batch say of the requests that they came with.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The requests that are traced, each once; the first 128 of them.
    traced: Vec<Link>,
    records: i64,
}

impl Links {
    /// Adds a record, and its request if that is traced.
    pub fn add(&mut self, link: Option<&Link>) {
        self.records += 1;
        if let Some(link) = link
            && self.traced.len() < MAX_LINKS
            && !self.traced.contains(link)
        {
            self.traced.push(*link);
        }
    }
}

/// The method for `http.request.method`, and for the name of the span. Unknown methods are replaced, because clients
/// can make up any.
fn known(method: &Method) -> (&'static str, &'static str) {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ];
    match known.iter().position(|known| known == method) {
        Some(at) => {
            let name = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"][at];
            (name, name)
        }
        None => ("_OTHER", "HTTP"),
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    struct Header<'a>(&'a str);
    impl Extractor for Header<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            // `tracestate` could hold anything.
            (key == TRACEPARENT).then_some(self.0)
        }
        fn keys(&self) -> Vec<&str> {
            vec![TRACEPARENT]
        }
    }
    let found =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(traceparent));
    let context = found.span().span_context().clone();
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn takes(asks_caller: bool, ratio: f64, caller: &str) -> bool {
        Sampler { asks_caller, ratio }
            .takes(|| parse(caller))
            .is_some()
    }

    #[test]
    fn a_caller_can_switch_tracing_off_and_never_on() {
        for asks_caller in [true, false] {
            for caller in ["", SAMPLED, NOT_SAMPLED] {
                assert!(!takes(asks_caller, 0.0, caller));
                let refused = asks_caller && caller == NOT_SAMPLED;
                assert_eq!(takes(asks_caller, 1.0, caller), !refused);
            }
            // By a trace id that is always the same: 10 standard deviations to either side.
            let taken = (0..10_000).filter(|_| takes(asks_caller, 0.1, SAMPLED));
            assert!((700..1_300).contains(&taken.count()));
        }
    }

    #[test]
    fn what_a_stranger_sends_is_a_context_or_nothing() {
        let context = parse(SAMPLED).unwrap();
        assert_eq!(context.trace_id().to_string(), SAMPLED[3..35]);
        assert!(context.is_sampled() && !parse(NOT_SAMPLED).unwrap().is_sampled());
        for strange in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319cff-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert!(parse(strange).is_none(), "{strange}");
        }
    }

    #[test]
    fn a_record_is_of_a_sampled_request_or_of_none() {
        assert!(Link::parse(SAMPLED.as_bytes()).is_some());
        for other in [NOT_SAMPLED.as_bytes(), b"", b"\xff\xff"] {
            assert_eq!(Link::parse(other), None);
        }
    }

    #[test]
    fn a_batch_is_of_each_request_once_and_of_so_many_at_most() {
        let mut links = Links::default();
        for number in 1..=1_000u64 {
            let header = format!("00-0af7651916cd43dd8448eb211c80319c-{number:016x}-01");
            let link = Link::parse(header.as_bytes());
            links.add(link.as_ref());
            links.add(link.as_ref());
            links.add(None);
        }
        assert_eq!(links.records, 3_000);
        assert_eq!(links.traced.len(), MAX_LINKS);
        assert_eq!(links.traced[1].span.to_string(), "0000000000000002");
    }
}
