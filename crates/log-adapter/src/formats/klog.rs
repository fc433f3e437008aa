//! klog and glog: `Lmmdd hh:mm:ss.uuuuuu threadid file:line] msg`.
//!
//! <https://github.com/kubernetes/klog>

use crate::cursor::Cursor;
use crate::level::Level;
use crate::record::{Known, Record, Value};
use crate::time::Clock;

pub(super) fn parse(line: &[u8], clock: Clock, record: &mut Record) -> Option<()> {
    let mut at = Cursor::new(line);
    record.level = Some(match at.peek()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    });
    at.at += 1;
    record.time = Some(at.klog_time(clock)?);
    at.spaces();
    let thread = at.digits()?;
    record.text(Known::Thread, thread);
    at.eat(b" ")?;
    record.text(Known::Origin, at.until(b']')?);
    at.eat(b" ")?;
    record.message = Some(Value::Text(at.to_end()));
    Some(())
}
