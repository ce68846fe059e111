//! Metrics are declared once, each with its name, kind, unit, labels and meaning. From that come the statics that
//! count, what the recorder tells Prometheus about them, and the table in docs/metrics.md.

use std::marker::PhantomData;

use metrics::{
    Counter, Gauge, Histogram, IntoF64, Key, Label, Level, Metadata, Recorder, SharedString, Unit,
};

const METADATA: Metadata<'static> = Metadata::new("rivulet", Level::INFO, Some(module_path!()));

/// What is known about a metric before it has counted anything.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// As Prometheus shows it.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What one of it is.
    pub unit: Unit,
    /// The names of its labels, in the order in which [`Metric::with`] takes their values.
    pub labels: &'static [&'static str],
    /// Which roles or commands have it.
    pub roles: &'static str,
    /// One sentence for operators.
    pub help: &'static str,
    describe: fn(&dyn Recorder, &Self),
}

impl Declaration {
    /// Used by [`metrics!`](crate::metrics!).
    #[doc(hidden)]
    #[must_use]
    pub const fn new<K: Kind>(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        roles: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: K::NAME,
            unit,
            labels,
            roles,
            help: help.trim_ascii(),
            describe: K::describe,
        }
    }

    pub(crate) fn describe(&self, recorder: &dyn Recorder) {
        (self.describe)(recorder, self);
    }
}

/// [`Counter`], [`Gauge`] or [`Histogram`].
pub trait Kind: Sized {
    #[doc(hidden)]
    const NAME: &'static str;
    #[doc(hidden)]
    fn register(recorder: &dyn Recorder, key: &Key) -> Self;
    #[doc(hidden)]
    fn describe(recorder: &dyn Recorder, declaration: &Declaration);
}

macro_rules! kind {
    ($kind:ident, $name:literal, $register:ident, $describe:ident) => {
        impl Kind for $kind {
            const NAME: &'static str = $name;

            fn register(recorder: &dyn Recorder, key: &Key) -> Self {
                recorder.$register(key, &METADATA)
            }

            fn describe(recorder: &dyn Recorder, declared: &Declaration) {
                let (name, unit) = (declared.name.into(), Some(declared.unit));
                recorder.$describe(name, unit, declared.help.into());
            }
        }
    };
}

kind!(Counter, "counter", register_counter, describe_counter);
kind!(Gauge, "gauge", register_gauge, describe_gauge);
kind!(
    Histogram,
    "histogram",
    register_histogram,
    describe_histogram
);

/// A declared metric with a number of labels. Made by [`metrics!`](crate::metrics!).
#[derive(Debug)]
pub struct Metric<K, const LABELS: usize> {
    /// What the metric is.
    pub declaration: Declaration,
    key: Key,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind, const LABELS: usize> Metric<K, LABELS> {
    /// Used by [`metrics!`](crate::metrics!).
    #[doc(hidden)]
    #[must_use]
    pub const fn new(declaration: Declaration) -> Self {
        assert!(declaration.labels.len() == LABELS);
        Self {
            declaration,
            key: Key::from_static_name(declaration.name),
            kind: PhantomData,
        }
    }

    /// The metric for these values of its labels, in the order of the declaration. Keep what is used
    /// often: it is looked up by its labels.
    pub fn with(&self, values: [impl Into<SharedString>; LABELS]) -> K {
        let named = self.declaration.labels.iter().zip(values);
        let labels: Vec<_> = named
            .map(|(name, value)| Label::new(*name, value))
            .collect();
        register(&Key::from_parts(self.declaration.name, labels))
    }
}

fn register<K: Kind>(key: &Key) -> K {
    metrics::with_recorder(|recorder| K::register(recorder, key))
}

impl<K: Kind> Metric<K, 0> {
    /// The metric itself, to keep where it is used often.
    pub fn handle(&self) -> K {
        register(&self.key)
    }
}

impl Metric<Counter, 0> {
    /// Counts `more`.
    pub fn increment(&self, more: u64) {
        self.handle().increment(more);
    }
}

impl Metric<Gauge, 0> {
    /// Sets the gauge.
    pub fn set(&self, value: f64) {
        self.handle().set(value);
    }

    /// Adds to the gauge.
    pub fn increment(&self, more: f64) {
        self.handle().increment(more);
    }

    /// Takes from the gauge.
    pub fn decrement(&self, less: f64) {
        self.handle().decrement(less);
    }
}

impl Metric<Histogram, 0> {
    /// Records one value.
    pub fn record(&self, value: impl IntoF64) {
        self.handle().record(value);
    }
}

/// Declares the metrics of a crate, in its module `metrics`: a static for each, whose doc comment is what operators
/// read about it, and `METRICS`, the list of all, which `rivulet/src/metrics.rs` names.
///
/// ```
/// rivulet_telemetry::metrics! {
///     roles "sink";
///
///     /// Inserts that ClickHouse took
///     INSERTS: Counter = "rivulet_history_inserts_total", Count;
///     /// Failed attempts that were repeated, by store and reason
///     RETRIES: Counter["store", "reason"] = "rivulet_history_retries_total", Count;
/// }
/// INSERTS.increment(1);
/// RETRIES.with(["clickhouse", "timeout"]).increment(1);
/// assert_eq!(METRICS[1].labels, ["store", "reason"]);
/// ```
#[macro_export]
macro_rules! metrics {
    (
        roles $roles:literal;
        $(
            $(#[doc = $help:literal])+
            $metric:ident: $kind:ident $([$($label:literal),+])? = $name:literal, $unit:ident;
        )+
    ) => {
        $(
            $(#[doc = $help])+
            pub(crate) static $metric:
                $crate::Metric<$crate::$kind, { <[&str]>::len(&[$($($label),+)?]) }> =
                $crate::Metric::new($crate::Declaration::new::<$crate::$kind>(
                    $name,
                    $crate::Unit::$unit,
                    &[$($($label),+)?],
                    $roles,
                    ::std::concat!($($help),+),
                ));
        )+

        /// All metrics of this crate.
        pub static METRICS: &[&$crate::Declaration] = &[$(&$metric.declaration),+];
    };
}
