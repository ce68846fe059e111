//! What JSON allows and its parser does not read, made readable in place.
//!
//! Clients send three things that `serde_json` refuses or cannot tell apart: half of a surrogate pair
//! (JavaScript's `slice` cuts emoji in two), a number beyond the doubles, and the integer `-0`, which it
//! reads as it reads `-0.0`. Each is rewritten to something of the same length. Bodies that have none of
//! it are never looked at: see [`Parsed::doubtful`](crate::parse::Parsed::doubtful).

/// How deep the fields of an event's own objects lie in a body: within the body's object, its `events`, the event
/// and `data`.
const DEPTH_IN_JSON: usize = 4;
/// The same on a line: within the event and `data`.
const DEPTH_IN_LINE: usize = 2;

/// No double has so many digits before its point, or an exponent of fewer than two.
const DIGITS_OF_DOUBLES: usize = 309;

/// Repairs a JSON body; says whether anything was changed.
pub fn json(body: &mut [u8]) -> bool {
    text(body, DEPTH_IN_JSON)
}

/// Repairs a body of one event a line, each by itself: one that is broken off must not change how the next is
/// read.
pub fn ndjson(body: &mut [u8]) -> bool {
    body.split_mut(|byte| *byte == b'\n')
        .fold(false, |changed, line| text(line, DEPTH_IN_LINE) | changed)
}

/// Anything but JSON stays what it is: no JSON.
fn text(text: &mut [u8], known_depth: usize) -> bool {
    let (mut at, mut depth, mut changed) = (0, 0_usize, false);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let (end, cut) = string(text, at + 1);
                (at, changed) = (end, changed | cut);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let length = text[at..].iter().take_while(|byte| in_number(**byte));
                let end = at + length.count();
                changed |= number(&mut text[at..end], depth <= known_depth);
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    changed
}

const fn in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// The end of a string that begins at `at`, and whether it held half a pair, which is U+FFFD from here on.
fn string(text: &mut [u8], mut at: usize) -> (usize, bool) {
    let mut changed = false;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return (at + 1, changed),
            b'\\' => match escaped(text, at) {
                Some(0xD800..=0xDBFF) if matches!(escaped(text, at + 6), Some(0xDC00..=0xDFFF)) => {
                    at += 12;
                }
                Some(0xD800..=0xDFFF) => {
                    text[at + 2..at + 6].copy_from_slice(b"fffd");
                    changed = true;
                    at += 6;
                }
                _ => at += 2,
            },
            _ => at += 1,
        }
    }
    (text.len(), changed)
}

/// The UTF-16 unit of `\uXXXX`.
fn escaped(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` would take a sign.
    let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// `-0` becomes `0`. A number beyond the doubles becomes a value that no known field takes, or a number
/// where that does not matter: an array more could be one level too many.
fn number(token: &mut [u8], known: bool) -> bool {
    let instead: &[u8] = if token == b"-0" {
        b" 0"
    } else if is_beyond_doubles(token) {
        if known { b"[]" } else { b"0" }
    } else {
        return false;
    };
    token.fill(b' ');
    token[..instead.len()].copy_from_slice(instead);
    true
}

fn is_beyond_doubles(token: &[u8]) -> bool {
    let suspect =
        token.len() > DIGITS_OF_DOUBLES || token.iter().any(|byte| matches!(byte, b'e' | b'E'));
    suspect
        && is_number(token)
        && std::str::from_utf8(token)
            .is_ok_and(|token| token.parse::<f64>().is_ok_and(f64::is_infinite))
}

/// By JSON's grammar, which is narrower than that of `f64::from_str`.
fn is_number(token: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = token.strip_prefix(b"-").unwrap_or(token);
    let integer = digits(rest);
    if integer == 0 || (integer > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[integer..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let unsigned = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            unsigned => unsigned,
        };
        let length = digits(unsigned);
        return length > 0 && length == unsigned.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(body: &str) -> String {
        let mut bytes = body.as_bytes().to_vec();
        let changed = json(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(changed, text != body, "{body}");
        assert_eq!(text.len(), body.len());
        text
    }

    #[test]
    fn halves_of_pairs_are_replaced_and_pairs_are_not() {
        for (body, expected) in [
            (r#"["\ud83d"]"#, r#"["\ufffd"]"#),
            (r#"["\uDE00x"]"#, r#"["\ufffdx"]"#),
            (r#"["\ud83d\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            (r#"["\ud83d\n\ude00"]"#, r#"["\ufffd\n\ufffd"]"#),
            (r#"["\ud83d\ude00\\ud83d"]"#, r#"["\ud83d\ude00\\ud83d"]"#),
            (r#"["\\\ud83d","\"\ud83d"]"#, r#"["\\\ufffd","\"\ufffd"]"#),
            (r#"{"\udc00":1}"#, r#"{"\ufffd":1}"#),
            (r#"["\ud83"]"#, r#"["\ud83"]"#),
            (r#"["\u+83d"]"#, r#"["\u+83d"]"#),
            (r#"["\ud83d"#, r#"["\ufffd"#),
            (r#"["\"#, r#"["\"#),
            (r"\ud83d", r"\ud83d"),
        ] {
            assert_eq!(repaired(body), expected);
        }
    }

    #[test]
    fn numbers_that_no_double_is_near_are_replaced() {
        let long = "9".repeat(400);
        let spaces = |n: usize| " ".repeat(n);
        for (body, expected) in [
            (
                "[-0,-0.0,-0e1,-01,0,-00]",
                "[ 0,-0.0,-0e1,-01,0,-00]".to_owned(),
            ),
            ("[1e308,1e309,-1e999]", "[1e308,[]   ,[]    ]".to_owned()),
            (
                "[1e-999,1e,e309,1e3.9,01e309]",
                "[1e-999,1e,e309,1e3.9,01e309]".to_owned(),
            ),
            ("[[[[[1e309]]]]]", "[[[[[0    ]]]]]".to_owned()),
            (r#"["1e309 -0"]"#, r#"["1e309 -0"]"#.to_owned()),
            (&format!("[{long}]"), format!("[[]{}]", spaces(398))),
            (&format!("[0.{long}]"), format!("[0.{long}]")),
            (
                "[1.8e308,1.7976931348623157e308]",
                "[[]     ,1.7976931348623157e308]".to_owned(),
            ),
        ] {
            assert_eq!(repaired(body), expected);
        }
    }

    #[test]
    fn a_line_that_breaks_off_spoils_no_other() {
        let mut lines = b"{\"a\":\"\n{\"b\":{\"c\":-0}}\n\n[[[1e309]]]".to_vec();
        assert!(ndjson(&mut lines));
        assert_eq!(lines, b"{\"a\":\"\n{\"b\":{\"c\": 0}}\n\n[[[0    ]]]");
    }
}
