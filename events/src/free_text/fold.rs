//! A text as a row of bytes of which each stands for one character, the way a reader would take it: any script's digits
//! are digits, full-width letters and signs are plain ones, and what cannot be seen is left out.

use crate::bounds;

/// Characters of a text at most. No declared text is longer; one that is has not been looked through.
pub(super) const LONGEST: usize = bounds::ATTRIBUTE_TEXT;

/// A letter beyond ASCII.
pub(super) const LETTER: u8 = 0x80;
/// Any other character beyond ASCII.
const OTHER: u8 = 0x81;
/// Found already.
pub(super) const FOUND: u8 = 0x82;

pub(super) const DIGIT: u8 = 1;
pub(super) const AT: u8 = 2;
pub(super) const DOT: u8 = 4;
pub(super) const COLON: u8 = 8;
pub(super) const SLASH: u8 = 16;
/// What `[at]` and `%40` begin with.
pub(super) const SPELLS: u8 = 32;
/// The first byte of a character that may stand for one of ASCII, or for none.
pub(super) const FOLDS: u8 = 64;

/// What each byte of a text may be.
pub(super) const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'@' => AT,
            b'.' => DOT,
            b':' => COLON,
            b'/' => SLASH,
            b'[' | b'(' | b'{' | b'<' | b'%' => SPELLS,
            0xc2 | 0xcc | 0xcd | 0xd8 | 0xd9 | 0xdb | 0xdf | 0xe0..=0xe3 | 0xef..=0xf3 => FOLDS,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// The zeros of scripts whose digits children and their parents write numbers with.
const ZEROS: [u32; 25] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x17e0, 0x1810, 0xff10, 0x1_d7ce, 0x1_d7d8, 0x1_d7e2, 0x1_d7ec,
    0x1_d7f6, 0x1_fbf0,
];

pub(super) struct Folded {
    bytes: [u8; LONGEST],
    /// Where each begins in the text, and where the text ends.
    at: [u16; LONGEST + 1],
    length: usize,
}

impl Folded {
    /// `None`: the text has more than [`LONGEST`] characters.
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut folded = Self {
            bytes: [0; LONGEST],
            at: [0; LONGEST + 1],
            length: 0,
        };
        if text.len() > usize::from(u16::MAX) {
            return None;
        }
        let mut spells = false;
        for (at, char) in text.char_indices() {
            let Some(byte) = fold(char) else {
                continue;
            };
            if folded.length == LONGEST {
                return None;
            }
            spells |= CLASS[usize::from(byte)] & (AT | SPELLS) != 0;
            folded.bytes[folded.length] = byte;
            folded.at[folded.length] = at as u16;
            folded.length += 1;
        }
        folded.at[folded.length] = text.len() as u16;
        if spells {
            folded.spell();
        }
        Some(folded)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Where a part of it is in the text. It is not looked at again.
    pub(super) fn take(&mut self, start: usize, end: usize) -> (usize, usize) {
        self.bytes[start..end].fill(FOUND);
        (self.at[start].into(), self.at[end].into())
    }

    /// Writes `@` for `%40` and `[at]`, and `.` for `[dot]`, and for a bare `dot` after an `[at]`.
    fn spell(&mut self) {
        let (mut from, mut to) = (0, 0);
        let mut had_at = false;
        while from < self.length {
            let rest = &self.bytes[from..self.length];
            let (byte, length) = match spelled(rest, had_at) {
                Some(spelled) => spelled,
                None => (rest[0], 1),
            };
            had_at |= byte == b'@';
            self.bytes[to] = byte;
            self.at[to] = self.at[from];
            to += 1;
            from += length;
        }
        self.at[to] = self.at[self.length];
        self.length = to;
    }
}

/// What a spelling at the start of a text stands for, and its length, with white space around it.
fn spelled(text: &[u8], had_at: bool) -> Option<(u8, usize)> {
    const WORDS: [(&[u8], u8); 8] = [
        (b"at", b'@'),
        (b"@", b'@'),
        (b"arroba", b'@'),
        (b"dot", b'.'),
        (b".", b'.'),
        (b"punkt", b'.'),
        (b"punto", b'.'),
        (b"point", b'.'),
    ];
    if text.starts_with(b"%40") {
        return Some((b'@', 3));
    }
    let after_spaces = |text: &[u8], at: usize| at + usize::from(text.get(at) == Some(&b' '));
    let begins = after_spaces(text, 0);
    if had_at && begins > 0 && text[begins..].starts_with(b"dot ") {
        return Some((b'.', begins + 4));
    }
    let close = match text.get(begins)? {
        b'[' => b']',
        b'(' => b')',
        b'{' => b'}',
        b'<' => b'>',
        _ => return None,
    };
    let word_at = after_spaces(text, begins + 1);
    let word = |(word, _): &&(&[u8], u8)| {
        let end = after_spaces(text, word_at + word.len());
        text[word_at..].starts_with(word) && text.get(end) == Some(&close)
    };
    let (word, byte) = WORDS.iter().find(word)?;
    let closes = after_spaces(text, word_at + word.len());
    Some((*byte, after_spaces(text, closes + 1)))
}

/// What a character is taken for. `None`: for nothing.
fn fold(char: char) -> Option<u8> {
    if char.is_ascii() {
        let byte = char as u8;
        return Some(match byte {
            b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => b' ',
            byte => byte.to_ascii_lowercase(),
        });
    }
    if let Some(plain) = plain(char) {
        return Some(plain.to_ascii_lowercase());
    }
    if is_unseen(char) {
        return None;
    }
    Some(match char {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{fe58}' | '\u{30fc}' => b'-',
        '\u{3002}' | '\u{ff61}' | '\u{2024}' | '\u{fe52}' => b'.',
        '\u{fe6b}' => b'@',
        '\u{fe62}' => b'+',
        '\u{fe55}' => b':',
        char if char.is_whitespace() => b' ',
        char if char.is_alphanumeric() => LETTER,
        _ => OTHER,
    })
}

/// The character of ASCII that another one only looks different from.
pub(super) fn plain(char: char) -> Option<u8> {
    let code = u32::from(char);
    if (0xff01..=0xff5e).contains(&code) {
        // Full-width forms.
        return Some((code - 0xff01) as u8 + b'!');
    }
    let zero = ZEROS.iter().rfind(|zero| code >= **zero)?;
    (code - zero < 10).then(|| (code - zero) as u8 + b'0')
}

/// Whether nothing is seen of a character: joiners, marks of direction, soft hyphens, variation selectors, combining marks.
pub(super) const fn is_unseen(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{300}'..='\u{34e}' | '\u{350}'..='\u{36f}' | '\u{20d0}'..='\u{20f0}' | '\u{e0000}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_folds_is_seen_at_a_glance() {
        let mut encoded = [0; 4];
        for char in
            ('\u{80}'..=char::MAX).filter(|char| !matches!(fold(*char), Some(LETTER | OTHER)))
        {
            let first = char.encode_utf8(&mut encoded).as_bytes()[0];
            assert_eq!(CLASS[usize::from(first)], FOLDS, "{char:?}");
        }
    }

    #[test]
    fn each_digit_is_its_number() {
        for (text, digits) in [
            ("٠٩", "09"),
            ("۰۹", "09"),
            ("०९", "09"),
            ("０９", "09"),
            ("𝟎𝟗", "09"),
            ("1\u{fe0f}\u{20e3}", "1"),
        ] {
            assert_eq!(Folded::of(text).unwrap().bytes(), digits.as_bytes());
        }
    }

    #[test]
    fn spellings_of_at_and_dot() {
        for text in [
            "a [at] b.co",
            "a(at)b [dot] co",
            "a%40b.co",
            "a { AT } b dot co",
            "a＠b．co",
            "a <at>b(punkt)co",
        ] {
            assert_eq!(Folded::of(text).unwrap().bytes(), b"a@b.co", "{text}");
        }
        let text = "look (at) me";
        assert_eq!(Folded::of(text).unwrap().bytes(), b"look@me");
    }

    #[test]
    fn a_longer_text_is_told() {
        assert!(Folded::of(&"é".repeat(LONGEST)).is_some());
        assert!(Folded::of(&"é".repeat(LONGEST + 1)).is_none());
    }
}
