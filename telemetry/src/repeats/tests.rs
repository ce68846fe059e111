#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::io;

use tracing::{error, info, subscriber::with_default, warn};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What became of lines at these milliseconds, when counts are looked at all the time: `line`, or the count.
fn written(at: impl IntoIterator<Item = u32>, until: u32) -> Vec<(u32, String)> {
    let start = Instant::now();
    let mut kind = Kind::new("", start);
    let mut lines = at.into_iter().peekable();
    let mut written = Vec::new();
    for ms in 0..until {
        let now = start + MS * ms;
        while lines.next_if(|at| *at == ms).is_some() {
            if kind.allows(now) {
                written.push((ms, "line".to_owned()));
            }
        }
        if let Some(suppressed) = kind.due(now) {
            written.push((ms, suppressed.to_string()));
        }
    }
    assert!(kind.is_idle(start + MS * (until + 1_000)));
    written
}

fn of(expected: &[(u32, &str)]) -> Vec<(u32, String)> {
    expected
        .iter()
        .map(|(ms, what)| (*ms, (*what).to_owned()))
        .collect()
}

#[test]
fn of_each_kind_a_line_a_second_is_written_and_all_others_are_told_of() {
    // Seldom: each.
    let each: Vec<_> = (0..5).map(|n| n * 1_000).collect();
    assert_eq!(written(each.clone(), 6_000).len(), 5);
    // A burst: its first line, and its count a second later.
    let burst = (0..500).map(|n| n / 10);
    assert_eq!(written(burst, 3_000), of(&[(0, "line"), (1_000, "499")]));
    // A flood: lines and counts by turns, a second apart. A thousand lines a second; none is lost.
    let flood = written(0..4_500, 8_000);
    assert_eq!(
        flood,
        of(&[
            (0, "line"),
            (1_000, "1000"),
            (2_000, "line"),
            (3_000, "1999"),
            (4_000, "line"),
            (5_000, "1498")
        ])
    );
    // After a count nothing more is waited for than a whole line may take.
    let late = written([0, 1, 1_500], 4_000);
    assert_eq!(late, of(&[(0, "line"), (1_000, "1"), (2_250, "1")]));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// What is logged in either format, counts told at the end.
fn logged(log: impl Fn()) -> [Vec<String>; 2] {
    [true, false].map(|is_json| {
        let (repeats, written) = (Repeats::default(), Log::default());
        // Who tells by the clock is the process's; here it is told when all is said.
        repeats.shared.state.lock().has_reporter = true;
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .without_time();
        let layer = if is_json {
            layer.json().flatten_event(true).boxed()
        } else {
            layer.with_ansi(false).boxed()
        };
        let subscriber = tracing_subscriber::registry()
            .with(repeats.clone())
            .with(layer);
        with_default(subscriber, || {
            log();
            repeats.report();
            repeats.report();
        });
        written.lines()
    })
}

#[test]
fn a_count_looks_like_what_it_counts() {
    let [mut json, mut text] = logged(|| {
        for number in 0..1_000 {
            warn!(target: "somewhere", number, "it is {}", "so");
            error!(number, "it is so");
        }
    });
    json.sort();
    assert_eq!(
        json,
        [
            r#"{"level":"ERROR","message":"it is so","number":0,"target":"rivulet_telemetry::repeats::tests"}"#,
            r#"{"level":"ERROR","message":"it is so","suppressed":999,"target":"rivulet_telemetry::repeats::tests"}"#,
            r#"{"level":"WARN","message":"it is so","number":0,"target":"somewhere"}"#,
            r#"{"level":"WARN","message":"it is so","suppressed":999,"target":"somewhere"}"#,
        ]
    );
    text.sort();
    assert_eq!(
        text,
        [
            " WARN somewhere: it is so number=0",
            " WARN somewhere: it is so suppressed=999",
            "ERROR rivulet_telemetry::repeats::tests: it is so number=0",
            "ERROR rivulet_telemetry::repeats::tests: it is so suppressed=999",
        ]
    );
}

#[test]
fn what_an_operator_asks_for_is_whole() {
    let [json, text] = logged(|| (0..1_000).for_each(|number| info!(number, "so")));
    assert_eq!((json.len(), text.len()), (1_000, 1_000));
}

#[test]
fn lines_of_other_texts_are_not_held_back_and_still_are_bounded() {
    let long = "é".repeat(TEXT_BYTES);
    let [json, _] = logged(|| {
        for round in 0..3 {
            for text in 0..100 {
                warn!("text {text}");
                warn!(round, "{long} {text}");
            }
        }
    });
    let count = |is: &dyn Fn(&str) -> bool| json.iter().filter(|line| is(line)).count();
    // The first texts and one for all others, whole and counted.
    let of_text = |line: &str| line.contains("text ");
    assert_eq!(count(&of_text), 2 * (TEXTS + 1));
    // They differ where nobody looks.
    assert_eq!(count(&|line| line.contains("éé")), 2);
    let told: u64 = json
        .iter()
        .filter_map(|line| {
            line.split_once("\"suppressed\":")?
                .1
                .split(',')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    assert_eq!(told as usize + json.len() - (TEXTS + 1) - 1, 600);
}

/// The text is read before anything is locked, so what it is made of may itself complain.
#[test]
fn what_is_logged_may_log() {
    struct Complains;
    impl fmt::Display for Complains {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            warn!("while it is printed");
            f.write_str("printed")
        }
    }
    let [json, _] = logged(|| (0..3).for_each(|_| warn!("{Complains}")));
    assert!(
        json.iter()
            .any(|line| line.contains("\"message\":\"printed\"")),
        "{json:#?}"
    );
}

#[test]
fn counts_come_without_another_line() {
    let (repeats, written) = (Repeats::default(), Log::default());
    let writer = written.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(repeats).with(layer);
    // The teller has a thread of its own, so for the whole process. No other test of this program logs by it.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    (0..100).for_each(|_| warn!("again and again"));
    while !written
        .lines()
        .iter()
        .any(|line| line.contains("suppressed=99"))
    {
        thread::sleep(MS);
    }
}
