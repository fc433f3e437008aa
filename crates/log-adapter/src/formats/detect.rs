//! `auto`: which format the first lines of a file are in.

use super::Parser;
use crate::record::Record;
use crate::time::Clock;

/// The format that most of these lines are in; none where no format has at least half of them, for stack traces and banners
/// may well make up the rest.
pub fn detect(lines: &[&[u8]], clock: Clock) -> Option<Parser> {
    // From the strictest to the loosest: a line of one is seldom a line of those before it.
    let candidates = [
        Parser::Json,
        Parser::Cri,
        Parser::Klog,
        Parser::Access,
        Parser::Syslog,
        Parser::Jvm,
        Parser::Python,
        Parser::Logfmt,
    ];
    let mut record = Record::default();
    let mut best = (None, 0);
    for parser in candidates {
        let fits = |line: &&&[u8]| {
            record.clear();
            parser.parse(line, clock, &mut record)
        };
        let count = lines.iter().filter(fits).count();
        // Only more is better: of two that fit alike, the stricter one is right.
        if count * 2 >= lines.len() && count > best.1 {
            best = (Some(parser), count);
        }
    }
    best.0
}
