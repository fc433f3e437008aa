//! Strange lines by the million: whatever a line holds, it comes out as JSON, and says where it stood.
//!
//! A short run with each test run; a long one by `make fuzz-logs`. Where a line fails, its seed is printed:
//! `OUTRIGGER_FUZZ_SEED` runs that one alone. With a generator of its own and not proptest, which takes many times as long.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

use std::rc::Rc;

use outrigger_api::logs::{LogFormat, LogSchema};
use outrigger_logs::Generation;
use outrigger_logs::convert::{Converter, Raw};
use outrigger_logs::formats::Parser;
use outrigger_logs::output::{MAX_LINE, Origin, Writer};
use outrigger_logs::time::{Clock, Timestamp};
use serde_json::Value;

/// How many are tried with each test run.
const SHORT: u64 = 30_000;
const NOW: i64 = 1_795_262_400;
const PATTERN: &str = r"(?s)^(?P<time>\S+) (?P<level>\w+) (?:user=(?P<user>\w+) )?(?P<message>.*)$";
const SCHEMAS: [LogSchema; 3] = [LogSchema::Flat, LogSchema::Ecs, LogSchema::Otel];

/// A line of each format, to be changed a little.
const LINES: [(LogFormat, &str); 14] = [
    (
        LogFormat::Json,
        r#"{"ts":"2026-11-21T12:00:00.1Z","level":"warn","msg":"a \"b\" \u00e9","n":-1.5e3,"l":[1,{"x":null}],"trace_id":"4bf9"}"#,
    ),
    (
        LogFormat::Logfmt,
        r#"ts=2026-11-21T12:00:00Z level=info msg="served \"x\"\tin" path=/a?b=c empty= cached"#,
    ),
    (
        LogFormat::Combined,
        r#"fd00::1 - jane doe [21/Nov/2026:12:00:00 +0000] "POST /\x16 HTTP/2.0" 503 - "http://x/" "curl \"x\"" 0.003"#,
    ),
    (
        LogFormat::Nginx,
        "2026/11/21 12:00:00 [error] 31#31: *1 open() failed (2: No such file), client: 10.0.0.1",
    ),
    (LogFormat::Klog, "E1121 11:59:59.123456       1 main.go:7] \"Failed\" err=\"x\""),
    (LogFormat::Cri, "2026-11-21T12:00:00.123456789Z stdout P half"),
    (
        LogFormat::Syslog,
        "<165>1 2026-11-21T12:00:00.003Z host app 8710 ID47 [id@1 a=\"b]\\\"\" c=\"d\"][x] \u{feff}text",
    ),
    (LogFormat::Syslog, "<11>Nov  1 11:00:00 host sshd[7]: closed"),
    (
        LogFormat::Log4j,
        "2026-11-21 12:00:00,123 [main] INFO  c.e.App - failed\njava.lang.X: y\n\tat a.B.c(B.java:1)",
    ),
    (LogFormat::Logback, "2026-11-21T12:00:00.123Z  WARN 1 --- [shop] [  main] c.e.App  : slow"),
    (LogFormat::Python, "[2026-11-21 12:00:00,123: CRITICAL/MainProcess] celery"),
    (LogFormat::Python, "2026-11-21 12:00:00,123 - my.module - ERROR - failed"),
    (LogFormat::Regex, "2026-11-21T12:00:00Z WARN user=jane text\nmore"),
    (LogFormat::Auto, "1795262400.25"),
];

/// What gets past the first checks of a parser.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ":",
    ",",
    " ",
    "=",
    "-",
    "<34>",
    "1 ",
    "\n",
    "\t",
    "\r",
    "\0",
    "é",
    "null",
    "true",
    "1.5e3",
    "\"a\":",
    "\"level\":",
    "level=",
    "INFO",
    "E1121 ",
    "2026-11-21T12:00:00.123Z",
    "12:00:00",
    "Nov 21 ",
    "[21/Nov/2026:12:00:00 +0000] ",
    "\"GET / HTTP/1.1\" ",
    "200 ",
    "stdout F ",
    " --- ",
    " - ",
    "\\u00e9",
    "\\ud83d",
    "\\x",
    "99999999999999999999",
    "9999-12-31T23:59:60-23:59",
];

#[test]
fn whatever_a_line_holds_it_comes_out_as_json() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("OUTRIGGER_FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OUTRIGGER_FUZZ").unwrap_or(SHORT),
    };
    let count = seeds.end - seeds.start;
    let pattern = Rc::new(Parser::new(LogFormat::Regex, Some(PATTERN)).unwrap().unwrap());
    let mut parsed = 0;
    for seed in seeds {
        let told = TellSeed(seed);
        parsed += u64::from(try_one(&mut Dice(seed), &pattern));
        std::mem::forget(told);
    }
    println!("{count} lines, {parsed} of them of their format");
    // The generator must reach what it is meant to test, and what it is meant to break.
    assert!(count < 100 || (count / 5..count * 4 / 5).contains(&parsed), "{parsed} of {count}");
}

/// Dropped only where a test panics.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        eprintln!("seed {}", self.0);
    }
}

/// Whether the line was of its format.
fn try_one(dice: &mut Dice, pattern: &Rc<Parser>) -> bool {
    let (format, line) = LINES[dice.below(LINES.len())];
    let event = changed(line.as_bytes().to_vec(), dice);
    // Compiled once: that takes longer than all else.
    let parser = match format {
        LogFormat::Regex => Some(Rc::clone(pattern)),
        other => Parser::new(other, None).unwrap().map(Rc::new),
    };
    let schema = SCHEMAS[dice.below(SCHEMAS.len())];
    // A file's name may be long, and what it is made of six times as long in JSON.
    let strange = if dice.once_in(20) { dice.below(4096) } else { 0 };
    let path = format!("/var/log/{}app.log", PIECES[dice.below(PIECES.len())].repeat(strange));
    let origin = Origin { pod: "web-1", namespace: "shop", container: "app", path: &path };
    let mut converter = Converter::new(parser, Writer::new(schema, &origin));
    let clock = Clock { utc_offset: 3600, now: NOW };
    if converter.is_undecided() {
        converter.decide(&event, clock);
    }
    let raw = Raw {
        bytes: &event,
        generation: Generation(7),
        offset: 4711,
        truncated: dice.once_in(50),
        partial: dice.once_in(50),
    };
    let mut out = Vec::new();
    let marks = converter.convert(&mut out, raw, clock, Timestamp { seconds: NOW, nanos: 0, digits: 0 });
    let message = message_of(&out, schema);
    if let (true, Some(message), Ok(text)) = (marks.parse_error, message, str::from_utf8(&event)) {
        assert_eq!(message, text, "what is of no format is there as it was");
    }
    !marks.parse_error
}

/// The text of all parts, each of which is checked; nothing where a number is beyond what `serde_json` can hold. Such a number is
/// JSON all the same (RFC 8259 section 6 leaves the range to the reader), and passed on as the app wrote it.
fn message_of(out: &[u8], schema: LogSchema) -> Option<String> {
    assert_eq!(out.last(), Some(&b'\n'));
    let mut message = String::new();
    for line in out.split_inclusive(|byte| *byte == b'\n') {
        assert!(line.len() <= MAX_LINE);
        let line: Value = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) if error.to_string().starts_with("number out of range") => return None,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(line)),
        };
        let otel = schema == LogSchema::Otel;
        let (text, fields) =
            if otel { (&line["Body"], &line["Attributes"]) } else { (&line["message"], &line) };
        assert_eq!(fields["log.offset"], 4711);
        message += text.as_str().unwrap_or_default();
    }
    Some(message)
}

/// Some pieces put in, some bytes taken out, doubled or changed; once in a while very long.
fn changed(mut line: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..dice.below(5) {
        let (one, other) = (dice.below(line.len() + 1), dice.below(line.len() + 1));
        let range = one.min(other)..one.max(other);
        match dice.below(6) {
            0 => line.truncate(one),
            1 => drop(line.drain(range)),
            2 => {
                let byte = dice.below(256).try_into().unwrap();
                line.insert(one, byte);
            }
            3 => {
                let again = line[range].to_vec();
                line.splice(one..one, again);
            }
            _ => {
                let piece = PIECES[dice.below(PIECES.len())].bytes();
                let times = if dice.once_in(500) { 3000 } else { 1 };
                line.splice(one..one, piece.collect::<Vec<_>>().repeat(times));
            }
        }
    }
    line
}

/// Numbers that are the same for a seed: `SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
