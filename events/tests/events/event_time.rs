//! Time, local days, identities and the record, on real zones and dates.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate};
use rivulet_events::{
    ChildId, Clocks, Code, ConsentVersion, Consented, DecodeError, EventType, Identity, ParentId,
    Record, Registration, data::AgeGroup, ids::RESET_CLOCK_DAY, parse,
};
use rivulet_zones::Zone;
use uuid::Uuid;

fn ms(time: &str) -> i64 {
    DateTime::parse_from_rfc3339(time)
        .unwrap()
        .timestamp_millis()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn family(zone: &str) -> Registration {
    Registration {
        parent_id: ParentId::new(Uuid::from_u128(7)),
        age_group: AgeGroup::WonderCubs,
        timezone: zone.parse::<Zone>().unwrap(),
        deleted: false,
        coppa: true,
        audio: true,
        analytics: true,
        coppa_version: None,
        audio_version: None,
        consent_epoch: 0,
    }
}

fn json(id: &str, occurred_at: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"interaction","child_id":"00000000-0000-4000-8000-000000000001",
           "occurred_at":"{occurred_at}","data":{{"action":"view"}}}}"#
    )
}

const V4: &str = "3f2b8c1e-9d4a-4b6f-8a1c-2e5d7f9b0c3a";

/// A `UUIDv7` made at that time.
fn v7(time: &str) -> String {
    let millis = u128::try_from(ms(time)).unwrap();
    Uuid::from_u128(millis << 80 | 0x7123_8456_0000_0000_0000).to_string()
}

fn times_of(
    id: &str,
    occurred_at: &str,
    received_at: &str,
    sent_at: Option<&str>,
    zone: &str,
) -> Result<(i64, NaiveDate, NaiveDate), Code> {
    let text = json(id, occurred_at);
    let clocks = Clocks {
        received_at: ms(received_at),
        sent_at: sent_at.map(ms),
    };
    let event = parse::event(&text, parse::Limits::default())
        .outcome
        .unwrap();
    let record = event
        .admit(Some(&family(zone)))
        .unwrap()
        .into_record(&clocks)
        .map_err(|rejection| rejection.code)?;
    Ok((record.event_time, record.local_date, record.identity().day))
}

#[test]
fn days_follow_the_childs_zone() {
    for (time, zone, local) in [
        // Either side of Rome's midnight, winter and summer.
        ("2026-01-15T22:59:59.999Z", "Europe/Rome", "2026-01-15"),
        ("2026-01-15T23:00:00Z", "Europe/Rome", "2026-01-16"),
        ("2026-07-15T21:59:59Z", "Europe/Rome", "2026-07-15"),
        ("2026-07-15T22:00:00Z", "Europe/Rome", "2026-07-16"),
        // The 23-hour and the 25-hour day of New York.
        ("2026-03-08T04:59:59Z", "America/New_York", "2026-03-07"),
        ("2026-03-08T05:00:00Z", "America/New_York", "2026-03-08"),
        ("2026-03-09T03:59:59Z", "America/New_York", "2026-03-08"),
        ("2026-03-09T04:00:00Z", "America/New_York", "2026-03-09"),
        ("2026-11-02T04:59:59Z", "America/New_York", "2026-11-01"),
        ("2026-11-02T05:00:00Z", "America/New_York", "2026-11-02"),
        // Midnight does not exist: Cairo 2026-04-24 00:00 is 01:00, Beirut 2026-03-29 too.
        ("2026-04-23T21:59:59Z", "Africa/Cairo", "2026-04-23"),
        ("2026-04-23T22:00:00Z", "Africa/Cairo", "2026-04-24"),
        ("2026-03-28T21:59:59Z", "Asia/Beirut", "2026-03-28"),
        ("2026-03-28T22:00:00Z", "Asia/Beirut", "2026-03-29"),
        // Both sides of the date line at one instant.
        ("2026-05-04T10:30:00Z", "Pacific/Kiritimati", "2026-05-05"),
        ("2026-05-04T10:30:00Z", "Pacific/Pago_Pago", "2026-05-03"),
        ("2026-05-04T11:59:59Z", "Pacific/Auckland", "2026-05-04"),
        ("2026-05-04T12:00:00Z", "Pacific/Auckland", "2026-05-05"),
        // Quarter-hour offsets.
        ("2026-05-04T18:14:59Z", "Asia/Kathmandu", "2026-05-04"),
        ("2026-05-04T18:15:00Z", "Asia/Kathmandu", "2026-05-05"),
    ] {
        let times = times_of(&v7(time), time, time, None, zone).unwrap();
        assert_eq!(times.1, day(local), "{time} {zone}");
    }
    // The rules of 2026: British Columbia and Alberta stay on summer time, Morocco on winter time.
    for (time, zone, local) in [
        ("2026-11-20T07:30:00Z", "America/Vancouver", "2026-11-20"),
        ("2026-11-20T06:30:00Z", "America/Edmonton", "2026-11-20"),
        ("2026-11-20T23:30:00Z", "Africa/Casablanca", "2026-11-20"),
    ] {
        let times = times_of(&v7(time), time, time, None, zone).unwrap();
        assert_eq!(times.1, day(local), "{time} {zone}");
    }
    // Samoa skipped 2011-12-30; the rule holds there too, though the accept window does not reach it.
    let samoa = family("Pacific/Apia").timezone;
    let date = |time: &str| {
        DateTime::from_timestamp_millis(ms(time))
            .unwrap()
            .with_timezone(&samoa)
            .date_naive()
    };
    assert_eq!(date("2011-12-30T09:59:59Z"), day("2011-12-29"));
    assert_eq!(date("2011-12-30T10:00:00Z"), day("2011-12-31"));
}

#[test]
fn a_clock_that_is_off_is_corrected() {
    let now = "2026-05-04T12:00:00Z";
    let at = |occurred: &str, sent: Option<&str>| {
        times_of(&v7("2026-05-04T11:00:00Z"), occurred, now, sent, "UTC").map(|times| times.0)
    };
    assert_eq!(
        at("2026-05-04T11:00:00Z", None),
        Ok(ms("2026-05-04T11:00:00Z"))
    );
    // Up to 60 s is believed, either way.
    assert_eq!(
        at("2026-05-04T11:00:00Z", Some("2026-05-04T11:59:00Z")),
        Ok(ms("2026-05-04T11:00:00Z"))
    );
    assert_eq!(
        at("2026-05-04T11:00:00Z", Some("2026-05-04T12:01:00Z")),
        Ok(ms("2026-05-04T11:00:00Z"))
    );
    assert_eq!(
        at("2026-05-04T11:00:00Z", Some("2026-05-04T11:58:59.999Z")),
        Ok(ms("2026-05-04T11:01:00.001Z"))
    );
    assert_eq!(
        at("2026-05-04T12:30:00Z", Some("2026-05-04T13:00:00Z")),
        Ok(ms("2026-05-04T11:30:00Z"))
    );
    assert_eq!(
        at("1970-01-01T00:10:00Z", Some("1970-01-01T01:10:00Z")),
        Ok(ms("2026-05-04T11:00:00Z"))
    );
    // Slightly ahead is now, further is refused; so is the old.
    assert_eq!(at("2026-05-04T12:05:00Z", None), Ok(ms(now)));
    assert_eq!(at("2026-05-04T12:05:00.001Z", None), Err(Code::InFuture));
    assert_eq!(
        at("2026-04-04T12:00:00Z", None),
        Ok(ms("2026-04-04T12:00:00Z"))
    );
    assert_eq!(at("2026-04-04T11:59:59.999Z", None), Err(Code::TooOld));
    // Milliseconds, truncated.
    assert_eq!(
        at("2026-05-04T11:00:00.123999Z", None),
        Ok(ms("2026-05-04T11:00:00.123Z"))
    );
}

#[test]
fn the_id_day_is_what_the_client_repeats() {
    let now = "2026-05-04T12:00:00Z";
    let recent = "2026-05-04T11:00:00Z";
    let of = |id: &str, occurred: &str, sent: Option<&str>| {
        times_of(id, occurred, now, sent, "UTC").map(|times| times.2)
    };
    assert_eq!(
        of(&v7("2026-05-03T23:59:59Z"), recent, None),
        Ok(day("2026-05-03"))
    );
    assert_eq!(
        of(V4, "2026-05-04T00:30:00+02:00", None),
        Ok(day("2026-05-03")),
        "UTC date"
    );
    assert_eq!(
        of(&v7("2026-03-31T00:00:00Z"), recent, None),
        Ok(day("2026-03-31")),
        "34 days"
    );
    assert_eq!(
        of(&v7("2026-03-30T23:59:59Z"), recent, None),
        Err(Code::TooOld)
    );
    assert_eq!(
        of(&v7("2026-05-05T23:59:59Z"), recent, None),
        Ok(day("2026-05-05"))
    );
    assert_eq!(
        of(&v7("2026-05-06T00:00:00Z"), recent, None),
        Err(Code::InFuture)
    );
    // A reset clock: sent_at corrects the event time, the id-day is one for all of them.
    assert_eq!(
        of(V4, "2024-12-31T23:59:59Z", Some("2025-01-01T00:59:59Z")),
        Ok(RESET_CLOCK_DAY)
    );
    assert_eq!(
        of(V4, "1960-01-01T00:00:00Z", Some("1960-01-01T00:10:00Z")),
        Ok(RESET_CLOCK_DAY)
    );
    assert_eq!(
        of(&v7("2024-06-01T00:00:00Z"), recent, Some(now)),
        Ok(RESET_CLOCK_DAY)
    );
    assert_eq!(
        of(&v7("2024-06-01T00:00:00Z"), recent, None),
        Err(Code::TooOld)
    );
    // Off by days or years: with sent_at the corrected time alone decides.
    for (made, occurred, sent, id_day) in [
        (
            "2026-05-06T11:00:00Z",
            "2026-05-06T11:00:00Z",
            "2026-05-06T12:00:00Z",
            "2026-05-06",
        ),
        (
            "2026-03-25T11:00:00Z",
            "2026-03-25T11:00:00Z",
            "2026-03-25T12:00:00Z",
            "2026-03-25",
        ),
        (
            "2025-01-01T00:00:00Z",
            "2025-01-01T00:00:00Z",
            "2025-01-01T01:00:00Z",
            "2025-01-01",
        ),
        (
            "2037-12-31T23:00:00Z",
            "2037-12-31T23:00:00Z",
            "2038-01-01T00:00:00Z",
            "2037-12-31",
        ),
        (
            "2038-01-01T00:00:00Z",
            "2038-01-01T00:00:00Z",
            "2038-01-01T00:10:00Z",
            "1970-01-01",
        ),
        (
            "2024-12-31T23:59:59Z",
            "2024-12-31T23:59:59Z",
            "2025-01-01T00:10:00Z",
            "1970-01-01",
        ),
        // The id and the clock differ: an app that makes ids ahead, a clock that was set right since.
        ("2026-01-01T00:00:00Z", recent, now, "2026-01-01"),
        ("2030-01-01T00:00:00Z", recent, now, "2030-01-01"),
    ] {
        assert_eq!(
            of(&v7(made), occurred, Some(sent)),
            Ok(day(id_day)),
            "v7 of {made}"
        );
        let by_time = of(V4, occurred, Some(sent));
        assert_eq!(
            by_time.is_ok_and(|found| found == day(id_day)),
            made == occurred,
            "{occurred}"
        );
    }
    let far = "9999-12-31T23:59:59Z";
    assert_eq!(of(V4, far, Some(far)), Ok(RESET_CLOCK_DAY));
    assert_eq!(of(V4, far, None), Err(Code::InFuture));
    assert_eq!(of(&v7(far), recent, None), Err(Code::InFuture));
    assert_eq!(of(&v7(far), recent, Some(now)), Ok(RESET_CLOCK_DAY));
    // The corrected time decides all the same.
    assert_eq!(
        of(V4, "2026-03-25T11:00:00Z", Some("2026-05-04T12:00:00Z")),
        Err(Code::TooOld)
    );
    assert_eq!(
        of(V4, "2026-03-25T11:00:00Z", Some("2026-03-24T12:00:00Z")),
        Err(Code::InFuture)
    );
    assert_eq!(
        of(V4, "2026-03-25T11:00:00Z", Some("2026-05-04T11:59:00Z")),
        Err(Code::TooOld),
        "a clock that is right to the minute is believed"
    );
    assert_eq!(
        of(V4, "1970-01-01T00:00:00Z", None),
        Err(Code::TooOld),
        "no sent_at to correct it"
    );
}

#[test]
fn identity_is_type_child_id_and_day_alone() {
    let child = |n| ChildId::new(Uuid::from_u128(n));
    let noon = ms("2026-05-04T12:00:00Z");
    let of = |kind, who, id, at| Identity::of(kind, child(who), id, at);
    let (v4, v7) = (
        Uuid::parse_str(V4).unwrap(),
        Uuid::parse_str(&v7("2026-05-04T12:00:00Z")).unwrap(),
    );
    let base = of(EventType::Message, 1, v4, noon);
    assert_eq!(
        base,
        of(EventType::Message, 1, v4, noon + 1),
        "the time within the day is no part"
    );
    assert_ne!(base, of(EventType::Message, 1, v4, noon + 86_400_000));
    assert_ne!(base.key, of(EventType::Session, 1, v4, noon).key);
    assert_ne!(base.key, of(EventType::Message, 2, v4, noon).key);
    assert_ne!(base.key, of(EventType::Message, 1, v7, noon).key);
    assert_eq!(
        of(EventType::Message, 1, v7, noon),
        of(EventType::Message, 1, v7, 0),
        "v7 tells its day"
    );
    assert_eq!(
        base.key[..6],
        1_777_852_800_000_u64.to_be_bytes()[2..],
        "midnight"
    );
    // Stored identities must survive every release: this value never changes.
    assert_eq!(
        u128::from_be_bytes(base.key),
        GOLDEN,
        "{:#034x}",
        u128::from_be_bytes(base.key)
    );
}

const GOLDEN: u128 = 0x019d_f048_dc00_ab56_abf6_6e10_9c2f_bf0b;

#[test]
fn records_survive_the_wire() {
    let text = json(V4, "2026-05-04T11:00:00Z").replacen(
        "\"data\"",
        r#""device":{"id":"d\"1","platform":"ios","app_version":"4.1"},"attributes":{"b":true,"n":-3,"p":7,"f":1.5,"t":"x\ny"},"data""#,
        1,
    );
    let event = parse::event(&text, parse::Limits::default())
        .outcome
        .unwrap();
    let clocks = Clocks {
        received_at: ms("2026-05-04T12:00:00Z"),
        sent_at: None,
    };
    let record = event
        .admit(Some(&family("Asia/Kathmandu")))
        .unwrap()
        .into_record(&clocks)
        .unwrap();
    let mut wire = Vec::new();
    record.encode(&mut wire).unwrap();
    assert!(wire.starts_with(br#"{"v":1,"type":"interaction","#));
    let decoded = Record::decode(EventType::Interaction, &wire).unwrap();
    assert_eq!(decoded, record);
    // Only what has escapes is copied.
    let device = decoded.device.unwrap();
    assert!(matches!(device.id, Some(Cow::Owned(_))));
    assert!(matches!(device.app_version, Some(Cow::Borrowed(_))));
    assert!(matches!(decoded.attributes[0].0, Cow::Borrowed(_)));

    let wrong = Record::decode(EventType::Message, &wire).unwrap_err();
    assert!(matches!(wrong, DecodeError::WrongType { .. }), "{wrong}");
    let newer = String::from_utf8(wire)
        .unwrap()
        .replacen("\"v\":1", "\"v\":9", 1);
    let unknown = Record::decode(EventType::Interaction, newer.as_bytes()).unwrap_err();
    assert!(
        matches!(unknown, DecodeError::UnknownVersion(9)),
        "{unknown}"
    );
    let newer = newer.replacen("interaction", "gesture", 1);
    let unknown = Record::decode(EventType::Interaction, newer.as_bytes()).unwrap_err();
    assert!(
        matches!(unknown, DecodeError::UnknownVersion(9)),
        "{unknown}"
    );
    for junk in [&b""[..], b"{}", b"\xff", b"[1]"] {
        let malformed = Record::decode(EventType::Interaction, junk).unwrap_err();
        assert!(matches!(malformed, DecodeError::Malformed(_)));
    }
}

#[test]
fn consent_decides_in_the_contracts_order() {
    let ok = family("UTC");
    let refused = |child: Option<Registration>, kind| {
        Registration::check(child.as_ref(), kind)
            .err()
            .map(|rejection| rejection.code)
    };
    assert_eq!(refused(Some(ok), EventType::Speech), None);
    assert_eq!(refused(None, EventType::Session), Some(Code::UnknownChild));
    let bare = Registration {
        coppa: false,
        deleted: true,
        ..ok
    };
    assert_eq!(
        refused(Some(bare), EventType::Session),
        Some(Code::ChildDeleted)
    );
    let bare = Registration { coppa: false, ..ok };
    assert_eq!(
        refused(Some(bare), EventType::Session),
        Some(Code::ConsentRequired)
    );
    let silent = Registration {
        audio: false,
        analytics: false,
        ..ok
    };
    assert_eq!(
        refused(Some(silent), EventType::Speech),
        Some(Code::ConsentRequired)
    );
    assert_eq!(refused(Some(silent), EventType::Message), None);
}

/// Speech needs two consents; the other types need one.
#[test]
fn a_record_names_the_version_of_the_consent_that_is_given_for_its_type() {
    let [coppa, audio] = ["2026-01", "audio-3"].map(ConsentVersion::new);
    let of = |coppa_version, audio_version| Registration {
        coppa_version,
        audio_version,
        ..family("UTC")
    };
    for (declared, of_speech, of_others) in [
        (of(coppa, audio), audio, coppa),
        (of(coppa, None), coppa, coppa),
        (of(None, audio), audio, None),
        (of(None, None), None, None),
    ] {
        for kind in EventType::ALL {
            let expected = match kind {
                EventType::Speech => of_speech,
                _ => of_others,
            };
            assert_eq!(declared.consent_version(*kind), expected);
        }
        let text = json(V4, "2026-05-04T12:00:00Z");
        let event = parse::event(&text, parse::Limits::default()).outcome;
        let clocks = Clocks {
            received_at: ms("2026-05-04T12:00:00Z"),
            sent_at: None,
        };
        let record = event.unwrap().admit(Some(&declared)).unwrap();
        let record = record.into_record(&clocks).unwrap();
        assert_eq!(record.consent_version, of_others);
    }
}

#[test]
fn the_history_takes_only_what_analytics_allows() {
    let text = json(V4, "2026-05-04T12:00:00Z");
    for analytics in [true, false] {
        let family = Registration {
            analytics,
            ..family("UTC")
        };
        let event = parse::event(&text, parse::Limits::default()).outcome;
        let clocks = Clocks {
            received_at: ms("2026-05-04T12:00:00Z"),
            sent_at: None,
        };
        let record = event.unwrap().admit(Some(&family)).unwrap();
        let record = record.into_record(&clocks).unwrap();
        assert_eq!(Consented::check(&record).is_some(), analytics);
    }
}

#[test]
fn ids_of_people_do_not_print() {
    let id = Uuid::from_u128(0x1234_5678);
    assert_eq!(
        format!("{:?} {:?}", ChildId::new(id), ParentId::new(id)),
        "ChildId(redacted) ParentId(redacted)"
    );
}
