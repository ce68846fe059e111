//! Telephone numbers as people write them, and long runs of digits, but no dates, versions, hashes, UUIDs or sums.
//!
//! A number of any country may be any digits, so a number in groups is told by the lengths of its groups: those that the
//! countries of most families use ([`SHAPES`]), or any after `+`, `00` or a trunk `0`.

use super::{
    Reason,
    find::{Findings, run},
    fold::Folded,
};

/// A run of this many digits is no count, level or year.
const LONG: usize = 9;

/// Digits of a number with its country at most (E.164), and at least.
const INTERNATIONAL: std::ops::RangeInclusive<usize> = 8..=15;

/// Digits of a number with its trunk `0`.
const NATIONAL: std::ops::RangeInclusive<usize> = 9..=12;

/// Bytes of a version in front of its build at most.
const LONGEST_VERSION: usize = 32;

/// Groups of one number at most.
const GROUPS: usize = 8;

/// The lengths of groups, one a hexadecimal digit, of numbers without a prefix, and the first digits that they have.
const SHAPES: [(u32, &[u8]); 13] = [
    (0x334, b"23456789"),
    (0x1334, b"18"),
    (0x1_3322, b"78"),
    (0x3322, b"9"),
    (0x3222, b"6789"),
    (0x2322, b"89"),
    (0x333, b"56789"),
    (0x244, b"123456789"),
    (0x254, b"123456789"),
    (0x344, b"1"),
    (0x55, b"6789"),
    (0x37, b"3"),
    (0x36, b"3"),
];

/// A run of digits that is a word of its own.
#[derive(Clone, Copy, Default)]
struct Group {
    start: usize,
    end: usize,
}

impl Group {
    const fn length(self) -> usize {
        self.end - self.start
    }
}

pub(super) fn find(folded: &mut Folded, found: &mut Findings) {
    let mut at = 0;
    while at < folded.bytes().len() {
        let bytes = folded.bytes();
        if !bytes[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        if let Some(uuid) = bytes.get(at..at + 36)
            && is_uuid(uuid)
        {
            at += 36;
            continue;
        }
        let word = run(&bytes[at..], u8::is_ascii_alphanumeric);
        let is_number = bytes[at..at + word].iter().all(u8::is_ascii_digit);
        if is_number && let Some((start, end, after, reason)) = number(bytes, at) {
            if let Some(reason) = reason {
                found.add(folded, start, end, reason);
            }
            at = after;
            continue;
        }
        if let Some((start, end)) = long_run(bytes, at, at + word) {
            found.add(folded, start, end, Reason::Digits);
        }
        at += word;
    }
}

/// A number in groups that begins with this word: where it is, where to go on, and what it is if it is something.
fn number(bytes: &[u8], at: usize) -> Option<(usize, usize, usize, Option<Reason>)> {
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at]);
    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
    let is_alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    // The seconds of a time, and its minutes.
    if before(1) == Some(b':') && is_digit(before(2)) {
        return None;
    }
    let (groups, count) = groups(bytes, at);
    let groups = &groups[..count];
    // Where one number ends and the next begins nobody can tell. What goes, goes with all that is near.
    let end = groups.last()?.end;
    let open = |start: usize| match start.checked_sub(1) {
        Some(before) if bytes[before] == b'(' => before,
        _ => start,
    };
    if before(1) == Some(b'+') && !is_alphanumeric(before(2)) {
        let taken = taken(groups, *INTERNATIONAL.end());
        if taken > 0 && digits(&groups[..taken]) >= *INTERNATIONAL.start() {
            return Some((open(at - 1), end, end, Some(Reason::Phone)));
        }
    }
    // Behind digits and a dot it is a part of what was looked at.
    if before(1) == Some(b'.') && is_digit(before(2)) {
        return None;
    }
    if is_date(bytes, groups) {
        let end = groups[2].end;
        return Some((at, end, end, None));
    }
    // `unit-07-1234-5678` is a name.
    let is_named = matches!(before(1), Some(b'-' | b'_')) && is_alphanumeric(before(2));
    if is_named {
        return None;
    }
    for taken in (2..=count).rev() {
        let groups = &groups[..taken];
        let is_part = taken < count || (before(1) == Some(b' ') && is_digit(before(2)));
        if let Some(reason) = in_groups(bytes, groups, is_part) {
            return Some((open(at), end, end, Some(reason)));
        }
    }
    None
}

/// The groups of digits from here on, as far as nothing is between them but what is between the groups of one number.
fn groups(bytes: &[u8], at: usize) -> ([Group; GROUPS], usize) {
    let mut groups = [Group::default(); GROUPS];
    let (mut count, mut start) = (0, at);
    while count < GROUPS {
        let word = run(&bytes[start..], u8::is_ascii_alphanumeric);
        let end = start + word;
        if word == 0 || !bytes[start..end].iter().all(u8::is_ascii_digit) {
            break;
        }
        // An hour is no group.
        if count > 0 && bytes.get(end) == Some(&b':') {
            break;
        }
        groups[count] = Group { start, end };
        count += 1;
        let between = run(&bytes[end..], |byte| {
            matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')')
        });
        if between == 0 || between > 3 {
            break;
        }
        start = end + between;
    }
    (groups, count)
}

fn digits(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.length()).sum()
}

/// How many of the groups have no more digits together.
fn taken(groups: &[Group], most: usize) -> usize {
    (0..=groups.len())
        .rev()
        .find(|taken| digits(&groups[..*taken]) <= most)
        .unwrap_or(0)
}

/// What a number in two groups or more is. `is_part`: there are groups before or after it.
fn in_groups(bytes: &[u8], groups: &[Group], is_part: bool) -> Option<Reason> {
    let [first, .., last] = groups else {
        return None;
    };
    let all = digits(groups);
    let shape = groups
        .iter()
        .fold(0, |shape, group| shape << 4 | group.length().min(15) as u32);
    let is_between = |byte: u8| {
        groups
            .windows(2)
            .all(|pair| bytes[pair[0].end..pair[1].start] == [byte])
    };
    if matches!(shape, 0x4444 | 0x465) && passes_luhn(bytes, groups) {
        return Some(Reason::Digits);
    }
    let begins = &bytes[first.start..first.end];
    if shape == 0x324 && is_between(b'-') && !matches!(begins, b"000" | b"666" | [b'9', ..]) {
        return Some(Reason::Digits);
    }
    let fives = || shape == 0x2_2222;
    if begins[0] == b'0' && begins.len() >= 2 {
        let has_many = groups.iter().any(|group| group.length() >= 3);
        let is_abroad = begins.starts_with(b"00") && has_many && INTERNATIONAL.contains(&(all - 2));
        let is_here =
            !begins.starts_with(b"00") && NATIONAL.contains(&all) && (has_many || fives());
        // Dots are between the parts of addresses and versions too, but not in pairs of digits with a zero in front.
        return ((is_abroad || is_here) && (!is_between(b'.') || fives())).then_some(Reason::Phone);
    }
    if is_between(b'.') && shape != 0x334 {
        return None;
    }
    let (_, starts) = SHAPES.iter().find(|(known, _)| *known == shape)?;
    if !starts.contains(&begins[0]) {
        return None;
    }
    // A sum in thousands and hundreds, a row of round numbers, years.
    let is_round = groups.iter().all(|group| bytes[group.end - 1] == b'0');
    let is_sum = shape == 0x333 && (is_part || bytes[last.start..last.end].ends_with(b"00"));
    let is_year = |group: &Group| {
        group.length() == 4
            && matches!(
                &bytes[group.start..group.end],
                [b'1', b'9', ..] | [b'2', b'0', ..]
            )
    };
    let are_years = matches!(shape, 0x244 | 0x344) && groups[1..].iter().all(is_year);
    (!is_round && !is_sum && !are_years).then_some(Reason::Phone)
}

/// `2024-03-15`, `15.03.2024`, `3/15/2024`: by any order of day and month.
fn is_date(bytes: &[u8], groups: &[Group]) -> bool {
    let [a, b, c, ..] = groups else {
        return false;
    };
    let between = |a: &Group, b: &Group| &bytes[a.end..b.start];
    let sign = between(a, b);
    if sign != between(b, c) || !matches!(sign, b"-" | b"." | b"/") {
        return false;
    }
    let value = |group: &Group| value(&bytes[group.start..group.end]);
    let is_day = |group: &Group| group.length() <= 2 && (1..=31).contains(&value(group));
    let is_year = |group: &Group| group.length() == 4 && (1900..2100).contains(&value(group));
    (is_year(a) && is_day(b) && is_day(c)) || (is_day(a) && is_day(b) && is_year(c))
}

fn value(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

/// The first long run of digits in a word, if the word is nothing else.
fn long_run(bytes: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let word = &bytes[start..end];
    if word.len() < LONG || is_hash(word) {
        return None;
    }
    let mut at = 0;
    let length = loop {
        let length = run(&word[at..], u8::is_ascii_digit);
        if length >= LONG {
            break length;
        }
        at += length;
        if at == word.len() {
            return None;
        }
        at += run(&word[at..], u8::is_ascii_alphabetic);
        if at == word.len() {
            return None;
        }
    };
    let digits = &word[at..at + length];
    let is_fraction = at == 0
        && start >= 2
        && matches!(bytes[start - 1], b'.' | b',')
        && bytes[start - 2].is_ascii_digit();
    let is_round = digits[3..].iter().all(|digit| *digit == b'0');
    let is_other = is_fraction
        || is_round
        || is_time(digits)
        || is_book(digits)
        || (at == 0 && is_build(bytes, start));
    (!is_other).then_some((start + at, start + at + length))
}

/// A hash, or an id in letters and digits: they take turns in it.
fn is_hash(word: &[u8]) -> bool {
    let turns = word
        .windows(2)
        .filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit())
        .count();
    turns >= 3 || (turns == 2 && word.len() >= 16 && word.iter().all(u8::is_ascii_hexdigit))
}

/// `202403151020` and `20240315102030`: a minute or a second of these years.
fn is_time(digits: &[u8]) -> bool {
    let two = |at: usize| value(&digits[at..at + 2]);
    matches!(digits.len(), 12 | 14)
        && (2016..2040).contains(&value(&digits[..4]))
        && (1..=12).contains(&two(4))
        && (1..=31).contains(&two(6))
        && two(8) < 24
        && two(10) < 60
        && (digits.len() == 12 || two(12) < 60)
}

/// An ISBN of 13 digits.
fn is_book(digits: &[u8]) -> bool {
    let weigh = |(at, digit): (usize, &u8)| u32::from(digit - b'0') * [1, 3][at % 2];
    digits.len() == 13
        && (digits.starts_with(b"978") || digits.starts_with(b"979"))
        && digits.iter().enumerate().map(weigh).sum::<u32>() % 10 == 0
}

/// Whether a word stands behind a version: `4.12.1+1717430400`.
fn is_build(bytes: &[u8], start: usize) -> bool {
    let before = &bytes[start.saturating_sub(LONGEST_VERSION)..start];
    if !matches!(before.last(), Some(b'+' | b'-' | b'.')) {
        return false;
    }
    let token = before.iter().rposition(|byte| *byte == b' ');
    let token = &before[token.map_or(0, |space| space + 1)..];
    let token = token.strip_prefix(b"v").unwrap_or(token);
    let major = run(token, u8::is_ascii_digit);
    (1..=3).contains(&major)
        && matches!(token[major..], [b'.', minor, ..] if minor.is_ascii_digit())
}

/// Whether the last digit is the check digit of a card's number.
fn passes_luhn(bytes: &[u8], groups: &[Group]) -> bool {
    let digits = groups
        .iter()
        .rev()
        .flat_map(|group| bytes[group.start..group.end].iter().rev());
    let weigh = |(at, digit): (usize, &u8)| match u32::from(digit - b'0') << (at % 2) {
        sum if sum > 9 => sum - 9,
        sum => sum,
    };
    digits.enumerate().map(weigh).sum::<u32>() % 10 == 0
}

/// Whether this is a UUID, as most ids of devices are.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
