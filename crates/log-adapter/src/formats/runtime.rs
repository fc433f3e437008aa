//! What a container runtime writes of a container's output: `time stream tag text`.
//!
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>

use crate::cursor::Cursor;
use crate::record::{Key, Known, Record, Value};
use crate::time::Clock;

pub(super) fn parse(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    record.time = Some(at.iso_time(clock)?);
    at.eat(b" ")?;
    let stream = at.until(b' ')?;
    if !matches!(stream.of(line), b"stdout" | b"stderr") {
        return None;
    }
    record.text(Known::Stream, stream);
    // Tags are separated by colons; the first says whether the line goes on in the next one.
    let tags = at.until(b' ')?;
    match tags.of(line).first()? {
        b'P' => record.fields.push((Key::Known(Known::SplitByRuntime), Value::True)),
        b'F' => {}
        _ => return None,
    }
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}
