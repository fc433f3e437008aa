//! What must not depend on luck: each step of the tailer, and what an app does between two of them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use outrigger_api::logs::LogFormat;
use serde_json::Value;

use super::*;

/// A directory of logs, and what a tailer made of them.
struct Room {
    root: PathBuf,
}

impl Room {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-tail-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("logs")).unwrap();
        Self { root }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.log(name)).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.log(from), self.log(to)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.log(from), self.log(to)).unwrap();
    }

    fn cut(&self, name: &str) {
        File::options().write(true).open(self.log(name)).unwrap().set_len(0).unwrap();
    }

    fn source(&self, files: &[&str]) -> LogSource {
        LogSource {
            directory: self.root.join("logs").into_os_string().into_string().unwrap(),
            path: "/log".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            format: LogFormat::Text,
            ..LogSource::default()
        }
    }

    fn tailer(&self, files: &[&str]) -> Tailer {
        let sink = File::options().create(true).append(true).open(self.root.join("out")).unwrap();
        let checkpoint = self.root.join("checkpoint");
        let sources = vec![self.source(files)];
        Tailer::new(sources, &Pod::default(), checkpoint, sink, Arc::default()).unwrap()
    }

    /// What came out, by file and line, sorted.
    fn seen(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("out")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut seen: Vec<_> =
            lines.map(|line| text(&line["log.file.path"]) + " " + &text(&line["message"])).collect();
        seen.sort();
        seen
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Lists and reads until there is nothing more.
fn settle(tailer: &mut Tailer) {
    for _ in 0..3 {
        tailer.scan().unwrap();
        while tailer.round(false).unwrap() {}
    }
}

/// As if nothing had come for a minute.
fn grow_old(tailer: &mut Tailer) {
    for file in &mut tailer.files {
        file.grown = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    }
}

fn text(count: u32) -> String {
    let mut text = String::new();
    for number in 0..count {
        writeln!(text, "line {number:06}").unwrap();
    }
    text
}

/// Not by `assert_eq`, which would print them all.
#[track_caller]
fn assert_numbered(seen: &[String], path: &str, count: u32) {
    let wrong = (0..count).zip(seen).find(|(number, line)| **line != format!("{path} line {number:06}"));
    assert_eq!((wrong, seen.len() as u64), (None, u64::from(count)));
}

/// Whoever read our output had paused for longer than a file without a name is kept open.
#[test]
fn deleted_file_is_read_to_its_end_however_long_that_takes() {
    let room = Room::new();
    room.append("a.log", &text(100_000));
    let mut tailer = room.tailer(&["*.log"]);
    tailer.scan().unwrap();
    tailer.round(false).unwrap();
    fs::remove_file(room.log("a.log")).unwrap();
    grow_old(&mut tailer);
    settle(&mut tailer);
    assert_numbered(&room.seen(), "/log/a.log", 100_000);
    grow_old(&mut tailer);
    settle(&mut tailer);
    assert!(tailer.files.is_empty(), "read to its end, it is closed");
}

#[test]
fn changed_config_loses_no_deleted_file() {
    let room = Room::new();
    room.append("a.log", &text(100_000));
    room.append("b.log", "b\n");
    let mut tailer = room.tailer(&["*.log"]);
    tailer.scan().unwrap();
    tailer.round(false).unwrap();
    fs::remove_file(room.log("a.log")).unwrap();
    tailer.scan().unwrap();
    tailer.reconfigure(vec![room.source(&["a.log"])], &Pod::default());
    room.append("b.log", "not asked for any more\n");
    settle(&mut tailer);
    let mut seen = room.seen();
    assert_eq!(seen.pop().unwrap(), "/log/b.log b");
    assert_numbered(&seen, "/log/a.log", 100_000);
    tailer.reconfigure(vec![room.source(&["*.log"])], &Pod::default());
    settle(&mut tailer);
    assert_eq!(room.seen().len(), 100_002, "and goes on where it was");
}

/// The adapter may start after the app, or be held up: what is in the directory was written by this pod.
#[test]
fn files_rotated_before_they_were_ever_seen_are_read() {
    let room = Room::new();
    room.append("a.log.2", "one\n");
    room.append("a.log.1", "two\n");
    room.append("a.log", "three\n");
    room.append("b.log.1", "of a file that is gone\n");
    room.append("c.txt.1", "of no file that is asked for\n");
    settle(&mut room.tailer(&["*.log"]));
    let wanted =
        ["/log/a.log one", "/log/a.log three", "/log/a.log two", "/log/b.log of a file that is gone"];
    assert_eq!(room.seen(), wanted);
}

#[test]
fn file_copied_and_cut_before_it_was_read_is_read_from_the_copy() {
    for files in ["a.log", "a.log*"] {
        let room = Room::new();
        room.append("a.log", "one\n");
        let mut tailer = room.tailer(&[files]);
        tailer.scan().unwrap();
        room.copy("a.log", "a.log.1");
        room.cut("a.log");
        room.append("a.log", "two, and longer than what was there before\n");
        settle(&mut tailer);
        assert_eq!(room.seen(), ["/log/a.log one", "/log/a.log two, and longer than what was there before"]);
    }
}

/// A copy that begins as another file with a long banner is told from that file by its end.
#[test]
fn files_with_the_same_banner_are_no_copies_of_each_other() {
    let room = Room::new();
    let banner = "=".repeat(3000);
    room.append("app.log", &format!("{banner}\none\n"));
    let mut tailer = room.tailer(&["*.log"]);
    settle(&mut tailer);
    // By its name it might be a rotated one; it is another worker's.
    room.append("app-1.log", &format!("{banner}\n"));
    settle(&mut tailer);
    room.append("app-1.log", "two\n");
    room.append("app-2.log", &format!("{banner}\nthree\n"));
    settle(&mut tailer);
    let wanted =
        ["app-1.log =", "app-1.log two", "app-2.log =", "app-2.log three", "app.log =", "app.log one"];
    let seen: Vec<_> = room.seen().iter().map(|line| line.replace(&banner, "=")).collect();
    assert_eq!(seen, wanted.map(|line| format!("/log/{line}")));
}

#[test]
fn generation_with_the_same_banner_is_no_copy() {
    let room = Room::new();
    let banner = format!("{}\n", "=".repeat(3000));
    room.append("a.log", &(banner.clone() + &text(100)));
    let mut tailer = room.tailer(&["a.log"]);
    settle(&mut tailer);
    // Twice while nobody looks; the second time it is shorter.
    room.copy("a.log", "a.log.2");
    room.cut("a.log");
    room.append("a.log", &(banner.clone() + "second\n"));
    room.copy("a.log", "a.log.1");
    room.cut("a.log");
    room.append("a.log", "third\n");
    settle(&mut tailer);
    let seen = room.seen();
    let times = |text: &str| seen.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!((times("second"), times("third"), times("line 000000"), seen.len()), (1, 1, 1, 104));
}

#[test]
fn copy_that_is_half_made_when_the_adapter_ends_is_still_a_copy() {
    let room = Room::new();
    let lines = text(1000);
    room.append("a.log", &lines);
    let mut tailer = room.tailer(&["a.log*"]);
    settle(&mut tailer);
    room.append("a.log.1", &lines[..5000]);
    settle(&mut tailer);
    tailer.save();
    let mut tailer = room.tailer(&["a.log*"]);
    settle(&mut tailer);
    room.append("a.log.1", &lines[5000..]);
    settle(&mut tailer);
    room.cut("a.log");
    room.append("a.log", "line 001000\n");
    settle(&mut tailer);
    assert_numbered(&room.seen(), "/log/a.log", 1001);
}

/// The name was another file's by the time that it was opened.
#[test]
fn file_renamed_between_the_listing_and_its_opening_is_not_lost() {
    let room = Room::new();
    room.append("a.log", "one\n");
    let mut tailer = room.tailer(&["a.log"]);
    settle(&mut tailer);
    room.rename("a.log", "a.log.2");
    room.append("a.log", "two\n");
    let listing = tailer.list(0).unwrap();
    room.rename("a.log", "a.log.1");
    room.append("a.log", "three\n");
    tailer.notice_renames(0, &listing);
    tailer.adopt_new(0, &listing);
    settle(&mut tailer);
    assert_eq!(room.seen(), ["/log/a.log one", "/log/a.log three", "/log/a.log two"]);
}

#[test]
fn what_is_read_again_after_a_crash_is_no_more_than_was_unconfirmed() {
    let room = Room::new();
    room.append("a.log", &text(300_000));
    let mut tailer = room.tailer(&["*.log"]);
    tailer.scan().unwrap();
    for _ in 0..9 {
        tailer.round(false).unwrap();
    }
    // Killed: nothing is saved any more.
    drop(tailer);
    settle(&mut room.tailer(&["*.log"]));
    let mut seen = room.seen();
    let doubled = seen.len() - 300_000;
    assert!(doubled as u64 * 12 <= CHECKPOINT_BYTES + 512 * 1024, "{doubled} lines came twice");
    seen.dedup();
    assert_numbered(&seen, "/log/a.log", 300_000);
}
