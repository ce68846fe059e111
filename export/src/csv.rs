//! Lines of RFC 4180.

/// Appends a cell as it is.
pub(crate) fn cell(out: &mut Vec<u8>, value: &[u8]) {
    let is_plain = !value
        .iter()
        .any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'));
    if is_plain {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends a cell of a text that may be anything, so that no spreadsheet takes it for a formula. Where the text is
/// changed, it is told from one that is not: also a text that begins with the mark gets one.
pub(crate) fn guarded(out: &mut Vec<u8>, text: &str) {
    const STARTS: &[char] = &[
        '=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠',
    ];
    if text.starts_with(STARTS) {
        cell(out, format!("'{text}").as_bytes());
    } else {
        cell(out, text.as_bytes());
    }
}

/// Appends the line of names.
pub(crate) fn header<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    for (index, name) in names.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        cell(out, name.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        guarded(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_spreadsheet_would_run_or_split_is_kept_apart() {
        for (text, cell) in [
            ("plain", "plain"),
            ("two words", "two words"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-1", "'-1"),
            ("+1,2", "\"'+1,2\""),
            ("＝1", "'＝1"),
            ("'quoted", "''quoted"),
            ("1=1", "1=1"),
        ] {
            assert_eq!(written(text), cell, "{text}");
        }
    }
}
