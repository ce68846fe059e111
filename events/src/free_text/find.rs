//! Finds addresses in a text, and has [`numbers`] find numbers.
//!
//! Most texts have nothing that could be one, which one pass over their bytes shows. The others are looked through once for
//! each kind. Each pass is linear: it goes on behind what it looked at.

use super::{
    Reason,
    fold::{AT, CLASS, COLON, DIGIT, DOT, FOLDS, FOUND, Folded, LETTER, SLASH, SPELLS},
    numbers,
};

/// Marks in one text. A text with more of them is masked as a whole.
const MOST: usize = 16;

/// Fewer digits are no number that is looked for.
const FEWEST_DIGITS: usize = 8;

/// Top-level domains whose names are told without a path. All are rare as words after a full stop.
const DOMAINS: [&[u8]; 8] = [
    b"com", b"net", b"org", b"edu", b"gov", b"info", b"biz", b"mobi",
];

/// The same, where a path follows.
const DOMAINS_WITH_PATH: [&[u8]; 46] = [
    b"ai", b"app", b"ar", b"at", b"au", b"be", b"br", b"ca", b"cc", b"ch", b"cl", b"cn", b"co",
    b"cz", b"de", b"dev", b"dk", b"es", b"eu", b"fi", b"fr", b"gg", b"gl", b"gle", b"gr", b"ie",
    b"in", b"io", b"it", b"jp", b"kr", b"link", b"ly", b"me", b"mx", b"nl", b"no", b"online",
    b"page", b"pl", b"pt", b"ru", b"se", b"site", b"tv", b"uk",
];

/// What was found, and where in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) reason: Reason,
}

/// What was found in a text.
pub(super) struct Findings {
    spans: [Span; MOST],
    count: usize,
    /// The whole text goes: it holds more than can be told, or is too long to be looked through.
    pub(super) is_all: bool,
}

impl Findings {
    const fn none() -> Self {
        const NOWHERE: Span = Span {
            start: 0,
            end: 0,
            reason: Reason::Field,
        };
        Self {
            spans: [NOWHERE; MOST],
            count: 0,
            is_all: false,
        }
    }

    /// In the order of the text.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans[..self.count]
    }

    pub(super) fn add(&mut self, folded: &mut Folded, start: usize, end: usize, reason: Reason) {
        let (start, end) = folded.take(start, end);
        match self.spans.get_mut(self.count) {
            Some(span) => {
                *span = Span { start, end, reason };
                self.count += 1;
            }
            None => self.is_all = true,
        }
    }
}

/// What looks like personal data in a text.
pub(super) fn find(text: &str) -> Option<Findings> {
    if !deserves_a_look(text.as_bytes()) {
        return None;
    }
    let mut found = Findings::none();
    let Some(mut folded) = Folded::of(text) else {
        let (start, end, reason) = (0, text.len(), Reason::Digits);
        found.spans[0] = Span { start, end, reason };
        found.count = 1;
        found.is_all = true;
        return Some(found);
    };
    if !deserves_a_look(folded.bytes()) {
        return None;
    }
    links(&mut folded, &mut found);
    mail(&mut folded, &mut found);
    hosts(&mut folded, &mut found);
    numbers::find(&mut folded, &mut found);
    if found.count == 0 {
        return None;
    }
    found.spans[..found.count].sort_unstable_by_key(|span| span.start);
    Some(found)
}

/// Whether there may be something in a text.
fn deserves_a_look(text: &[u8]) -> bool {
    let (mut seen, mut digits) = (0, 0);
    for byte in text {
        let class = CLASS[usize::from(*byte)];
        seen |= class;
        digits += usize::from(class & DIGIT);
    }
    if seen & (AT | FOLDS | SPELLS) != 0 || seen & (COLON | SLASH) == COLON | SLASH {
        return true;
    }
    if digits >= FEWEST_DIGITS && !numbers::is_uuid(text) {
        return true;
    }
    seen & DOT != 0
        && text
            .windows(2)
            .any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic())
}

/// `scheme://…`, whatever the scheme.
fn links(folded: &mut Folded, found: &mut Findings) {
    let mut at = 0;
    while let Some(next) = position(&folded.bytes()[at..], b':') {
        let colon = at + next;
        at = colon + 1;
        let bytes = folded.bytes();
        if !bytes[at..].starts_with(b"//") {
            continue;
        }
        let is_scheme =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let mut start = colon - run_back(&bytes[..colon], is_scheme);
        while start < colon && !bytes[start].is_ascii_alphabetic() {
            start += 1;
        }
        let end = end_of_link(bytes, colon + 3);
        if start < colon && end > colon + 3 {
            found.add(folded, start, end, Reason::Url);
            at = end;
        }
    }
}

/// Where a link ends that has begun: at white space or a quotation mark, without the punctuation of the sentence.
fn end_of_link(bytes: &[u8], from: usize) -> usize {
    let is_in = |byte: &u8| {
        !matches!(
            byte,
            b' ' | b'<' | b'>' | b'"' | b'\'' | b'`' | b'{' | b'}' | b'|' | b'\\' | b'^' | &FOUND
        )
    };
    let end = from + run(&bytes[from..], is_in);
    let is_punctuation =
        |byte: &u8| matches!(byte, b'.' | b',' | b';' | b':' | b'!' | b'?' | b')' | b']');
    end - run_back(&bytes[from..end], is_punctuation)
}

/// `name@host.domain`, also with a space on both sides of the `@`.
fn mail(folded: &mut Folded, found: &mut Findings) {
    let mut at = 0;
    while let Some(next) = position(&folded.bytes()[at..], b'@') {
        let sign = at + next;
        at = sign + 1;
        let bytes = folded.bytes();
        let is_apart = sign > 0 && bytes[sign - 1] == b' ' && bytes.get(sign + 1) == Some(&b' ');
        let gap = usize::from(is_apart);
        let (before, after) = (&bytes[..sign - gap], sign + 1 + gap);
        let mut local = run_back(before, |byte| {
            byte.is_ascii_alphanumeric() || *byte == LETTER || b".!#$%&'*+-/=?^_`~".contains(byte)
        });
        // A name begins with a letter or digit: what is before it belongs to the sentence.
        while local > 0 && !is_word(&before[before.len() - local]) {
            local -= 1;
        }
        let host = host(&bytes[after..]);
        if local == 0 || host == 0 {
            continue;
        }
        let labels = &bytes[after..after + host];
        let is_known = || {
            let last = last_label(labels);
            DOMAINS.contains(&last) || DOMAINS_WITH_PATH.contains(&last)
        };
        if is_version(labels) || is_density(labels) || (is_apart && !is_known()) {
            continue;
        }
        let (start, end) = (before.len() - local, after + host);
        found.add(folded, start, end, Reason::Email);
        at = end;
    }
}

/// The length of the host name at the start of a text: two labels or more, the last one of letters.
fn host(text: &[u8]) -> usize {
    let is_in = |byte: &u8| is_word(byte) || matches!(byte, b'-' | b'.');
    let mut host = &text[..run(text, is_in)];
    loop {
        let Some(dot) = host.iter().rposition(|byte| *byte == b'.') else {
            return 0;
        };
        let last = &host[dot + 1..];
        let is_letters = last.len() >= 2
            && (last.starts_with(b"xn--")
                || last
                    .iter()
                    .all(|byte| byte.is_ascii_alphabetic() || *byte == LETTER));
        let has_name = dot > 0 && is_word(&host[dot - 1]);
        if is_letters && has_name {
            return host.len();
        }
        // `anna@example.com-2` ends with the letters.
        let letters = run(last, u8::is_ascii_alphabetic);
        if letters >= 2 && has_name && last.get(letters) == Some(&b'-') {
            return dot + 1 + letters;
        }
        host = &host[..dot];
    }
}

/// `react@18.2.0-beta.rc`: two labels of digits. Providers of mail have one (`163.com`).
fn is_version(labels: &[u8]) -> bool {
    let mut labels = labels.split(|byte| *byte == b'.');
    let mut is_number = || {
        let label = labels.next();
        label.is_some_and(|label| {
            label.first().is_some_and(u8::is_ascii_digit)
                && !label.iter().any(u8::is_ascii_alphabetic)
        })
    };
    is_number() && is_number()
}

/// `icon@2x.png`, as apps name pictures.
fn is_density(labels: &[u8]) -> bool {
    matches!(labels, [b'1'..=b'4', b'x', b'.', ..])
}

fn last_label(host: &[u8]) -> &[u8] {
    let dot = host.iter().rposition(|byte| *byte == b'.');
    dot.map_or(host, |dot| &host[dot + 1..])
}

/// `www.…`, and names of hosts that end as most do.
fn hosts(folded: &mut Folded, found: &mut Findings) {
    let mut at = 0;
    while at < folded.bytes().len() {
        let bytes = folded.bytes();
        if !is_word(&bytes[at]) {
            at += 1;
            continue;
        }
        let length = run(&bytes[at..], |byte| {
            is_word(byte) || matches!(byte, b'-' | b'.')
        });
        let (start, all) = (at, &bytes[at..at + length]);
        at += length;
        let name = &all[..host(all)];
        // A part of a path is a file.
        let is_file = start > 0 && bytes[start - 1] == b'/';
        if name.is_empty() || is_file {
            continue;
        }
        let last = last_label(name);
        let end = start + name.len();
        let has_path = matches!(
            bytes[end..],
            [b'/' | b'?' | b'#', after, ..] if after != b' '
        );
        let has_letters = name[..name.len() - last.len()]
            .iter()
            .any(|byte| byte.is_ascii_alphabetic() || *byte == LETTER);
        let is_host = name.windows(4).any(|part| part == b"www.")
            || (has_letters
                && (DOMAINS.contains(&last) || (has_path && DOMAINS_WITH_PATH.contains(&last))));
        if is_host {
            let end = match has_path || bytes.get(end) == Some(&b':') {
                true => end_of_link(bytes, end),
                false => end,
            };
            found.add(folded, start, end, Reason::Url);
            at = end.max(at);
        }
    }
}

/// A letter of any script, or a digit.
fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == LETTER
}

fn position(text: &[u8], wanted: u8) -> Option<usize> {
    text.iter().position(|byte| *byte == wanted)
}

/// How many bytes at the start are such.
pub(super) fn run(text: &[u8], is_such: impl Fn(&u8) -> bool) -> usize {
    let other = text.iter().position(|byte| !is_such(byte));
    other.unwrap_or(text.len())
}

/// How many bytes at the end are such.
fn run_back(text: &[u8], is_such: impl Fn(&u8) -> bool) -> usize {
    let other = text.iter().rposition(|byte| !is_such(byte));
    text.len() - other.map_or(0, |other| other + 1)
}
