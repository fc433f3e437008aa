//! Where a message's body ends, RFC 9112 section 6: one state machine for both directions.
//!
//! Strict where leniency would let two parsers see two messages in the same bytes: what it accepts, every parser reads
//! alike. It looks at bytes and changes none of them.

use std::ops::Range;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// An answer's only: by the end of the connection.
    UntilClose,
}

/// A body that is not framed as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body is not framed as HTTP/1 says")]
pub(crate) struct BadFraming;

/// Most bytes that the chunk extensions and trailers of one body may have: nobody needs them, and without a bound they are
/// a body that no limit on bodies sees. 16 KiB, as in hyper.
const MAX_OVERHEAD: usize = 16 * 1024;

/// Most digits of a chunk's size: more would not fit 64 bits.
const MAX_DIGITS: u8 = 16;

/// A body on its way.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    state: State,
    overhead: usize,
}

/// What of some bytes belongs to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) all: usize,
    pub(crate) before_trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ended,
    Length(u64),
    UntilClose,
    Size {
        digits: u8,
        size: u64,
    },
    /// White space after a size, which some servers send and everybody ignores.
    SizeSpace {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { digits: 0, size: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, overhead: 0 }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the end of the connection is an end in order.
    pub(crate) fn may_close(&self) -> bool {
        matches!(self.state, State::Ended | State::UntilClose)
    }

    /// How many bytes of content come next, with no framing between them.
    pub(crate) fn unbroken(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Data { left } => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// So many of them went by.
    pub(crate) fn skip(&mut self, length: u64) {
        match &mut self.state {
            State::Length(left) | State::Data { left } => *left -= length,
            _ => return,
        }
        self.finish_piece();
    }

    fn finish_piece(&mut self) {
        match self.state {
            State::Length(0) => self.state = State::Ended,
            State::Data { left: 0 } => self.state = State::DataCr,
            _ => {}
        }
    }

    /// How many of these bytes, which follow those of the last call, belong to the body. `data` gets each piece of them
    /// that is content rather than framing.
    pub(crate) fn take(&mut self, bytes: &[u8], data: impl FnMut(Range<usize>)) -> Result<usize, BadFraming> {
        self.take_until(bytes, State::Ended, data)
    }

    /// As [`Self::take`], and how many of them come before the trailers and the empty line that ends them.
    pub(crate) fn take_apart(
        &mut self,
        bytes: &[u8],
        data: impl FnMut(Range<usize>),
    ) -> Result<Taken, BadFraming> {
        let before =
            if self.is_in_trailers() { 0 } else { self.take_until(bytes, State::TrailerStart, data)? };
        let all = before + self.take_until(&bytes[before..], State::Ended, |_| {})?;
        Ok(Taken { all, before_trailers: before })
    }

    fn is_in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf | State::EndLf
        )
    }

    fn take_until(
        &mut self,
        bytes: &[u8],
        end: State,
        mut data: impl FnMut(Range<usize>),
    ) -> Result<usize, BadFraming> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Ended && self.state != end {
            let rest = bytes.len() - at;
            let whole = match &mut self.state {
                State::UntilClose => rest,
                State::Length(left) | State::Data { left } => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest);
                    *left -= length as u64;
                    length
                }
                state => {
                    *state = framing_byte(*state, bytes[at])?;
                    self.count_overhead()?;
                    at += 1;
                    continue;
                }
            };
            data(at..at + whole);
            at += whole;
            self.finish_piece();
        }
        Ok(at)
    }

    fn count_overhead(&mut self) -> Result<(), BadFraming> {
        if matches!(
            self.state,
            State::SizeSpace { .. } | State::Extension { .. } | State::TrailerName | State::TrailerValue
        ) {
            self.overhead += 1;
        }
        if self.overhead > MAX_OVERHEAD { Err(BadFraming) } else { Ok(()) }
    }
}

/// The state after one byte between the data of chunks.
fn framing_byte(state: State, byte: u8) -> Result<State, BadFraming> {
    Ok(match (state, byte) {
        (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
            if digits == MAX_DIGITS {
                return Err(BadFraming);
            }
            let digit = char::from(byte).to_digit(16).ok_or(BadFraming)?;
            State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
        }
        (State::Size { digits: 0, .. }, _) => return Err(BadFraming),
        (State::Size { size, .. } | State::SizeSpace { size }, b'\r') => State::SizeLf { size },
        (State::Size { size, .. } | State::SizeSpace { size }, b';') => State::Extension { size },
        (State::Size { size, .. } | State::SizeSpace { size }, b' ' | b'\t') => State::SizeSpace { size },
        (State::Extension { size }, b'\r') => State::SizeLf { size },
        (State::Extension { size }, _) if is_text(byte) => State::Extension { size },
        (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
        (State::SizeLf { size }, b'\n') => State::Data { left: size },
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => State::Size { digits: 0, size: 0 },
        (State::TrailerStart, b'\r') => State::EndLf,
        (State::TrailerStart | State::TrailerName, _) if is_token(byte) => State::TrailerName,
        (State::TrailerName, b':') => State::TrailerValue,
        (State::TrailerValue, b'\r') => State::TrailerLf,
        (State::TrailerValue, _) if is_text(byte) => State::TrailerValue,
        (State::TrailerLf, b'\n') => State::TrailerStart,
        (State::EndLf, b'\n') => State::Ended,
        _ => return Err(BadFraming),
    })
}

/// RFC 9110 5.6.2: what a field's name is made of.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 5.5: what a field's value is made of, white space and bytes above ASCII among it.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content and how many bytes the body took, fed in pieces of this size.
    fn read(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadFraming> {
        let (mut body, mut content, mut at) = (Body::new(framing), Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            let taken = body.take(piece, |data| content.extend_from_slice(&piece[data]))?;
            at += taken;
            if taken < piece.len() {
                break;
            }
        }
        Ok((content, at, body.is_ended()))
    }

    #[test]
    fn bodies_end_where_their_framing_says_however_they_are_cut() {
        let cases: [(Framing, &str, &str, usize, bool); 8] = [
            (Framing::None, "GET", "", 0, true),
            (Framing::Length(3), "abcGET", "abc", 3, true),
            (Framing::Length(4), "abc", "abc", 3, false),
            (Framing::UntilClose, "abc", "abc", 3, false),
            (Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nGET", "abc", 13, true),
            (Framing::Chunked, "3;a=\"b\"\r\nabc\r\n00 \r\nX-Sum: 1\r\n\r\nG", "abc", 31, true),
            (Framing::Chunked, "A\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\n", "0123456789!", 26, true),
            (Framing::Chunked, "3\r\nab", "ab", 5, false),
        ];
        for (framing, bytes, content, length, ended) in cases {
            for piece in 1..=bytes.len() {
                let wanted = Ok((content.as_bytes().to_vec(), length, ended));
                assert_eq!(read(framing, bytes.as_bytes(), piece), wanted, "{bytes:?} by {piece}");
            }
        }
    }

    #[test]
    fn chunks_that_two_parsers_could_read_differently_are_refused() {
        for bytes in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\n",
            "1\ra\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1 1\r\na\r\n",
            "1;\n\r\na\r\n",
            "1;\0\r\na\r\n",
            "10000000000000000\r\n",
            "00000000000000001\r\na\r\n",
            "0\r\n X: folded\r\n\r\n",
            "0\r\nX : 1\r\n\r\n",
            "0\r\n: 1\r\n\r\n",
            "0\r\nX: 1\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(read(Framing::Chunked, bytes.as_bytes(), 1), Err(BadFraming), "{bytes:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = format!("1;{}\r\na\r\n", "x".repeat(MAX_OVERHEAD));
        let many = "1;x\r\na\r\n".repeat(MAX_OVERHEAD);
        let trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(MAX_OVERHEAD));
        for bytes in [extension, many, trailer] {
            assert_eq!(read(Framing::Chunked, bytes.as_bytes(), 4096), Err(BadFraming));
        }
    }
}
