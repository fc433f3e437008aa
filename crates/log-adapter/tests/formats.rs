//! Lines of every format, as each schema writes them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::rc::Rc;

use outrigger_api::logs::{LogFormat, LogSchema};
use outrigger_logs::Generation;
use outrigger_logs::convert::{Converter, Raw};
use outrigger_logs::formats::{Parser, detect};
use outrigger_logs::output::{MAX_LINE, Origin, Writer};
use outrigger_logs::time::{Clock, Timestamp};
use serde_json::Value;

/// 2026-11-21T12:00:00Z.
const NOW: i64 = 1_795_262_400;
const CLOCK: Clock = Clock { utc_offset: 0, now: NOW };
const PATTERN: &str = r"(?s)^(?P<time>\S+) (?P<level>\w+) (?:user=(?P<user>\w+) )?(?P<message>.*)$";

fn converter(format: LogFormat, schema: LogSchema) -> Converter {
    let origin = Origin { pod: "web-1", namespace: "shop", container: "app", path: "/var/log/app.log" };
    let parser = Parser::new(format, Some(PATTERN)).unwrap().map(Rc::new);
    Converter::new(parser, Writer::new(schema, &origin))
}

fn lines(format: LogFormat, schema: LogSchema, event: &[u8]) -> Vec<u8> {
    let mut converter = converter(format, schema);
    if converter.is_undecided() {
        converter.decide(event, CLOCK);
    }
    let mut out = Vec::new();
    let raw = Raw { bytes: event, generation: Generation(7), offset: 4711, truncated: false, partial: false };
    converter.convert(&mut out, raw, CLOCK, Timestamp { seconds: NOW, nanos: 0, digits: 0 });
    out
}

fn golden(format: LogFormat, schema: LogSchema, events: &[&str]) -> String {
    events.iter().map(|event| String::from_utf8(lines(format, schema, event.as_bytes())).unwrap()).collect()
}

#[test]
fn json() {
    insta::assert_snapshot!(golden(
        LogFormat::Json,
        LogSchema::Flat,
        &[
            r#"{"level":"WARN","ts":"2026-11-21T11:59:58.123+01:00","msg":"slow \"query\" é","ms":1.50e3,"tags":["a",{"b":null}],"ok":true}"#,
            r#"{"time":1795262400123,"level":30,"pid":1,"msg":"pino","trace_id":"4bf92f3577b34da6","span_id":"00f067aa0ba902b7"}"#,
            r#"{"time":"whenever","level":"loud","message":{"nested":1},"log.offset":1,"container":"mine"}"#,
            r"{}",
            r#"{"a":1"#,
            r#"{"a":01}"#,
            r#"{"a":1} trailing"#,
            r#"{"msg":"\ud83d\ude00"}"#,
            r#"{"msg":"half of it: \ud83d"}"#,
            // Of several lines, as a `start` makes them: one line all the same.
            "{\"msg\":\"a\",\n\"l\":[1,\n{\"x\":\r\n2}]}",
        ]
    ));
}

#[test]
fn logfmt() {
    insta::assert_snapshot!(golden(
        LogFormat::Logfmt,
        LogSchema::Flat,
        &[
            r#"ts=2026-11-21T12:00:00Z level=info msg="served \"x\"\tin" path=/a?b=c took=1ms empty= cached"#,
            "a plain sentence",
            r#"msg="no end"#,
        ]
    ));
}

#[test]
fn access() {
    insta::assert_snapshot!(golden(
        LogFormat::Combined,
        LogSchema::Flat,
        &[
            r#"10.0.0.1 - - [21/Nov/2026:13:00:00 +0100] "GET /a?b=%20 HTTP/1.1" 200 1234 "-" "curl/8.0 \"x\"""#,
            r#"fd00::1 - jane doe [21/Nov/2026:12:00:00 +0000] "POST / HTTP/2.0" 503 - "http://x/" "Mozilla/5.0 (X11)" "10.9.8.7" 0.003"#,
            r#"10.0.0.1 - - [21/Nov/2026:12:00:00 +0000] "\x16\x03\x01" 400 0"#,
            r#"10.0.0.1 - - [21/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" abc 0"#,
            "2026/11/21 12:00:00 [error] 31#31: *1 open() \"/x\" failed (2: No such file or directory), client: 10.0.0.1",
        ]
    ));
}

#[test]
fn kubernetes() {
    insta::assert_snapshot!(golden(
        LogFormat::Klog,
        LogSchema::Flat,
        &[
            "E1121 11:59:59.123456       1 main.go:7] \"Failed\" err=\"x\"",
            "I1224 00:00:00.000000 17 a.go:1] last year's",
            "Information about nothing",
        ]
    ));
    insta::assert_snapshot!(
        "cri",
        golden(
            LogFormat::Cri,
            LogSchema::Flat,
            &[
                "2026-11-21T12:00:00.123456789Z stderr F whole",
                "2026-11-21T12:00:00.123456789Z stdout P half",
                "2026-11-21T12:00:00.123456789Z stdin F none",
            ]
        )
    );
}

#[test]
fn syslog() {
    insta::assert_snapshot!(golden(
        LogFormat::Syslog,
        LogSchema::Flat,
        &[
            "<165>1 2026-11-21T12:00:00.003Z host app 8710 ID47 [id@1 a=\"b]\\\"\" c=\"d\"][x] \u{feff}text",
            "<34>1 - - - - - -",
            "<11>Nov 21 11:00:00 host sshd[7]: closed",
            "Nov  1 11:00:00 host kernel: [ 1.0] up",
            "2026-11-21T12:00:00+01:00 host cron[9]: ran",
            "<999>Nov 21 11:00:00 host a: b",
        ]
    ));
}

#[test]
fn jvm() {
    insta::assert_snapshot!(golden(
        LogFormat::Log4j,
        LogSchema::Flat,
        &[
            "2026-11-21 12:00:00,123 [main] INFO  c.e.App - started - in 3 s",
            "11:00:00.123 [http-nio-8080-exec-1] ERROR c.e.App - failed\njava.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)",
            "2026-11-21T12:00:00.123Z  WARN 1 --- [shop] [           main] c.e.App                 : slow",
            "2026-11-21 12:00:00 DEBUG [main] c.e.App:15 - here",
            "2026-11-21 12:00:00 no level here",
        ]
    ));
}

#[test]
fn python() {
    insta::assert_snapshot!(golden(
        LogFormat::Python,
        LogSchema::Flat,
        &[
            "WARNING:root:look out",
            "2026-11-21 12:00:00,123 - my.module - ERROR - failed\nTraceback (most recent call last):\n  File \"a\"\nValueError: x",
            "2026-11-21 12:00:00,123 INFO my.module: started",
            "2026-11-21 12:00:00,123 INFO started: now",
            "[2026-11-21 12:00:00 +0000] [7] [INFO] Booting worker",
            "[2026-11-21 12:00:00,123: CRITICAL/MainProcess] celery",
            "a plain sentence",
        ]
    ));
}

#[test]
fn regex_with_named_groups() {
    insta::assert_snapshot!(golden(
        LogFormat::Regex,
        LogSchema::Flat,
        &["2026-11-21T12:00:00Z WARN user=jane text\nmore", "2026-11-21T12:00:00Z loud text", "nothing",]
    ));
}

#[test]
fn schemas_name_the_same_things_their_own_way() {
    let access = r#"10.0.0.1 - - [21/Nov/2026:12:00:00.5 +0000] "GET / HTTP/1.1" 500 9 "-" "curl""#;
    let json = r#"{"level":"error","msg":"x","trace_id":"4bf9","Attributes":1,"log.offset":2}"#;
    for (name, schema) in [("ecs", LogSchema::Ecs), ("otel", LogSchema::Otel)] {
        let mut text = golden(LogFormat::Nginx, schema, &[access]);
        text += &golden(LogFormat::Json, schema, &[json, "plain"]);
        insta::assert_snapshot!(name, text);
    }
}

/// They came out twice, and readers took the app's for ours or refused the line.
#[test]
fn no_name_comes_twice_however_the_line_writes_it() {
    let line = r#"{"time":"soon","_time":1,"__time":2,"t\u0069me":3,"l\u006fg.offset":4,"\u005flog.offset":5,"_id":6}"#;
    let out = String::from_utf8(lines(LogFormat::Json, LogSchema::Flat, line.as_bytes())).unwrap();
    let fields: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&fields["time"], &fields["log.offset"]), (&"2026-11-21T12:00:00Z".into(), &4711.into()));
    assert_eq!((&fields["__time"], &fields["___time"], &fields["_id"]), (&1.into(), &2.into(), &6.into()));
    assert_eq!((&fields["_log.offset"], &fields["__log.offset"]), (&4.into(), &5.into()));
    // "time" and "t\u0069me" are one name twice in the line already.
    assert_eq!(fields["_time"], 3);
    let line = br"l\u006fg.offset=1 _level=x";
    let fields: Value = serde_json::from_slice(&lines(LogFormat::Logfmt, LogSchema::Flat, line)).unwrap();
    assert_eq!((&fields[r"l\u006fg.offset"], &fields["__level"]), (&"1".into(), &"x".into()));
}

/// ECS' nested `log` became the message, and a `message` of null hid `msg`.
#[test]
fn message_is_what_reads_as_one() {
    for (line, message, field) in [
        (r#"{"log":{"level":"info"},"message":"a"}"#, "a", ("log", r#"{"level":"info"}"#)),
        (r#"{"log":{"level":"info"},"msg":"a"}"#, "a", ("log", r#"{"level":"info"}"#)),
        (r#"{"message":null,"msg":"b"}"#, "b", ("_message", "null")),
        (r#"{"message":["x"],"msg":"b"}"#, "b", ("_message", r#"["x"]"#)),
        (r#"{"log":"c","message":"d"}"#, "d", ("log", r#""c""#)),
        (r#"{"log":"c","stream":"stdout"}"#, "c", ("stream", r#""stdout""#)),
    ] {
        let out = lines(LogFormat::Json, LogSchema::Flat, line.as_bytes());
        let out: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&out["message"], out[field.0].to_string()),
            (&message.into(), field.1.to_owned()),
            "{line}"
        );
    }
}

/// The line was told as a parse error.
#[test]
fn byte_order_mark_at_the_start_of_a_file_is_skipped() {
    let bytes = b"\xef\xbb\xbf{\"msg\":\"a\"}";
    for format in [LogFormat::Json, LogFormat::Auto] {
        let mut converter = converter(format, LogSchema::Flat);
        converter.decide(bytes, CLOCK);
        let raw = Raw { bytes, generation: Generation(7), offset: 0, truncated: false, partial: false };
        let mut out = Vec::new();
        let observed = Timestamp { seconds: NOW, nanos: 0, digits: 0 };
        assert!(!converter.convert(&mut out, raw, CLOCK, observed).parse_error);
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["message"], "a");
    }
}

#[test]
fn groups_called_as_traces_are_traces() {
    let pattern = r"^(?P<trace_id>\w+)/(?P<span_id>\w+) (?P<message>.*)$";
    let parser = Parser::new(LogFormat::Regex, Some(pattern)).unwrap().map(Rc::new);
    let mut converter = Converter::new(parser, Writer::new(LogSchema::Otel, &Origin::default()));
    let bytes = b"4bf9/00f0 text";
    let raw = Raw { bytes, generation: Generation(7), offset: 0, truncated: false, partial: false };
    let mut out = Vec::new();
    converter.convert(&mut out, raw, CLOCK, Timestamp::default());
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&out["TraceId"], &out["SpanId"], &out["Body"]),
        (&"4bf9".into(), &"00f0".into(), &"text".into())
    );
}

#[test]
fn invalid_utf8_is_kept_and_marked() {
    let out = lines(LogFormat::Json, LogSchema::Flat, b"{\"msg\":\"caf\xe9\"}");
    let line: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(line["message"], r#"{"msg":"caf\xe9"}"#);
    assert_eq!((&line["invalid_utf8"], &line["parse_error"]), (&Value::Bool(true), &Value::Bool(true)));
}

#[test]
fn no_line_is_longer_than_a_runtime_takes_whole() {
    let text = "é\u{1}\"x".repeat(12_000);
    let event = format!(r#"{{"level":"error","msg":{}}}"#, serde_json::to_string(&text).unwrap());
    for schema in [LogSchema::Flat, LogSchema::Ecs, LogSchema::Otel] {
        let out = String::from_utf8(lines(LogFormat::Json, schema, event.as_bytes())).unwrap();
        let mut joined = String::new();
        let parts: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(parts.len() > 2);
        for (index, part) in parts.iter().enumerate() {
            let (message, fields) = match schema {
                LogSchema::Otel => (&part["Body"], &part["Attributes"]),
                _ => (&part["message"], part),
            };
            joined += message.as_str().unwrap();
            assert_eq!((&fields["part"], &fields["log.offset"]), (&(index + 1).into(), &4711.into()));
            assert_eq!(fields["last_part"] == true, index + 1 == parts.len());
        }
        assert_eq!(joined, event);
        assert!(out.split_inclusive('\n').all(|line| line.len() <= MAX_LINE));
    }
}

/// A path of 4 KiB of control characters left no room for the text.
#[test]
fn no_path_makes_a_line_longer_than_a_runtime_takes_whole() {
    let text = "x".repeat(40_000);
    for path in ["/a".repeat(2000), "\u{1}".repeat(2000), format!("/{}", "\u{1}\"é".repeat(1300))] {
        for schema in [LogSchema::Flat, LogSchema::Ecs, LogSchema::Otel] {
            let origin = Origin { pod: "web-1", namespace: "shop", container: "app", path: &path };
            let mut converter = Converter::new(Some(Rc::new(Parser::Text)), Writer::new(schema, &origin));
            for event in ["", "short", &text] {
                let bytes = event.as_bytes();
                let raw =
                    Raw { bytes, generation: Generation(7), offset: 0, truncated: false, partial: false };
                let mut out = Vec::new();
                converter.convert(&mut out, raw, CLOCK, Timestamp::default());
                let out = String::from_utf8(out).unwrap();
                assert!(!out.is_empty() && out.split_inclusive('\n').all(|line| line.len() <= MAX_LINE));
                let messages = out.lines().map(|line| {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let message = if schema == LogSchema::Otel { &line["Body"] } else { &line["message"] };
                    message.as_str().unwrap().to_owned()
                });
                assert_eq!(messages.collect::<String>(), event);
            }
        }
    }
}

#[test]
fn auto_finds_each_format() {
    let samples: [(&str, &[&str]); 9] = [
        ("json", &[r#"{"a":1}"#, "banner", r#"{"b":2}"#]),
        ("logfmt", &["level=info msg=x", "level=warn msg=y"]),
        ("nginx", &[r#"10.0.0.1 - - [21/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 9"#]),
        ("klog", &["I1121 11:59:59.123456       1 main.go:7] x"]),
        ("cri", &["2026-11-21T12:00:00.1Z stderr F whole"]),
        ("syslog", &["Nov  1 11:00:00 host kernel: up"]),
        ("log4j", &["2026-11-21 12:00:00,123 [main] INFO  c.e.App - x", "java.lang.Exception: y"]),
        ("python", &["2026-11-21 12:00:00,123 - root - INFO - x"]),
        ("", &["a plain sentence", "and another"]),
    ];
    for (wanted, lines) in samples {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(detect(&lines, CLOCK).map_or("", |parser| parser.name()), wanted);
    }
}

#[test]
fn auto_changes_its_mind_when_a_file_changes() {
    let mut converter = converter(LogFormat::Auto, LogSchema::Flat);
    let clock = Timestamp { seconds: NOW, nanos: 0, digits: 0 };
    let mut convert = |bytes: &[u8]| {
        if converter.is_undecided() {
            converter.decide(bytes, CLOCK);
        }
        let mut out = Vec::new();
        let raw = Raw { bytes, generation: Generation(7), offset: 0, truncated: false, partial: false };
        converter.convert(&mut out, raw, CLOCK, clock).parse_error
    };
    assert!(!convert(b"starting up"));
    let misread = (0..200).filter(|_| convert(br#"{"a":1}"#)).count();
    assert_eq!(misread, 0, "plain text is no error");
    let misread = (0..200).filter(|_| convert(b"level=info msg=x")).count();
    assert!((1..100).contains(&misread), "{misread}");
}
