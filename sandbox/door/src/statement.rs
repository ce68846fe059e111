//! Finds, in the text of a request, where an INSERT ends and its data begin, and which format a
//! query asks for. The engine does all other parsing.

use std::io::{Chain, Cursor, Read};

use crate::exception::Exception;

/// How long a query, or what comes before the data of an INSERT, may be, in bytes. The engine's
/// own limit, the setting `max_query_size`, is far below.
const MAX_TEXT: usize = 16 << 20;

/// What a request asks for.
pub(crate) enum Statement<R> {
    /// A whole statement.
    Query(Vec<u8>),
    /// `head` is the INSERT up to FORMAT or VALUES.
    Insert {
        head: Vec<u8>,
        format: String,
        data: Chain<Cursor<Vec<u8>>, R>,
    },
}

/// Reads the statement from the URL's `query` and the body, as a server does: of the body of an
/// INSERT only the beginning is read.
pub(crate) fn read<R: Read>(
    query: String,
    default_format: Option<&str>,
    mut body: R,
) -> Result<Statement<R>, Exception> {
    let mut text = query.into_bytes();
    let in_url = !text.trim_ascii().is_empty();
    let mut complete = in_url;
    let mut chunk = vec![0; 64 << 10];
    loop {
        match scan(&text, complete) {
            Scan::Insert { head, format, data } => {
                let mut data = text.split_off(data);
                text.truncate(head);
                if in_url
                    && data
                        .iter()
                        .all(|byte| byte.is_ascii_whitespace() || *byte == b';')
                {
                    data.clear();
                }
                return Ok(Statement::Insert {
                    head: text,
                    format,
                    data: Cursor::new(data).chain(body),
                });
            }
            Scan::InsertWithoutFormat => {
                let format = default_format.unwrap_or("Values").to_owned();
                return Ok(Statement::Insert {
                    head: text,
                    format,
                    data: Cursor::new(Vec::new()).chain(body),
                });
            }
            Scan::Query => {
                if in_url {
                    text.push(b'\n');
                }
                body.take(MAX_TEXT as u64 + 1).read_to_end(&mut text)?;
                return if text.len() > MAX_TEXT {
                    Err(too_long())
                } else {
                    Ok(Statement::Query(text))
                };
            }
            Scan::Unfinished => {
                if text.len() > MAX_TEXT {
                    return Err(too_long());
                }
                let read = body.read(&mut chunk)?;
                text.extend_from_slice(&chunk[..read]);
                complete = read == 0;
            }
        }
    }
}

fn too_long() -> Exception {
    Exception::new(62, "SYNTAX_ERROR", "Max query size exceeded")
}

/// The format named by a FORMAT clause at the end of a query.
pub(crate) fn output_format(sql: &[u8]) -> Option<String> {
    let mut tokens = Tokens { text: sql, at: 0 };
    let (mut depth, mut format) = (0_usize, None);
    while let Some(token) = tokens.next() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && is(word, "FORMAT") => {
                let mut ahead = Tokens { ..tokens };
                if let Some(Token::Word(name)) = ahead.next() {
                    let last = match ahead.next() {
                        None | Some(Token::Semicolon) => true,
                        Some(Token::Word(next)) => is(next, "SETTINGS") || is(next, "INTO"),
                        Some(_) => false,
                    };
                    if last {
                        format = Some(String::from_utf8_lossy(name).into_owned());
                    }
                }
            }
            _ => {}
        }
    }
    format
}

#[derive(Debug, PartialEq)]
enum Scan {
    /// More text is needed to tell.
    Unfinished,
    /// No INSERT, or one that brings no data along (INSERT ... SELECT).
    Query,
    InsertWithoutFormat,
    /// Where the head ends and the data begin.
    Insert {
        head: usize,
        format: String,
        data: usize,
    },
}

fn scan(text: &[u8], complete: bool) -> Scan {
    let mut tokens = Tokens { text, at: 0 };
    // A word that touches the end of an incomplete text may go on.
    let cut = |tokens: &Tokens<'_>| !complete && tokens.at == text.len();
    match tokens.next() {
        Some(Token::Word(_)) | None if cut(&tokens) => return Scan::Unfinished,
        Some(Token::Word(word)) if is(word, "INSERT") => {}
        _ => return Scan::Query,
    }
    // The table's name may itself be a keyword, so none is looked for before it or after a dot.
    let (mut depth, mut named, mut after_dot) = (0_usize, false, false);
    loop {
        let start = tokens.at;
        let Some(token) = tokens.next() else { break };
        let dotted = std::mem::replace(&mut after_dot, matches!(token, Token::Dot));
        match token {
            Token::Open => {
                let mut ahead = Tokens { ..tokens };
                match ahead.next() {
                    Some(Token::Word(_)) | None if cut(&ahead) => return Scan::Unfinished,
                    Some(Token::Word(word))
                        if depth == 0 && (is(word, "SELECT") || is(word, "WITH")) =>
                    {
                        return Scan::Query;
                    }
                    _ => depth += 1,
                }
            }
            Token::Close => depth = depth.saturating_sub(1),
            Token::Quoted => named = true,
            Token::Word(_) if cut(&tokens) => return Scan::Unfinished,
            Token::Word(word) if depth == 0 && !named && !dotted => {
                named = !["INTO", "TABLE", "FUNCTION"]
                    .iter()
                    .any(|keyword| is(word, keyword));
            }
            Token::Word(word) if depth == 0 && !dotted => {
                if ["SELECT", "WITH", "FROM"]
                    .iter()
                    .any(|keyword| is(word, keyword))
                {
                    return Scan::Query;
                }
                if is(word, "VALUES") {
                    return Scan::Insert {
                        head: start,
                        format: "Values".to_owned(),
                        data: tokens.at,
                    };
                }
                if is(word, "FORMAT")
                    && let name = tokens.next()
                    && let Some(Token::Word(name)) = name
                {
                    let name_end = tokens.at;
                    let Some(data) = data_start(text, name_end, complete) else {
                        return Scan::Unfinished;
                    };
                    let format = String::from_utf8_lossy(name).into_owned();
                    return Scan::Insert {
                        head: start,
                        format,
                        data,
                    };
                }
            }
            _ => {}
        }
    }
    if complete {
        Scan::InsertWithoutFormat
    } else {
        Scan::Unfinished
    }
}

/// Data begin after the blanks behind the format's name, and after the first line break if that
/// is what comes next. None if the text ends before that is known.
fn data_start(text: &[u8], mut at: usize, complete: bool) -> Option<usize> {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\x0c')) {
        at += 1;
    }
    if text.get(at) == Some(&b'\r') && text.get(at + 1).is_some_and(|next| *next == b'\n') {
        at += 1;
    }
    match text.get(at) {
        Some(b'\n') => Some(at + 1),
        Some(b'\r') if at + 1 == text.len() && !complete => None,
        Some(_) => Some(at),
        None => complete.then_some(at),
    }
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

enum Token<'a> {
    Word(&'a [u8]),
    Quoted,
    Open,
    Close,
    Dot,
    Semicolon,
    Other,
}

/// The tokens of an SQL text, without blanks and comments. `at` is where the last one ended.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let text = self.text;
        let start = self.at;
        let first = *text.get(start)?;
        self.at += 1;
        Some(match first {
            b'(' | b'[' | b'{' => Token::Open,
            b')' | b']' | b'}' => Token::Close,
            b'.' => Token::Dot,
            b';' => Token::Semicolon,
            b'\'' | b'"' | b'`' => {
                while let Some(byte) = text.get(self.at) {
                    self.at += 1;
                    match *byte {
                        b'\\' => self.at += 1,
                        byte if byte == first => break,
                        _ => {}
                    }
                }
                self.at = self.at.min(text.len());
                if first == b'\'' {
                    Token::Other
                } else {
                    Token::Quoted
                }
            }
            byte if is_word(byte) => {
                self.skip_while(is_word);
                Token::Word(&text[start..self.at])
            }
            _ => Token::Other,
        })
    }

    fn skip_blank(&mut self) {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace());
            let rest = &self.text[self.at..];
            if rest.starts_with(b"--") || rest.starts_with(b"#!") || rest.starts_with(b"# ") {
                self.skip_while(|byte| byte != b'\n');
            } else if rest.starts_with(b"/*") {
                let end = rest.windows(2).skip(2).position(|two| two == b"*/");
                self.at = end.map_or(self.text.len(), |end| self.at + end + 4);
            } else {
                return;
            }
        }
    }

    fn skip_while(&mut self, which: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| which(*byte)) {
            self.at += 1;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(text: &str) -> Option<(&str, String, &str)> {
        match scan(text.as_bytes(), true) {
            Scan::Insert { head, format, data } => Some((&text[..head], format, &text[data..])),
            _ => None,
        }
    }

    #[test]
    fn data_begin_after_the_format() {
        for (text, head, format, data) in [
            (
                "INSERT INTO t(`a`) FORMAT RowBinary",
                "INSERT INTO t(`a`)",
                "RowBinary",
                "",
            ),
            (
                "insert into a.t format JSONEachRow\n\n{}",
                "insert into a.t",
                "JSONEachRow",
                "\n{}",
            ),
            (
                "INSERT INTO t FORMAT CSV \r\n1",
                "INSERT INTO t",
                "CSV",
                "1",
            ),
            (
                "INSERT INTO t SETTINGS a='FORMAT x' VALUES (1)",
                "INSERT INTO t SETTINGS a='FORMAT x'",
                "Values",
                " (1)",
            ),
            (
                "/* FORMAT x */ INSERT INTO values VALUES(1)",
                "/* FORMAT x */ INSERT INTO values",
                "Values",
                "(1)",
            ),
            (
                "INSERT INTO db.format (format) FORMAT TSV\n1",
                "INSERT INTO db.format (format)",
                "TSV",
                "1",
            ),
            (
                "INSERT INTO \"a\\\"b\" (\"select\") -- VALUES\n VALUES (2)",
                "INSERT INTO \"a\\\"b\" (\"select\")",
                "Values",
                " (2)",
            ),
        ] {
            let (got_head, got_format, got_data) = insert(text).expect(text);
            let got_head = got_head.trim_end().trim_end_matches("-- VALUES").trim_end();
            assert_eq!(
                (got_head, got_format.as_str(), got_data),
                (head, format, data),
                "{text}"
            );
        }
    }

    #[test]
    fn what_brings_no_data_is_a_query() {
        for text in [
            "SELECT 1 FORMAT TSV",
            "INSERT INTO t SELECT 1",
            "INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x",
            "INSERT INTO t (SELECT 1)",
            "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
            "EXPLAIN INSERT INTO t VALUES (1)",
        ] {
            assert_eq!(scan(text.as_bytes(), true), Scan::Query, "{text}");
        }
        assert_eq!(scan(b"INSERT INTO t (a)", true), Scan::InsertWithoutFormat);
    }

    #[test]
    fn a_cut_changes_nothing() {
        for text in [
            "INSERT INTO db.`t` (a, b) SETTINGS x='1' FORMAT JSONEachRow \r\n{\"a\":1}",
            "insert into function remote('x', 'y') (a) values (1), (2)",
            "INSERT INTO t (SELECT 1)",
            "  -- c\n INSERT INTO t SELECT 1",
        ] {
            let whole = scan(text.as_bytes(), true);
            for cut in 0..text.len() {
                let part = scan(&text.as_bytes()[..cut], false);
                assert!(
                    part == Scan::Unfinished || part == whole,
                    "{text} cut at {cut}: {part:?}"
                );
            }
        }
    }

    #[test]
    fn the_format_of_a_query() {
        for (sql, format) in [
            ("SELECT format FROM t", None),
            ("SELECT 1 AS format", None),
            ("SELECT 1 FORMAT JSON", Some("JSON")),
            (
                "SELECT * FROM (SELECT 1 FORMAT x) -- FORMAT y\n format Native ;",
                Some("Native"),
            ),
            ("SELECT 'FORMAT TSV' FORMAT CSV SETTINGS a = 1", Some("CSV")),
        ] {
            assert_eq!(output_format(sql.as_bytes()).as_deref(), format, "{sql}");
        }
    }
}
