//! A head's lines taken out and added in place, before its bytes are passed on.

use std::ops::Range;

use http::HeaderValue;

use crate::http1::head::{Lines, RequestHead};
use crate::observe::Exchange;
use crate::overrides::Change;

/// Makes the head of a request, at the beginning of `message`, that of the next connection, with what the port wants of its headers.
/// Returns where it starts now.
pub(crate) fn request(
    message: &mut Vec<u8>,
    head: &RequestHead,
    exchange: &Exchange,
    subject: Option<&HeaderValue>,
) -> usize {
    let (local_host, edits) = (exchange.port.local_host.as_ref(), exchange.request_edits(subject));
    let (length, remove, added) = (head.length, &head.hop.remove, added(head));
    if local_host.is_none() && edits.is_none() {
        return rewrite(message, 0, length, remove, added);
    }
    let bytes = &message[..length];
    let (mut remove, mut add) = match local_host {
        Some(local) => local.edits(bytes, remove, added),
        None => (remove.to_vec(), added.to_vec()),
    };
    if let Some(edits) = &edits {
        remove.extend(edits.lines_to_remove(bytes));
        remove.sort_by_key(|line| line.start);
        remove.dedup();
        add.push(edits.lines_to_add());
    }
    rewrite(message, 0, length, &remove, &add)
}

/// Changes the head of an answer, at the beginning of `message`, and takes out and adds what its connection needs. Returns where it
/// starts now.
pub(crate) fn changed(
    message: &mut Vec<u8>,
    length: usize,
    mut remove: Lines,
    connection: &[u8],
    change: &Change,
) -> usize {
    remove.extend(change.headers.lines_to_remove(&message[..length]));
    remove.sort_by_key(|line| line.start);
    remove.dedup();
    let start = rewrite(message, 0, length, &remove, &[change.headers.lines_to_add(), connection]);
    if let Some(status) = change.status {
        let line = message[start..].iter().position(|byte| *byte == b'\r').unwrap_or_default();
        // Behind the version, which is the app's or has been set right.
        message.splice(start + VERSION..start + line, format!(" {status}").into_bytes());
    }
    start
}

/// `HTTP/1.1`
const VERSION: usize = 8;

/// Lines that the head needs in place of those that concerned the client's connection.
fn added(head: &RequestHead) -> &'static [&'static [u8]] {
    match (head.hop.upgrade, head.hop.trailers) {
        (false, false) => &[],
        (true, false) => &[b"Connection: Upgrade\r\n"],
        (false, true) => &[b"TE: trailers\r\n", b"Connection: TE\r\n"],
        (true, true) => &[b"TE: trailers\r\n", b"Connection: Upgrade, TE\r\n"],
    }
}

/// Takes `remove`, in order and counted from `start`, out of the head that stands at `start` in `message`, and adds lines at
/// its end. Returns where it starts now: what follows it, often much longer, stays where it is.
pub(crate) fn rewrite(
    message: &mut Vec<u8>,
    start: usize,
    length: usize,
    remove: &[Range<usize>],
    add: &[&[u8]],
) -> usize {
    if remove.is_empty() && add.is_empty() {
        return start;
    }
    let end = start + length;
    let start = close_gaps(message, start, length, remove);
    // To the left as far as there is room, which is what has just gone; then what follows the head must move.
    let added: usize = add.iter().map(|line| line.len()).sum();
    let missing = added.saturating_sub(start);
    if missing > 0 {
        let before = message.len();
        message.resize(before + missing, 0);
        message.copy_within(end..before, end + missing);
    }
    let kept = start..end - END.len();
    let start = start + missing - added;
    let mut at = start + kept.len();
    message.copy_within(kept, start);
    for line in add.iter().chain([&END]) {
        message[at..at + line.len()].copy_from_slice(line);
        at += line.len();
    }
    start
}

/// The empty line that ends a head.
const END: &[u8] = b"\r\n";

/// Moves what is left of the head to the right, from its end on, over what goes.
fn close_gaps(message: &mut [u8], start: usize, length: usize, remove: &[Range<usize>]) -> usize {
    let (mut from, mut to) = (start + length, start + length);
    for line in remove.iter().rev() {
        let kept = start + line.end..from;
        from = start + line.start;
        to -= kept.len();
        message.copy_within(kept, to);
    }
    let kept = start..from;
    to -= kept.len();
    message.copy_within(kept, to);
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";

    fn rewritten(before: &str, remove: &[&str], add: &[&[u8]]) -> String {
        let mut message = format!("{before}{HEAD}body").into_bytes();
        let line = |line: &&str| HEAD.find(line).map(|start| start..start + line.len()).unwrap();
        let remove: Vec<_> = remove.iter().map(line).collect();
        let start = rewrite(&mut message, before.len(), HEAD.len(), &remove, add);
        String::from_utf8(message[start..].to_vec()).unwrap()
    }

    #[test]
    fn lines_go_and_come_and_the_rest_stays() {
        let long: &[u8] = b"Long: 0123456789012345678901234567890123456789\r\n";
        for before in ["", "0123456789"] {
            assert_eq!(rewritten(before, &[], &[]), format!("{HEAD}body"));
            assert_eq!(
                rewritten(before, &["A: 1\r\n", "C: 3\r\n"], &[]),
                "GET / HTTP/1.1\r\nB: 2\r\n\r\nbody"
            );
            assert_eq!(rewritten(before, &["A: 1\r\nB: 2\r\n"], &[]), "GET / HTTP/1.1\r\nC: 3\r\n\r\nbody");
            assert_eq!(
                rewritten(before, &["A: 1\r\n", "C: 3\r\n"], &[b"D: 4\r\n"]),
                "GET / HTTP/1.1\r\nB: 2\r\nD: 4\r\n\r\nbody"
            );
            let grown = String::from_utf8(long.to_vec()).unwrap();
            assert_eq!(
                rewritten(before, &["B: 2\r\n"], &[long]),
                format!("GET / HTTP/1.1\r\nA: 1\r\nC: 3\r\n{grown}\r\nbody")
            );
        }
    }
}
