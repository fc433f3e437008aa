//! The process: its memory, its admin server, its config.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../runtime/tests/support/asked_for.rs"]
mod asked_for;
mod support;

use serde_json::json;
use support::Room;

#[test]
fn reader_that_does_not_read_costs_no_memory_and_no_line() {
    let room = Room::new("blocked");
    let line = "x".repeat(106);
    room.append("a.log", format!("{line}\n").repeat(200_000));
    let mut adapter = room.start_unread();
    let mut lag = u64::MAX;
    support::wait_until("the pipe is full", || {
        let before = std::mem::replace(&mut lag, adapter.metric("outrigger_log_lag_bytes"));
        lag > 0 && lag == before
    });
    room.append("a.log", "200000\n".repeat(100_000));
    support::wait_until("the lag has grown", || adapter.metric("outrigger_log_lag_bytes") >= lag + 700_000);
    assert!(adapter.get("/live", "").contains("200 OK"));
    // A debug build with what it links; 20 MB of lines wait in the file.
    assert!(adapter.status("VmHWM") < 24 * 1024, "{} KiB", adapter.status("VmHWM"));
    adapter.read();
    support::wait_until("all is written", || adapter.metric("outrigger_log_lag_bytes") == 0);
    assert_eq!(adapter.end("TERM").len(), 300_000);
}

/// What of a batch was not written out is written again, from its first line on.
#[test]
fn output_that_breaks_loses_no_line() {
    let room = Room::new("broken");
    room.append("a.log", format!("first\nsecond\n{}", "x".repeat(70_000)));
    let mut adapter = room.start_unread();
    drop(adapter.stdout.take());
    assert!(!adapter.child.wait().unwrap().success());
    room.append("a.log", "x\nlast\n");
    let adapter = room.start();
    support::wait_until("the last line is there", || {
        adapter.messages().last().is_some_and(|last| last == "last")
    });
    assert_eq!(adapter.messages()[..2], ["first", "second"]);
}

/// Each descriptor was a file's, and none was left for the checkpoint.
#[test]
fn more_files_than_may_be_open_come_once_all_the_same() {
    let room = Room::new("many");
    for number in 0..60 {
        room.append(&format!("{number}.log"), format!("{number}\n"));
    }
    let start = || {
        let mut limited = std::process::Command::new("prlimit");
        let command = room.command(0);
        limited.arg("--nofile=100:100").arg(command.get_program()).args(command.get_args());
        limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let checkpoint = room.root.join("checkpoint.json");
    let known =
        || std::fs::read_to_string(&checkpoint).is_ok_and(|text| text.matches("\"offset\":").count() >= 36);
    let mut lines = Vec::new();
    for _ in 0..2 {
        let adapter = start();
        support::wait_until("the checkpoint is written", known);
        let pid = adapter.id().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
        let output = adapter.wait_with_output();
        lines.extend(String::from_utf8(output.unwrap().stdout).unwrap().lines().map(support::message));
    }
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert!(lines.len() == all && all >= 36, "{all} lines, {} of them different", lines.len());
}

#[test]
fn stats_are_for_those_who_have_the_token() {
    let room = Room::new("stats");
    room.append("a.log", "one\n");
    let adapter = room.start();
    adapter.wait_for(&["one"]);
    assert!(adapter.get("/stats", "").starts_with("HTTP/1.1 401"));
    support::wait_until("it is counted", || adapter.metric("outrigger_log_read_bytes_total") == 4);
    let stats = adapter.get("/stats", "Authorization: Bearer t\r\n");
    let body: serde_json::Value = serde_json::from_str(stats.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["logs"][0]["lines"], 1);
    assert_eq!(body["logs"][0]["readBytes"], 4);
    assert!(adapter.get("/ready", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn told_to_stop_it_writes_the_rest_and_ends() {
    let room = Room::new("shutdown");
    room.append("a.log", "one\nhalf");
    let mut adapter = room.start();
    adapter.wait_for(&["one"]);
    assert!(adapter.post("/shutdown").starts_with("HTTP/1.1 200"));
    assert!(adapter.child.wait().unwrap().success());
    adapter.wait_for(&["one", "half"]);
}

#[test]
fn changed_config_is_taken_and_a_bad_one_is_not() {
    let room = Room::new("reload");
    room.append("a.log", "level=info msg=one\n");
    let adapter = room.start();
    adapter.wait_for(&["level=info msg=one"]);
    std::fs::write(room.root.join("config.json"), "{").unwrap();
    support::wait_until("it is refused", || adapter.metric("outrigger_config_last_reload_success") == 0);
    room.configure(&json!({"format": "regex", "pattern": "(", "files": ["*.log"]}));
    support::wait_until("it is refused too", || room.stderr().contains("failed to compile pattern"));
    room.append("a.log", "level=info msg=two\n");
    adapter.wait_for(&["level=info msg=one", "level=info msg=two"]);
    room.configure(&json!({"format": "logfmt", "files": ["*.log"]}));
    support::wait_until("it is taken", || room.stderr().contains("config changed"));
    room.append("a.log", "level=info msg=three\n");
    adapter.wait_for(&["level=info msg=one", "level=info msg=two", "three"]);
    assert_eq!(adapter.metric("outrigger_config_last_reload_success"), 1);
}

#[test]
fn source_that_can_not_work_is_named() {
    let room = Room::new("bad");
    room.configure(&json!({"format": "regex", "pattern": "("}));
    let output = room.command(0).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(
        message.contains("failed to compile pattern of the logs in /var/log/app of container app"),
        "{message}"
    );
}

#[test]
fn broken_checkpoint_is_said_and_everything_is_read() {
    let room = Room::new("checkpoint");
    std::fs::write(room.root.join("checkpoint.json"), "{").unwrap();
    room.append("a.log", "one\n");
    let adapter = room.start();
    adapter.wait_for(&["one"]);
    assert!(room.stderr().contains("failed to parse checkpoint"), "{}", room.stderr());
}

/// What was decided is said again only when it is another: lines of no format once filled a disk with this.
#[test]
fn format_of_its_own_choice_is_said_once() {
    let room = Room::new("auto");
    room.configure(&json!({"format": "auto", "files": ["*.log"]}));
    room.append("a.log", "what a sentence\n".repeat(10_000));
    let adapter = room.start();
    support::wait_until("all is written", || adapter.metric("outrigger_log_lines_total") == 10_000);
    room.append("a.log", "{\"message\":\"x\"}\n".repeat(10_000));
    support::wait_until("all is written", || adapter.metric("outrigger_log_lines_total") == 20_000);
    assert_eq!(room.stderr().matches("format decided").count(), 2, "{}", room.stderr());
    assert_eq!(adapter.messages().last().unwrap(), "x");
}

#[test]
fn rules_and_dashboards_ask_for_metrics_that_there_are() {
    let room = Room::new("asked-for");
    let adapter = room.start();
    let ours = |name: &str| name.starts_with("outrigger_log_");
    support::wait_until("it answers", || std::net::TcpStream::connect(("127.0.0.1", adapter.admin)).is_ok());
    asked_for::assert_exported(&adapter.get("/metrics", ""), ours);
}
