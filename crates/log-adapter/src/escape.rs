//! Text into JSON strings, and out of other quotings.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 128;

/// How many bytes from the start can stand in a JSON string as they are (RFC 8259 section 7): all but `"`, `\` and those below a
/// blank. Eight at a time, because most of what the adapter does is this.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some(chunk) = bytes[length..].first_chunk() {
        if let Some(plain) = plain_of_eight(*chunk) {
            return length + plain;
        }
        length += 8;
    }
    // The rest, with bytes before it that are plain.
    if let Some(chunk) = bytes.last_chunk() {
        return plain_of_eight(*chunk).map_or(bytes.len(), |plain| bytes.len() - 8 + plain);
    }
    let special = |byte: &u8| *byte < 32 || matches!(byte, b'"' | b'\\');
    bytes.iter().position(special).unwrap_or(bytes.len())
}

/// How many stand before the first that is not plain; none where all are.
fn plain_of_eight(bytes: [u8; 8]) -> Option<usize> {
    // A byte's high bit is set where it is below `n` (for n up to 128), or zero, which is below 1.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let word = u64::from_le_bytes(bytes);
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let special = below(word, 32) | below(quote, 1) | below(backslash, 1);
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

/// Writes valid UTF-8 as the inside of a JSON string.
fn write_utf8(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let (plain, rest) = text.split_at(plain_length(text));
        out.extend_from_slice(plain);
        let Some((special, after)) = rest.split_first() else { return };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&hex(*control));
            }
        }
        text = after;
    }
}

/// Writes text as the inside of a JSON string. A byte that is not UTF-8 becomes `\xff`, which says what it was, where U+FFFD
/// would lose it. `utf8`: whether the text is known to be valid.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &[u8], utf8: bool) {
    if utf8 {
        return write_utf8(out, text);
    }
    for chunk in text.utf8_chunks() {
        write_utf8(out, chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\\\x");
            out.extend_from_slice(&hex(*byte));
        }
    }
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Takes the backslashes out of a quoted text: those of JSON, and `\x1b` of Apache and nginx. An escape that is none of these
/// stays as it is.
pub(crate) fn unescape(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(plain) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..plain]);
        let (taken, decoded) = escape(&text[plain..]);
        match decoded {
            Decoded::Byte(byte) => out.push(byte),
            Decoded::Char(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        text = &text[plain + taken..];
    }
    out.extend_from_slice(text);
}

enum Decoded {
    Byte(u8),
    Char(char),
}

/// The escape at the start of `text`, and how long it is.
fn escape(text: &[u8]) -> (usize, Decoded) {
    let byte = match text.get(1) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(byte @ (b'"' | b'\\' | b'/' | b'\'')) => *byte,
        Some(b'x') => match number(text.get(2..4)).and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => return (4, Decoded::Byte(byte)),
            None => return (1, Decoded::Byte(b'\\')),
        },
        Some(b'u') => return unicode(text).unwrap_or((1, Decoded::Byte(b'\\'))),
        _ => return (1, Decoded::Byte(b'\\')),
    };
    (2, Decoded::Byte(byte))
}

fn unicode(text: &[u8]) -> Option<(usize, Decoded)> {
    let first = number(text.get(2..6))?;
    if let Some(char) = char::from_u32(first) {
        return Some((6, Decoded::Char(char)));
    }
    // The two halves of a surrogate pair, RFC 8259 section 7.
    let second = text.get(6..8).filter(|prefix| *prefix == b"\\u").and_then(|_| number(text.get(8..12)))?;
    let (high, low) = (first.checked_sub(0xd800)?, second.checked_sub(0xdc00)?);
    let char = (high < 0x400 && low < 0x400).then(|| char::from_u32(0x10000 + (high << 10) + low))??;
    Some((12, Decoded::Char(char)))
}

fn number(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_what_it_was(text in ".{0,60}") {
            let mut out = vec![b'"'];
            write_text(&mut out, text.as_bytes(), true);
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_bytes_become_a_valid_string(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut out = vec![b'"'];
            write_text(&mut out, &bytes, false);
            out.push(b'"');
            prop_assert!(serde_json::from_slice::<String>(&out).is_ok());
        }

        #[test]
        fn unescaping_undoes_json(text in ".{0,60}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let mut out = Vec::new();
            unescape(&mut out, &quoted.as_bytes()[1..quoted.len() - 1]);
            // Backspace and form feed are left alone: no log writes them on purpose.
            if !text.contains(['\u{8}', '\u{c}']) {
                prop_assert_eq!(String::from_utf8(out).unwrap(), text);
            }
        }
    }

    #[test]
    fn invalid_bytes_say_what_they_were() {
        let mut out = Vec::new();
        write_text(&mut out, b"caf\xe9 \"x\"", false);
        assert_eq!(out, br#"caf\\xe9 \"x\""#);
    }

    #[test]
    fn escapes_of_access_logs_are_undone() {
        let mut out = Vec::new();
        unescape(&mut out, br#"\x16\x03 a\"b \q \ud83d\ude00 \ud83d \"#);
        assert_eq!(out, "\u{16}\u{3} a\"b \\q \u{1f600} \\ud83d \\".as_bytes());
    }
}
