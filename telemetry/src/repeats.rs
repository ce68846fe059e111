//! Bounds warnings and errors that repeat: of each kind one line a second is written, and how many were left out.
//!
//! A stranger, a broken store or a topic full of garbage can make the program log some hundred thousand lines a second.
//! The first line of a kind is written at once. What follows within a second is counted, and the count is written as a
//! line of its own: level, target and message of the lines that were left out, and `suppressed`. After that a whole
//! line may be written again, so that it can be seen what has changed by now.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Value, Visit},
    subscriber::Interest,
};
use tracing_core::{
    Callsite, Kind as Of, callsite::Identifier, field::FieldSet, identify_callsite,
};
use tracing_subscriber::{Layer, layer::Context};

/// The least time between two lines of a kind.
const PERIOD: Duration = Duration::from_secs(1);

/// How often the counts are checked while there are any. If the last line was a count, a whole line may be written for
/// so long, before the next count is.
const LOOK: Duration = Duration::from_millis(250);

/// So many texts of one call site are kinds by themselves. All its other texts together are one more kind. So the
/// memory is bounded by the number of call sites.
const TEXTS: usize = 16;

/// Bytes of a text that tell it from others.
const TEXT_BYTES: usize = 200;

/// The name of the lines that report counts. No other line of the program has this name.
const COUNT: &str = "suppressed lines";

/// The lines of one kind.
#[derive(Debug)]
struct Kind {
    text: Box<str>,
    /// When the next line may be written.
    free_at: Instant,
    suppressed: u64,
    /// Whether the last line was a count.
    counted: bool,
}

impl Kind {
    fn new(text: &str, now: Instant) -> Self {
        Self {
            text: text.into(),
            free_at: now,
            suppressed: 0,
            counted: false,
        }
    }

    /// Whether a line may be written; if not, it is counted.
    fn allows(&mut self, now: Instant) -> bool {
        let allowed = now >= self.free_at && (self.suppressed == 0 || self.counted);
        if allowed {
            (self.free_at, self.counted) = (now + PERIOD, false);
        } else {
            self.suppressed += 1;
        }
        allowed
    }

    /// How many lines were left out, if it is time to report them.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let from = if self.counted {
            self.free_at + LOOK
        } else {
            self.free_at
        };
        if self.suppressed == 0 || now < from {
            return None;
        }
        (self.free_at, self.counted) = (now + PERIOD, true);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Whether it can be forgotten without changing anything.
    fn is_idle(&self, now: Instant) -> bool {
        self.suppressed == 0 && now >= self.free_at
    }
}

/// A place in the code that logs: one call of a macro of `tracing`.
#[derive(Debug)]
struct CallSite {
    metadata: &'static Metadata<'static>,
    /// For the lines that report how many were left out.
    of_counts: Option<&'static Metadata<'static>>,
    kinds: Vec<Kind>,
    others: Kind,
}

impl CallSite {
    fn kind(&mut self, text: &str, now: Instant) -> &mut Kind {
        if let Some(at) = self.kinds.iter().position(|kind| *kind.text == *text) {
            return &mut self.kinds[at];
        }
        if self.kinds.len() >= TEXTS {
            self.kinds.retain(|kind| !kind.is_idle(now));
        }
        if self.kinds.len() >= TEXTS {
            if self.others.suppressed == 0 {
                self.others.text = text.into();
            }
            return &mut self.others;
        }
        self.kinds.push(Kind::new(text, now));
        let last = self.kinds.len() - 1;
        &mut self.kinds[last]
    }
}

/// A line that reports how many were left out.
#[derive(Debug)]
struct Count {
    metadata: &'static Metadata<'static>,
    text: Box<str>,
    suppressed: u64,
}

impl Count {
    fn write(&self) {
        let fields = self.metadata.fields();
        let mut names = fields.iter();
        if let (Some(message), Some(suppressed)) = (names.next(), names.next()) {
            let text = format_args!("{}", self.text);
            let values: [(&Field, Option<&dyn Value>); 2] = [
                (&message, Some(&text)),
                (&suppressed, Some(&self.suppressed)),
            ];
            Event::dispatch(self.metadata, &fields.value_set(&values));
        }
    }
}

/// The call site that the line of a count seems to come from, beside the real one. There is one for each call site
/// whose lines were ever suppressed, and it is never freed: `tracing` needs call sites that live as long as the process.
struct CountCallsite {
    of: &'static Metadata<'static>,
    metadata: OnceLock<Metadata<'static>>,
}

impl CountCallsite {
    fn metadata_for(of: &'static Metadata<'static>) -> &'static Metadata<'static> {
        let this: &'static Self = Box::leak(Box::new(Self {
            of,
            metadata: OnceLock::new(),
        }));
        this.metadata.get_or_init(|| {
            Metadata::new(
                COUNT,
                of.target(),
                *of.level(),
                of.file(),
                of.line(),
                of.module_path(),
                FieldSet::new(&["message", "suppressed"], identify_callsite!(this)),
                Of::EVENT,
            )
        })
    }
}

impl Callsite for CountCallsite {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.metadata.get().unwrap_or(self.of)
    }
}

#[derive(Debug, Default)]
struct State {
    call_sites: HashMap<Identifier, CallSite>,
    /// Whether there are counts that were not reported yet.
    pending: bool,
    /// Whether there is a thread that reports them.
    has_reporter: bool,
}

impl State {
    fn allows(&mut self, metadata: &'static Metadata<'static>, text: &str, now: Instant) -> bool {
        let call_site = self
            .call_sites
            .entry(metadata.callsite())
            .or_insert_with(|| CallSite {
                metadata,
                of_counts: None,
                kinds: Vec::new(),
                others: Kind::new("", now),
            });
        let allowed = call_site.kind(text, now).allows(now);
        self.pending |= !allowed;
        allowed
    }

    /// The counts that are due now, or all of them if no time is given.
    fn due(&mut self, now: Option<Instant>) -> Vec<Count> {
        let mut due = Vec::new();
        self.pending = false;
        for call_site in self.call_sites.values_mut() {
            for kind in call_site.kinds.iter_mut().chain([&mut call_site.others]) {
                let now = now.unwrap_or(kind.free_at + LOOK);
                if let Some(suppressed) = kind.due(now) {
                    let metadata = call_site
                        .of_counts
                        .get_or_insert_with(|| CountCallsite::metadata_for(call_site.metadata));
                    due.push(Count {
                        metadata,
                        text: kind.text.clone(),
                        suppressed,
                    });
                }
                self.pending |= kind.suppressed > 0;
            }
        }
        due
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    pending: Condvar,
}

impl Shared {
    /// Reports counts for as long as the process lives.
    fn report_for_ever(&self) -> ! {
        loop {
            {
                let mut state = self.state.lock();
                while !state.pending {
                    self.pending.wait(&mut state);
                }
            }
            thread::sleep(LOOK);
            let due = self.state.lock().due(Some(Instant::now()));
            due.iter().for_each(Count::write);
        }
    }
}

/// Lets one line a second pass of each kind of warning and error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeats {
    shared: Arc<Shared>,
}

impl Repeats {
    fn allows(&self, event: &Event<'_>, now: Instant) -> bool {
        let mut text = Text::default();
        event.record(&mut text);
        let mut state = self.shared.state.lock();
        let (was_pending, has_reporter) = (state.pending, state.has_reporter);
        let allowed = state.allows(event.metadata(), &text.0, now);
        if state.pending && !was_pending {
            state.has_reporter = true;
            drop(state);
            if has_reporter {
                self.shared.pending.notify_one();
            } else {
                let shared = Arc::clone(&self.shared);
                let reporter = thread::Builder::new().name("log-repeats".to_owned());
                // Without this thread, counts are reported at the end.
                let _ = reporter.spawn(move || shared.report_for_ever());
            }
        }
        allowed
    }

    /// Reports all counts.
    pub(crate) fn report(&self) {
        let due = self.shared.state.lock().due(None);
        due.iter().for_each(Count::write);
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Lines below WARN are only there if an operator asks for them.
        *metadata.level() > Level::WARN
            || metadata.name() == COUNT
            || self.allows(event, Instant::now())
    }
}

/// The beginning of an event's message.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // An error only means that there is more text than is kept.
            let _ = write!(self, "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            let _ = self.write_str(value);
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES.saturating_sub(self.0.len());
        let fits = text.floor_char_boundary(room);
        self.0.push_str(&text[..fits]);
        if fits < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
