//! Files that are written, rotated, cut and deleted while the adapter follows them, and while it does not.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};

use serde_json::json;
use support::{Adapter, Room, message};

#[test]
fn what_is_there_and_what_comes_is_written_once() {
    let room = Room::new("basic");
    room.append("a.log", "one\n");
    let adapter = room.start();
    adapter.wait_for(&["one"]);
    room.append("a.log", "two\nthr");
    adapter.wait_for(&["one", "two"]);
    room.append("a.log", "ee\n");
    adapter.wait_for(&["one", "two", "three"]);
    let lines = adapter.lines();
    assert_eq!(lines[2]["log.offset"], 8);
    assert_eq!(lines[2]["log.file.path"], "/var/log/app/a.log");
    assert_eq!((&lines[2]["pod"], &lines[2]["container"]), (&json!("web-1"), &json!("app")));
    assert_eq!(adapter.metric("outrigger_log_lines_total"), 3);
    assert_eq!(adapter.metric("outrigger_log_lag_bytes"), 0);
}

#[test]
fn new_files_are_found_however_deep_and_through_links() {
    let room = Room::new("new");
    let adapter = room.start();
    room.append("a.log", "a\n");
    adapter.wait_for(&["a"]);
    fs::create_dir_all(room.log("x/y")).unwrap();
    room.append("x/y/b.log", "b\n");
    adapter.wait_for(&["a", "b"]);
    fs::write(room.root.join("secret"), "not ours to print\n").unwrap();
    symlink(room.root.join("secret"), room.log("secret.log")).unwrap();
    fs::write(room.log("c-20261121"), "c\n").unwrap();
    symlink("c-20261121", room.log("c.log")).unwrap();
    adapter.wait_for(&["a", "b", "c"]);
    room.append("d.txt", "not asked for\n");
    room.append("e.log.gz", "compressed\n");
    room.append("e.log", "e\n");
    adapter.wait_for(&["a", "b", "c", "e"]);
}

#[test]
fn files_with_the_same_first_line_are_two_files() {
    let room = Room::new("same");
    room.append("a.log", "header\na\n");
    room.append("b.log", "header\nb\n");
    let adapter = room.start();
    support::wait_until("all are there", || adapter.messages().len() == 4);
}

#[test]
fn renamed_file_is_read_to_its_end_beside_the_new_one() {
    let room = Room::new("rename");
    room.append("a.log", "one\n");
    let adapter = room.start();
    adapter.wait_for(&["one"]);
    room.rename("a.log", "a.log.1");
    room.append("a.log.1", "two\n");
    adapter.wait_for(&["one", "two"]);
    room.append("a.log", "three\n");
    room.append("a.log.1", "four\n");
    support::wait_until("all are there", || adapter.messages().len() == 4);
    assert_eq!(adapter.metric("outrigger_log_rotations_total"), 1);
}

/// A glob that means rotated files too must not make them come twice.
#[test]
fn rotated_names_in_the_pattern_change_nothing() {
    for rotate in [Room::rename, Room::copy_truncate] {
        let room = Room::new("pattern");
        room.configure(&json!({"files": ["a.log*"]}));
        room.append("a.log", "header\none\n");
        let adapter = room.start();
        adapter.wait_for(&["header", "one"]);
        rotate(&room, "a.log", "a.log.1");
        room.append("a.log", "header\ntwo\n");
        adapter.wait_for(&["header", "one", "header", "two"]);
        room.rename("a.log.1", "a.log.2");
        rotate(&room, "a.log", "a.log.1");
        room.append("a.log", "header\nthree\n");
        adapter.wait_for(&["header", "one", "header", "two", "header", "three"]);
        adapter.end("TERM");
        let adapter = room.start();
        room.append("a.log", "four\n");
        adapter.wait_for(&["four"]);
    }
}

/// The rotated file that is gone, too, looked for what had come after it, and took the copy for that: all of it came twice.
#[test]
fn copy_made_while_nobody_looked_is_known_for_what_it_is() {
    let room = Room::new("copy");
    room.append("a.log", "one\n");
    let adapter = room.start();
    adapter.wait_for(&["one"]);
    room.rename("a.log", "a.log.1");
    room.append("a.log", "two\n");
    adapter.wait_for(&["one", "two"]);
    adapter.end("TERM");
    fs::remove_file(room.log("a.log.1")).unwrap();
    room.append("a.log", "three\n");
    room.copy_truncate("a.log", "a.log.1");
    room.append("a.log", "four\n");
    room.start().wait_for(&["three", "four"]);
}

#[test]
fn truncated_file_starts_anew() {
    let room = Room::new("truncate");
    room.append("a.log", "header\none\n");
    let adapter = room.start();
    adapter.wait_for(&["header", "one"]);
    fs::write(room.log("a.log"), "header\nx\n").unwrap();
    adapter.wait_for(&["header", "one", "header", "x"]);
    // As long as it was, and longer.
    fs::write(room.log("a.log"), "header\ny\n").unwrap();
    adapter.wait_for(&["header", "one", "header", "x", "header", "y"]);
    fs::write(room.log("a.log"), "header\nlonger than it was\n").unwrap();
    adapter.wait_for(&["header", "one", "header", "x", "header", "y", "header", "longer than it was"]);
}

#[test]
fn deleted_and_made_again_is_another_file() {
    let room = Room::new("recreate");
    room.append("a.log", "one\n");
    let adapter = room.start();
    adapter.wait_for(&["one"]);
    for round in 0..5 {
        fs::remove_file(room.log("a.log")).unwrap();
        room.append("a.log", "one\n");
        support::wait_until("it is read", || adapter.messages().len() == round + 2);
    }
}

/// Fluent Bit and Vector both lose data here: the inode is that of a file that was read to offset 8.
#[test]
fn inode_used_again_while_nobody_looked_is_another_file() {
    let room = Room::new("inode");
    room.append("a.log", "one\ntwo\n");
    let adapter = room.start();
    adapter.wait_for(&["one", "two"]);
    adapter.end("TERM");
    // The same inode for sure: written over in place.
    fs::write(room.log("a.log"), "other\nlonger\n").unwrap();
    let adapter = room.start();
    adapter.wait_for(&["other", "longer"]);
}

fn stopped(adapter: &Adapter, work: impl FnOnce()) {
    adapter.signal("STOP");
    work();
    adapter.signal("CONT");
}

fn numbered(from: u32, to: u32) -> String {
    (from..to).flat_map(|number| [format!("line {number:06}"), "\n".to_owned()]).collect()
}

#[track_caller]
fn assert_complete(adapter: &Adapter, count: u32) {
    let count = count as usize;
    support::wait_until("all lines are there", || adapter.messages().len() >= count);
    let mut messages = adapter.messages();
    messages.sort();
    let wanted: Vec<_> = (0..count).map(|number| format!("line {number:06}")).collect();
    assert_eq!(messages, wanted);
}

#[test]
fn generations_that_nobody_saw_are_read_too() {
    for (name, rotate) in
        [("renamed", Room::rename as fn(&Room, &str, &str)), ("copied", Room::copy_truncate)]
    {
        let room = Room::new(name);
        room.append("a.log", numbered(0, 10));
        let adapter = room.start();
        support::wait_until("the first are there", || adapter.messages().len() == 10);
        stopped(&adapter, || {
            room.append("a.log", numbered(10, 20));
            rotate(&room, "a.log", "a.log.1");
            room.append("a.log", numbered(20, 200));
            room.rename("a.log.1", "a.log.2");
            rotate(&room, "a.log", "a.log.1");
            room.append("a.log", numbered(200, 300));
        });
        assert_complete(&adapter, 300);
    }
}

#[test]
fn generations_of_the_time_between_two_adapters_are_read_too() {
    for (name, rotate, unread) in [
        ("down-renamed", Room::rename as fn(&Room, &str, &str), true),
        ("down-copied", Room::copy_truncate, true),
        ("down-read", Room::rename, false),
        ("down-read-copied", Room::copy_truncate, false),
    ] {
        let room = Room::new(name);
        let (first, count) = if unread { (10, 290) } else { (20, 280) };
        room.append("a.log", numbered(0, 10));
        let adapter = room.start();
        support::wait_until("the first are there", || adapter.messages().len() == 10);
        adapter.end("TERM");
        if unread {
            room.append("a.log", numbered(10, 20));
        }
        rotate(&room, "a.log", "a.log.1");
        room.append("a.log", numbered(20, 200));
        room.rename("a.log.1", "a.log.2");
        rotate(&room, "a.log", "a.log.1");
        room.append("a.log", numbered(200, 300));
        let adapter = room.start();
        support::wait_until("the rest is there", || adapter.messages().len() == count);
        let mut messages = adapter.messages();
        messages.sort();
        assert_eq!(messages[0], format!("line {first:06}"));
        assert_eq!(messages[count - 1], "line 000299");
        assert!(!messages.windows(2).any(|pair| pair[0] == pair[1]));
        // And no line a second time, wherever it lies now.
        adapter.end("TERM");
        let adapter = room.start();
        room.append("a.log", "last\n");
        adapter.wait_for(&["last"]);
    }
}

#[test]
fn restart_goes_on_where_it_was() {
    let room = Room::new("restart");
    room.append("a.log", numbered(0, 100));
    let adapter = room.start();
    support::wait_until("the first are there", || adapter.messages().len() == 100);
    let first = adapter.end("TERM");
    assert_eq!(first.len(), 100);
    room.append("a.log", numbered(100, 200));
    let adapter = room.start();
    support::wait_until("the rest is there", || adapter.messages().len() == 100);
    assert_eq!(adapter.messages()[0], "line 000100");
}

#[test]
fn after_a_crash_doubled_lines_have_the_offset_that_they_had() {
    let room = Room::new("crash");
    room.append("a.log", numbered(0, 100_000));
    let adapter = room.start();
    support::wait_until("some are there", || adapter.messages().len() > 1000);
    let first = adapter.end("KILL");
    let second = room.start();
    let count = || second.messages().last().map(String::as_str) == Some("line 099999");
    support::wait_until("the rest is there", count);
    let second = second.end("TERM");
    let offset = |line: &String| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["log.offset"].as_u64().unwrap()
    };
    let mut all: Vec<_> = first.iter().chain(&second).map(|line| (offset(line), message(line))).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100_000, "without those of the same offset, each is there once");
    let doubled = first.len() + second.len() - all.len();
    assert!(doubled * 12 <= 2 << 20, "{doubled} lines came twice");
}

/// The rest of a chunk is zeros, and nothing will follow what is held back.
#[test]
fn last_event_of_a_file_that_was_made_longer_comes_too() {
    for (format, first, held) in [
        (
            "log4j",
            "2026-11-21 12:00:00,123 [main] INFO  c.e.App - one",
            "2026-11-21 12:00:01,123 [main] INFO  c.e.App - two",
        ),
        ("text", "one", "half"),
    ] {
        let room = Room::new("longer");
        room.configure(&json!({"format": format, "files": ["*.log"]}));
        let end = if format == "text" { "" } else { "\n" };
        let mut file = fs::File::create(room.log("a.log")).unwrap();
        file.write_all(format!("{first}\n{held}{end}").as_bytes()).unwrap();
        file.set_len(1 << 20).unwrap();
        let lines = room.start().end("TERM");
        assert_eq!(lines.len(), 2, "{format}: {lines:?}");
    }
}

/// What looks like the beginning of another file may be a copy of it. At the end nobody looks again.
#[test]
fn stop_writes_what_it_could_not_tell_yet() {
    let room = Room::new("young");
    room.append("app.log", "banner\nrest\n");
    let adapter = room.start();
    adapter.wait_for(&["banner", "rest"]);
    room.append("app-1.log", "banner\n");
    let lines = adapter.end("TERM");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn directory_that_is_too_deep_hides_no_other() {
    let room = Room::new("deep");
    // From the innermost on: no path may be as long as the whole.
    let inner = |number: u32| room.root.join(number.to_string());
    fs::create_dir(inner(0)).unwrap();
    for number in 0..20 {
        fs::create_dir(inner(number + 1)).unwrap();
        fs::rename(inner(number), inner(number + 1).join("d".repeat(250))).unwrap();
    }
    fs::rename(inner(20), room.log("deep")).unwrap();
    let adapter = room.start();
    room.append("a.log", "one\n");
    adapter.wait_for(&["one"]);
    assert!(adapter.metric("outrigger_log_unreadable_files") > 0);
}

#[test]
fn stop_writes_everything_first_half_a_line_too() {
    let room = Room::new("stop");
    room.append("a.log", numbered(0, 50_000));
    room.append("a.log", "half");
    let lines = room.start().end("TERM");
    assert_eq!(lines.len(), 50_001);
    let last: serde_json::Value = serde_json::from_str(&lines[50_000]).unwrap();
    assert_eq!((&last["message"], &last["partial"]), (&json!("half"), &json!(true)));
}

#[test]
fn hole_that_copytruncate_leaves_is_skipped() {
    let room = Room::new("hole");
    let mut writer = fs::File::create(room.log("a.log")).unwrap();
    writer.write_all(&vec![b'x'; 3 << 20]).unwrap();
    writer.write_all(b"\none\n").unwrap();
    let adapter = room.start();
    support::wait_until("it is read", || adapter.messages().last().is_some_and(|last| last == "one"));
    let before = adapter.messages().len();
    room.copy_truncate("a.log", "a.log.1");
    // Not opened for appending: it goes on at its old place.
    writer.write_all(b"two\n").unwrap();
    support::wait_until("the next is there", || adapter.messages().len() > before);
    assert_eq!(adapter.messages()[before..], ["two"]);
}

#[test]
fn file_that_was_made_longer_before_it_is_written_is_read_as_it_is_written() {
    let room = Room::new("ahead");
    let file = fs::File::create(room.log("a.log")).unwrap();
    file.set_len(1 << 20).unwrap();
    let adapter = room.start();
    file.write_at(b"one\n", 0).unwrap();
    adapter.wait_for(&["one"]);
    file.write_at(b"two\nth", 4).unwrap();
    adapter.wait_for(&["one", "two"]);
    file.write_at(b"ree\n", 10).unwrap();
    adapter.wait_for(&["one", "two", "three"]);
}

#[test]
fn stack_trace_is_one_event() {
    let room = Room::new("trace");
    room.configure(&json!({"format": "log4j", "files": ["*.log"]}));
    let trace = "java.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: y\n\t... 3 more\n";
    room.append("a.log", format!("2026-11-21 12:00:00,000 [main] ERROR a.B - failed\n{trace}"));
    let adapter = room.start();
    adapter.wait_for(&[&format!("failed\n{}", trace.trim_end())]);
    assert_eq!(adapter.lines()[0]["level"], "error");
}
