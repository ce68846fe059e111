//! Reads OpenTelemetry's standard variables, which say where spans go, and makes the exporter.

use std::{
    env, fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::{Key, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider, SpanData, SpanExporter},
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

use crate::metrics::TRACE_SPANS;
use crate::span::{self, Sampler};

/// The share of requests that are traced when nothing else is said.
const DEFAULT_RATIO: f64 = 0.01;

/// How often it is logged that the collector takes nothing.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How long the last spans may take to be sent when the process ends. That is after 40 s of draining, and before the
/// SIGKILL that follows after 45 s under docker-compose.yml.
const FLUSH: Duration = Duration::from_secs(4);

/// A collector that takes spans over OTLP, and which requests are traced for it.
#[derive(Clone, Debug)]
pub struct Collector {
    endpoint: Url,
    sampler: Sampler,
}

/// One of the variables cannot be followed; the text says which, and what would become of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCollector(String);

impl Collector {
    /// Reads the `OTEL_…` variables; `None` where they ask for no tracing.
    ///
    /// # Errors
    /// The first variable that cannot be followed.
    pub fn from_env() -> Result<Option<Self>, InvalidCollector> {
        Self::read(|name| env::var(name).ok())
    }

    fn read(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, InvalidCollector> {
        // A variable that is empty counts as not set, says the standard.
        let var = |name: &'static str| {
            let value = var(name)?.trim().to_owned();
            (!value.is_empty()).then_some((name, value))
        };
        let is_off = var("OTEL_SDK_DISABLED").is_some_and(|(_, value)| value == "true")
            || var("OTEL_TRACES_EXPORTER").is_some_and(|(_, value)| value == "none");
        let endpoint = var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let (Some((name, url)), false) = (endpoint, is_off) else {
            return Ok(None);
        };
        let endpoint = endpoint_of(name, &url)?;
        let protocol = var("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| var("OTEL_EXPORTER_OTLP_PROTOCOL"));
        only(protocol, "http/protobuf")?;
        only(var("OTEL_TRACES_EXPORTER"), "otlp")?;
        let sampler = sampler_of(var("OTEL_TRACES_SAMPLER"), var("OTEL_TRACES_SAMPLER_ARG"))?;
        Ok(Some(Self { endpoint, sampler }))
    }

    /// Whether spans are sent in plain text to another machine.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let is_local = match self.endpoint.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        self.endpoint.scheme() == "http" && !is_local
    }

    /// Makes spans from now on, of a service called `name` unless the variables name it. Call it once,
    /// inside a tokio runtime, after the metrics are installed.
    ///
    /// # Errors
    /// The exporter does not like one of the other `OTEL_EXPORTER_OTLP_…` variables.
    pub fn install(self, name: &'static str) -> Result<Traces, InvalidCollector> {
        let otlp = Otlp::builder()
            .with_http()
            .with_endpoint(self.endpoint.as_str())
            .build()
            .map_err(|error| InvalidCollector(format!("spans could not be exported: {error}")))?;
        let exporter = Exporter {
            otlp: Arc::new(otlp),
            runtime: Handle::current(),
            told: Mutex::new(None),
        };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            // A request that is not sampled has no span, so all spans are sent.
            .with_sampler(SdkSampler::AlwaysOn)
            .with_resource(resource(name))
            .build();
        span::install(provider.tracer("rivulet"), self.sampler);
        Ok(Traces(provider))
    }
}

/// For people: where the spans go, and of how many requests.
impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sampler { asks_caller, ratio } = self.sampler;
        let but = if asks_caller {
            ", but not where the caller says no"
        } else {
            ""
        };
        // There may be a key in the query.
        let mut endpoint = self.endpoint.clone();
        endpoint.set_query(None);
        write!(
            f,
            "{ratio} of all requests are traced{but}; spans go to {endpoint}"
        )
    }
}

fn endpoint_of(name: &'static str, text: &str) -> Result<Url, InvalidCollector> {
    let refused = |why: &str| {
        InvalidCollector(format!(
            "{name} {why}: no span would ever arrive. Name the collector's OTLP/HTTP port, such as \
             http://127.0.0.1:4318, or unset it for no tracing"
        ))
    };
    let mut url = Url::parse(text).map_err(|_| refused("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refused("does not begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "holds a login, which belongs into OTEL_EXPORTER_OTLP_HEADERS",
        ));
    }
    if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// Refuses any other value.
fn only(given: Option<(&'static str, String)>, known: &str) -> Result<(), InvalidCollector> {
    match given {
        Some((name, value)) if value != known => Err(InvalidCollector(format!(
            "{name} is {value}, but only {known} is built in: no span would ever arrive"
        ))),
        _ => Ok(()),
    }
}

fn sampler_of(
    name: Option<(&'static str, String)>,
    share: Option<(&'static str, String)>,
) -> Result<Sampler, InvalidCollector> {
    let share = match share {
        None => None,
        Some((name, text)) => match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Some(share),
            _ => {
                return Err(InvalidCollector(format!(
                    "{name} is {text}, which is no share of all requests: a number from 0 to 1"
                )));
            }
        },
    };
    let Some((variable, name)) = name else {
        return Ok(Sampler {
            asks_caller: true,
            ratio: share.unwrap_or(DEFAULT_RATIO),
        });
    };
    let (asks_caller, kind) = match name.strip_prefix("parentbased_") {
        Some(kind) => (true, kind),
        None => (false, &*name),
    };
    let ratio = match kind {
        "always_on" => 1.0,
        "always_off" => 0.0,
        // Without an argument the standard means all requests.
        "traceidratio" => share.unwrap_or(1.0),
        _ => {
            return Err(InvalidCollector(format!(
                "{variable} is {name}, which is not known here: it would trace nothing, or everything. Known \
                 are always_on, always_off and traceidratio, each alone and after parentbased_"
            )));
        }
    };
    Ok(Sampler { asks_caller, ratio })
}

fn resource(name: &'static str) -> Resource {
    let named = Resource::builder().build();
    let named = named.get(&Key::from_static_str("service.name"));
    let is_named = named.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let resource = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    ));
    if is_named {
        return resource.build();
    }
    resource.with_service_name(name).build()
}

/// The tracing of this process.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends the last spans, within 4 s or not at all.
    pub async fn flush(self) {
        let flush = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH));
        if !matches!(flush.await, Ok(Ok(()))) {
            tracing::warn!("the last spans did not get to the collector");
        }
    }
}

/// OTLP's exporter, with its outcomes counted.
#[derive(Debug)]
struct Exporter {
    otlp: Arc<Otlp>,
    runtime: Handle,
    /// When a failure of the collector was last logged.
    told: Mutex<Option<Instant>>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (spans, otlp) = (batch.len() as u64, Arc::clone(&self.otlp));
        // The processor has a thread of its own, where its HTTP client would find no runtime.
        let export = self.runtime.spawn(async move { otlp.export(batch).await });
        let outcome = match export.await {
            Ok(outcome) => outcome,
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        match &outcome {
            Ok(()) => TRACE_SPANS.with(["exported"]).increment(spans),
            Err(error) => {
                TRACE_SPANS.with(["failed"]).increment(spans);
                let mut told = self.told.lock();
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    *told = Some(Instant::now());
                    tracing::warn!(%error, spans, "spans are lost, events are not: the collector does not take them");
                }
            }
        }
        outcome
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Before the first export nobody else has it.
        if let Some(otlp) = Arc::get_mut(&mut self.otlp) {
            otlp.set_resource(resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Collector>, InvalidCollector> {
        Collector::read(|name| {
            let found = vars.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn url(vars: &[(&str, &str)]) -> String {
        read(vars).unwrap().unwrap().endpoint.to_string()
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn it_is_off_until_an_endpoint_is_named() {
        assert!(read(&[]).unwrap().is_none());
        assert!(
            read(&[("OTEL_TRACES_SAMPLER", "always_on")])
                .unwrap()
                .is_none()
        );
        assert!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")])
                .unwrap()
                .is_none()
        );
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert!(read(&[ENDPOINT, off]).unwrap().is_none());
        }
        assert!(read(&[ENDPOINT]).unwrap().is_some());
    }

    #[test]
    fn the_path_is_added_to_the_common_endpoint_alone() {
        for (given, wanted) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://c/otlp/", "https://c/otlp/v1/traces"),
        ] {
            assert_eq!(url(&[("OTEL_EXPORTER_OTLP_ENDPOINT", given)]), wanted);
        }
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/x");
        assert_eq!(url(&[ENDPOINT, exact]), "http://c:1/x");
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        let (sampler, share) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "no url"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:planted@c"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            (sampler, "often"),
            (share, "1.1"),
            (share, "some"),
            (share, "NaN"),
        ] {
            let refused = read(&[(name, value), ENDPOINT]).unwrap_err().to_string();
            assert!(refused.starts_with(name), "{refused}");
            assert!(!refused.contains("planted"), "{refused}");
        }
    }

    #[test]
    fn people_are_told_where_spans_go_without_a_key() {
        let vars = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/otlp?key=planted")];
        let collector = read(&vars).unwrap().unwrap();
        let path = "https://c/otlp/v1/traces";
        assert_eq!(collector.endpoint.as_str(), format!("{path}?key=planted"));
        assert!(collector.to_string().ends_with(&format!(" go to {path}")));
    }

    #[test]
    fn samplers_are_the_standard_ones_but_for_the_default() {
        let sampler = |name: &str, share: &str| {
            let vars = [
                ENDPOINT,
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", share),
            ];
            let Sampler { asks_caller, ratio } = read(&vars).unwrap().unwrap().sampler;
            (asks_caller, ratio)
        };
        assert_eq!(sampler("", ""), (true, 0.01));
        assert_eq!(sampler("", "0.5"), (true, 0.5));
        assert_eq!(sampler("traceidratio", "0.5"), (false, 0.5));
        assert_eq!(sampler("traceidratio", ""), (false, 1.0));
        assert_eq!(sampler("parentbased_traceidratio", "0.2"), (true, 0.2));
        assert_eq!(sampler("always_on", "0.2"), (false, 1.0));
        assert_eq!(sampler("parentbased_always_off", ""), (true, 0.0));
    }

    #[test]
    fn plain_text_to_another_machine_is_noticed() {
        let exposed = |given| {
            let vars = [("OTEL_EXPORTER_OTLP_ENDPOINT", given)];
            read(&vars).unwrap().unwrap().is_exposed()
        };
        assert!(exposed("http://collector:4318"));
        for safe in [
            "https://collector",
            "http://localhost:1",
            "http://127.0.0.1",
            "http://[::1]:4318",
        ] {
            assert!(!exposed(safe), "{safe}");
        }
    }
}
