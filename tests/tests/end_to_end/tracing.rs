//! A request's way through Kafka into both stores, as a collector is told of it; and that nothing is
//! told, written or delayed where nobody asked for it.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use chrono::{SecondsFormat, Utc};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
    trace::v1::{Span, span::SpanKind},
};
use parking_lot::Mutex;
use prost::Message as _;
use reqwest::Method;
use rivulet_sandbox::TestBed;
use rivulet_tests::{Rivulet, Role, headers};
use serde_json::{Value, json};
use uuid::Uuid;

/// An address of the loopback network that nothing else uses, to look for in spans.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 82, 74));

const SPANS: &str = "rivulet_trace_spans_total";

/// A collector, and the spans that it was sent, by service.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

impl Collector {
    /// Listens, and returns where.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/traces", post(Self::take))
            .with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn take(State(this): State<Self>, body: Bytes) {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        for of_service in request.resource_spans {
            let resource = of_service.resource.unwrap();
            let service = text(&resource.attributes, "service.name").unwrap();
            for span in of_service.scope_spans.into_iter().flat_map(|of| of.spans) {
                this.0.lock().push((service.clone(), span));
            }
        }
    }

    /// The spans of a service that fit.
    fn spans(&self, service: &str, fits: impl Fn(&Span) -> bool) -> Vec<Span> {
        let spans = self.0.lock();
        let of_service = spans.iter().filter(|(of, _)| of == service);
        of_service
            .map(|(_, span)| span.clone())
            .filter(|span| fits(span))
            .collect()
    }

    /// The one span that fits.
    fn span(&self, service: &str, fits: impl Fn(&Span) -> bool) -> Span {
        let spans = self.spans(service, fits);
        assert_eq!(spans.len(), 1, "{spans:#?} of {:#?}", self.0.lock());
        spans.into_iter().next().unwrap()
    }

    fn names_below(&self, service: &str, parent: &Span) -> Vec<String> {
        let spans = self.spans(service, |span| span.parent_span_id == parent.span_id);
        assert!(spans.iter().all(|span| span.trace_id == parent.trace_id));
        spans.into_iter().map(|span| span.name).collect()
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Attribute> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attribute(attributes, key)? {
        Attribute::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

fn number(span: &Span, key: &str) -> Option<i64> {
    match attribute(&span.attributes, key)? {
        Attribute::IntValue(number) => Some(*number),
        other => panic!("{key} is {other:?}"),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A caller's trace, its span in it, and the header that says so.
struct Caller {
    trace: String,
    span: String,
    sampled: bool,
}

impl Caller {
    fn new(sampled: bool) -> Self {
        Self {
            trace: Uuid::new_v4().simple().to_string(),
            span: Uuid::new_v4().simple().to_string()[..16].to_owned(),
            sampled,
        }
    }

    fn traceparent(&self) -> String {
        let Self {
            trace,
            span,
            sampled,
        } = self;
        format!("00-{trace}-{span}-0{}", u8::from(*sampled))
    }

    fn is_of(&self, span: &Span) -> bool {
        hex(&span.trace_id) == self.trace
    }
}

async fn ask(
    role: &Role,
    method: &str,
    path: &str,
    key: &str,
    caller: Option<&Caller>,
    body: &Value,
) -> (u16, Value) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .local_address(CLIENT)
        .build()
        .unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client
        .request(method, format!("http://{}{path}", role.address))
        .bearer_auth(key)
        .header("content-type", "application/json")
        .header("x-request-id", "planted-request-id")
        .header("user-agent", "planted-agent")
        .body(body.to_string());
    if let Some(caller) = caller {
        request = request
            .header("traceparent", caller.traceparent())
            .header("tracestate", "planted=state");
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let answer = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&answer).unwrap_or_default())
}

struct Family {
    parent: Uuid,
    child: Uuid,
}

async fn family(rivulet: &Rivulet, ingest: &Role) -> Family {
    let family = Family {
        parent: Uuid::new_v4(),
        child: Uuid::new_v4(),
    };
    let Family { parent, child } = &family;
    let consents = json!({"coppa": true, "audio": true, "analytics": true});
    for (path, body) in [
        (
            format!("/v1/admin/parents/{parent}"),
            json!({"timezone": "Europe/Rome", "consents": consents}),
        ),
        (
            format!("/v1/admin/children/{child}"),
            json!({"parent_id": parent, "age_group": "wonder_cubs"}),
        ),
    ] {
        let key = &rivulet.admin_key;
        let (status, said) = ask(ingest, "PUT", &path, key, None, &body).await;
        assert_eq!(status, 204, "{said}");
    }
    family
}

fn event(child: Uuid, kind: &str) -> Value {
    let data = match kind {
        "interaction" => json!({"action": "start", "subject": "planted-subject"}),
        _ => json!({
            "conversation_id": Uuid::new_v4(), "sequence": 1, "role": "user",
            "content": "planted words of a child", "topic": "planted-topic",
        }),
    };
    json!({
        "id": Uuid::new_v4(), "type": kind, "child_id": child, "data": data,
        "occurred_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        "device": {"id": "planted-device"}, "attributes": {"planted-key": "planted-value"},
    })
}

async fn send(rivulet: &Rivulet, ingest: &Role, caller: Option<&Caller>, events: &[Value]) {
    let (key, body) = (&rivulet.ingest_key, json!({"events": events}));
    let path = "/v1/events?verbose=false&planted-query";
    let (status, answer) = ask(ingest, "POST", path, key, caller, &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["accepted"], events.len(), "{answer}");
}

async fn events_of(rivulet: &Rivulet, child: Uuid) -> i64 {
    let query = "SELECT sum(events)::bigint FROM daily_child_metrics WHERE child_id = $1";
    let counted: Option<i64> = sqlx::query_scalar(query)
        .bind(child)
        .fetch_one(&rivulet.bed.pool)
        .await
        .unwrap();
    counted.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_request_is_followed_into_both_stores() {
    let _turn = crate::turn::of(module_path!());
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ("RIVULET_LOG", "info,rivulet_web=debug"),
    ];
    let rivulet = Rivulet::new(TestBed::new().await, &env).await.unwrap();
    let roles = ["ingest", "aggregate", "sink", "api"];
    let [ingest, aggregate, sink, api] = rivulet.start(roles).await.unwrap();
    let Family { parent, child } = family(&rivulet, &ingest).await;
    let (traced, untraced, reader) = (Caller::new(true), Caller::new(false), Caller::new(true));
    let events = [event(child, "interaction"), event(child, "message")];
    send(&rivulet, &ingest, Some(&traced), &events).await;
    let untold = [event(child, "interaction")];
    send(&rivulet, &ingest, Some(&untraced), &untold).await;
    rivulet.settle().await.unwrap();
    assert_eq!(events_of(&rivulet, child).await, 3);
    let create = ["keys", "create", "--name", "reader", "--scope", "read"];
    let read_key = rivulet.command(&create).await.unwrap();
    let daily = format!("/v1/children/{child}/daily");
    let none = Value::Null;
    let (status, said) = ask(&api, "GET", &daily, &read_key, Some(&reader), &none).await;
    assert_eq!(status, 200, "{said}");
    // What somebody might send to see it in a span.
    let wrong_key = "rvk_planted_wrong_key";
    ask(&ingest, "PLANTED", "/v1/events", wrong_key, None, &none).await;
    ask(&ingest, "POST", "/v1/planted-path", wrong_key, None, &none).await;
    ask(&api, "GET", &daily, wrong_key, None, &none).await;
    for role in [ingest, aggregate, sink, api] {
        role.stop().await.unwrap();
    }

    // The request, beneath the caller's span.
    let server = collector.span("rivulet-ingest", |span| {
        traced.is_of(span) && span.kind == SpanKind::Server as i32
    });
    assert_eq!(server.name, "POST events");
    assert_eq!(hex(&server.parent_span_id), traced.span);
    assert_eq!(number(&server, "rivulet.accepted"), Some(2));
    assert_eq!(number(&server, "http.response.status_code"), Some(200));
    let made = collector.span("rivulet-ingest", |span| {
        traced.is_of(span) && span.kind == SpanKind::Producer as i32
    });
    assert_eq!(collector.names_below("rivulet-ingest", &server), ["send"]);

    // Its records say of which span they are, those of the other say nothing.
    let headers = headers(&rivulet.bed.cluster).await.unwrap();
    let traceparent = format!("00-{}-{}-01", traced.trace, hex(&made.span_id));
    let named: Vec<_> = headers.into_iter().filter(|of| !of.is_empty()).collect();
    let expected = vec![("traceparent".to_owned(), traceparent)];
    assert_eq!(named, [expected.clone(), expected]);

    // The batches that they came to are linked to it.
    let is_linked = |span: &Span| {
        let mut links = span.links.iter();
        links.any(|link| link.trace_id == made.trace_id && link.span_id == made.span_id)
    };
    let batches = collector.spans("rivulet-aggregate", is_linked);
    assert!(!batches.is_empty());
    for batch in &batches {
        assert_eq!(batch.kind, SpanKind::Consumer as i32);
        let below = collector.names_below("rivulet-aggregate", batch);
        assert_eq!(below, ["commit"]);
    }
    let mut topics = Vec::new();
    for batch in collector.spans("rivulet-sink", is_linked) {
        let mut below = collector.names_below("rivulet-sink", &batch);
        below.sort();
        assert_eq!(below, ["begin", "finish", "insert"]);
        let topic = text(&batch.attributes, "messaging.destination.name").unwrap();
        assert_eq!(batch.name, format!("process {topic}"));
        topics.push(topic);
    }
    topics.sort();
    let [interactions, messages, ..] = rivulet.bed.cluster.topics();
    assert_eq!(topics, [interactions, messages]);

    let is_asked = |span: &Span| reader.is_of(span) && span.name == "GET daily";
    let asked = collector.span("rivulet-api", is_asked);
    assert_eq!(collector.names_below("rivulet-api", &asked), ["read"]);
    let strange = collector.spans("rivulet-ingest", |span| span.name.starts_with("HTTP"));
    assert_eq!(strange.len(), 1);

    // The caller that was not traced is nowhere, nor is anything that names somebody.
    let everything = collector.0.lock();
    let is_known = |span: &Span| {
        let mut traces = span.links.iter().map(|link| &link.trace_id);
        traces.any(|trace| hex(trace) == untraced.trace) || untraced.is_of(span)
    };
    assert!(!everything.iter().any(|(_, span)| is_known(span)));
    let spans = format!("{everything:?}");
    assert!(
        spans.contains("rivulet.accepted"),
        "the search would find it"
    );
    let (ingest_key, admin_key) = (rivulet.ingest_key.clone(), rivulet.admin_key.clone());
    let ids = [parent, child].into_iter().chain(
        events
            .iter()
            .map(|event| event["id"].as_str().unwrap().parse().unwrap()),
    );
    let ids = ids.flat_map(|id: Uuid| [id.to_string(), id.simple().to_string()]);
    let secrets = ["planted", "PLANTED"].map(str::to_owned).into_iter();
    let keys = [ingest_key, admin_key, read_key, CLIENT.to_string()];
    for secret in secrets.chain(ids).chain(keys) {
        assert!(!spans.contains(&secret), "{secret} is in a span");
    }
    let logs = String::from_utf8(rivulet.logs().unwrap()).unwrap();
    assert!(logs.contains(&traced.trace), "no line names the trace");
    assert!(!logs.contains(&untraced.trace));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_unless_it_is_asked_for() {
    let _turn = crate::turn::of(module_path!());
    let collector = Collector::default();
    let endpoint = collector.start().await;
    // As if it were not there.
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "")];
    let rivulet = Rivulet::new(TestBed::new().await, &off).await.unwrap();
    let [ingest, aggregate, sink] = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let Family { child, .. } = family(&rivulet, &ingest).await;
    let events = [event(child, "interaction"), event(child, "message")];
    send(&rivulet, &ingest, Some(&Caller::new(true)), &events).await;
    // On, but for none of the requests: whatever a stranger says.
    let none = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", "0".to_owned()),
    ];
    let on = rivulet.start_with("ingest", &none).await.unwrap();
    let more = [event(child, "interaction")];
    send(&rivulet, &on, Some(&Caller::new(true)), &more).await;
    rivulet.settle().await.unwrap();
    assert_eq!(events_of(&rivulet, child).await, 3);
    for role in [ingest, aggregate, sink, on] {
        assert_eq!(role.counter(SPANS).await.unwrap(), 0.0);
        role.stop().await.unwrap();
    }
    let headers = headers(&rivulet.bed.cluster).await.unwrap();
    assert_eq!(headers, [const { Vec::new() }; 3]);
    assert!(collector.0.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_costs_no_event() {
    let _turn = crate::turn::of(module_path!());
    // Connections are made to it, and nobody takes them.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hangs.local_addr().unwrap());
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        // Full at once.
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
    ];
    let (rivulet, roles) = Rivulet::running(&env, ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let Family { child, .. } = family(&rivulet, &roles[0]).await;
    for _ in 0..100 {
        send(&rivulet, &roles[0], None, &[event(child, "interaction")]).await;
    }
    rivulet.settle().await.unwrap();
    assert_eq!(events_of(&rivulet, child).await, 100);
    let stored: u64 = rivulet
        .bed
        .clickhouse
        .query("SELECT count() FROM history WHERE child_id = toUUID(?)")
        .bind(child.to_string())
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(stored, 100);
    let failed = format!("{SPANS}{{outcome=\"failed\"}}");
    let given_up = async {
        while roles[0].counter(&failed).await.unwrap() == 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, given_up).await.unwrap();
    for role in roles {
        role.stop().await.unwrap();
    }
    let logs = String::from_utf8(rivulet.logs().unwrap()).unwrap();
    assert!(logs.contains("spans are lost, events are not"), "{logs}");
    assert!(!logs.contains("ERROR"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_does_not_start_on_settings_that_lead_nowhere() {
    let _turn = crate::turn::of(module_path!());
    let bad = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")];
    let rivulet = Rivulet::new(TestBed::new().await, &bad).await.unwrap();
    for role in ["ingest", "aggregate", "sink", "api", "all"] {
        let output = rivulet.output(&[role]).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{said}");
        assert!(said.contains("no span would ever arrive"), "{said}");
    }
    let output = rivulet.output(&["check-config"]).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("FAILED  tracing: OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{said}"
    );
}
