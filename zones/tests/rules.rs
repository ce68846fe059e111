//! Which rules win, and that they are read again. One process has one set of rules: all of it is one test
//! but for what no source changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::{fs, path::Path};

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use rivulet_zones::{Rules, Source, Zone, in_use};

fn date(zone: &str, time: &str) -> NaiveDate {
    let time: DateTime<Utc> = time.parse().unwrap();
    time.with_timezone(&zone.parse::<Zone>().unwrap())
        .date_naive()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// A zone with one offset for ever, `hours` ahead of UTC, as `zic` would write it (RFC 9636, version 2).
fn tzif(hours: i32) -> Vec<u8> {
    let block = |counts: [u32; 6], body: &[u8]| {
        let mut out = b"TZif2".to_vec();
        out.extend([0; 15]);
        for count in counts {
            out.extend(count.to_be_bytes());
        }
        out.extend(body);
        out
    };
    let mut local_type = (hours * 3_600).to_be_bytes().to_vec();
    local_type.extend([0, 0]);
    local_type.extend(b"XXX\0");
    // isut, isstd, leap, transition times, types, designation characters
    let mut file = block([0, 0, 0, 0, 1, 4], &local_type);
    file.extend(block([0, 0, 0, 0, 1, 4], &local_type));
    file.extend(format!("\n<XXX>{:+}\n", -hours).bytes());
    file
}

fn write(directory: &Path, name: &str, data: impl AsRef<[u8]>) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
}

#[test]
fn the_newest_rules_are_in_force_and_read_again() {
    // What no directory says is as it is in the bundle, without a word to the disk.
    assert_eq!(in_use().source, Source::Bundled);
    // 2026: British Columbia and Alberta stay on summer time, Morocco on winter time.
    assert_eq!(
        date("America/Vancouver", "2026-11-20T07:30:00Z"),
        day("2026-11-20")
    );
    assert_eq!(
        date("America/Edmonton", "2026-11-20T06:30:00Z"),
        day("2026-11-20")
    );
    assert_eq!(
        date("Africa/Casablanca", "2026-11-20T23:30:00Z"),
        day("2026-11-20")
    );

    let (system, operator) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (system, operator) = (system.path(), operator.path());
    // SAFETY: the only test of this process that runs threads reads no environment.
    #[allow(unsafe_code, reason = "the environment names the system's directory")]
    unsafe {
        std::env::set_var("TZDIR", system);
    }
    let noon = "2026-05-04T12:00:00Z";

    // An older system loses to the bundle, but for what the bundle does not have.
    write(system, "tzdata.zi", "# version 2020a\n");
    write(system, "Europe/Rome", tzif(13));
    write(system, "Moon/Tranquility", tzif(13));
    write(system, "posix/Europe/Rome", tzif(13));
    write(system, "localtime", tzif(13));
    let mut rules = Rules::load(None).unwrap();
    assert_eq!(in_use().source, Source::Bundled);
    assert_eq!(date("Europe/Rome", noon), day("2026-05-04"));
    assert_eq!(date("Moon/Tranquility", noon), day("2026-05-05"));
    for none in [
        "posix/Europe/Rome",
        "localtime",
        "europe/rome",
        "Factory",
        "",
        "../x",
        "Mars/Base",
    ] {
        assert_eq!(Zone::named(none), None, "{none:?}");
    }

    // A newer one wins, and aliases that it leaves out follow their zone.
    write(
        system,
        "tzdata.zi",
        "# version 2099a\nL Europe/Rome Europe/Vatican\n",
    );
    assert!(!rules.refresh().unwrap(), "it may still be being written");
    assert_eq!(date("Europe/Rome", noon), day("2026-05-04"));
    assert!(rules.refresh().unwrap());
    assert!(!rules.refresh().unwrap(), "nothing has changed since");
    assert_eq!(
        (in_use().source, in_use().version()),
        (Source::System, "2099a")
    );
    assert_eq!(date("Europe/Rome", noon), day("2026-05-05"));
    assert_eq!(date("Europe/Vatican", noon), day("2026-05-05"));
    assert_eq!(
        date("Europe/Paris", noon),
        day("2026-05-04"),
        "from the bundle"
    );

    // A file that changes under the same version.
    write(system, "Europe/Rome", tzif(-13));
    assert!(!rules.refresh().unwrap());
    assert!(rules.refresh().unwrap());
    assert_eq!(date("Europe/Rome", noon), day("2026-05-03"));

    // One that is damaged is not used.
    write(system, "Europe/Rome", b"TZif2 and nothing more");
    rules.refresh().unwrap();
    assert!(rules.refresh().unwrap());
    assert_eq!(date("Europe/Rome", noon), day("2026-05-04"));

    // The operator's directory: none, empty, newer, without a version, older.
    let refused = |directory: &Path| Rules::load(Some(directory)).unwrap_err().to_string();
    assert!(refused(&operator.join("none")).contains("cannot be read"));
    assert!(refused(operator).contains("no compiled time zones"));
    write(operator, "Europe/Rome", tzif(14));
    write(operator, "+VERSION", "2099b\n");
    Rules::load(Some(operator)).unwrap();
    assert_eq!(
        (in_use().source, in_use().version()),
        (Source::Operator, "2099b")
    );
    assert_eq!(date("Europe/Rome", noon), day("2026-05-05"));
    fs::remove_file(operator.join("+VERSION")).unwrap();
    let mut rules = Rules::load(Some(operator)).unwrap();
    assert_eq!(
        (in_use().source, in_use().version()),
        (Source::Operator, "unknown")
    );
    write(operator, "+VERSION", "2019a\n");
    rules.refresh().unwrap();
    assert!(rules.refresh().unwrap());
    assert_eq!(
        (in_use().source, in_use().version()),
        (Source::System, "2099a")
    );

    // It is taken away: what is in force stays, and is told.
    fs::remove_dir_all(operator).unwrap();
    assert!(rules.refresh().is_err());
    assert_eq!(in_use().version(), "2099a");
}

#[test]
fn every_name_that_was_ever_taken_is_known() {
    for zone in chrono_tz::TZ_VARIANTS {
        assert_eq!(Zone::named(zone.name()).map(Zone::name), Some(zone.name()));
    }
    assert_eq!(serde_roundtrip("Asia/Kathmandu"), "Asia/Kathmandu");
}

fn serde_roundtrip(name: &str) -> String {
    let zone: Zone = serde_json::from_value(name.into()).unwrap();
    serde_json::to_value(zone)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn local_times_are_found_once_twice_or_never() {
    let new_york = Zone::named("America/New_York").unwrap();
    let local = |text: &str| {
        let local: NaiveDateTime = text.parse().unwrap();
        let found = new_york.from_local_datetime(&local);
        (found.earliest(), found.latest()).map_utc()
    };
    let utc = |text: &str| text.parse::<DateTime<Utc>>().ok();
    assert_eq!(
        local("2026-07-01T12:00:00"),
        (utc("2026-07-01T16:00:00Z"), utc("2026-07-01T16:00:00Z"))
    );
    assert_eq!(local("2026-03-08T02:30:00"), (None, None));
    assert_eq!(
        local("2026-11-01T01:30:00"),
        (utc("2026-11-01T05:30:00Z"), utc("2026-11-01T06:30:00Z"))
    );
    let told = utc("2026-07-01T12:00:00Z")
        .unwrap()
        .with_timezone(&new_york);
    assert_eq!(told.to_rfc3339(), "2026-07-01T08:00:00-04:00");
    assert_eq!(
        new_york.timestamp_millis_opt(0).unwrap().to_string(),
        "1969-12-31 19:00:00 -05:00"
    );
    // Beyond what jiff has.
    let far = DateTime::<Utc>::MAX_UTC.with_timezone(&Zone::utc());
    assert_eq!(far.naive_utc(), DateTime::<Utc>::MAX_UTC.naive_utc());
}

trait MapUtc {
    fn map_utc(self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>);
}

impl MapUtc for (Option<DateTime<Zone>>, Option<DateTime<Zone>>) {
    fn map_utc(self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        (self.0.map(|t| t.to_utc()), self.1.map(|t| t.to_utc()))
    }
}
