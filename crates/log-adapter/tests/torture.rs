//! Two writers, a real logrotate, `kill -9` and a reader that stops, all at once: no line is missing, and none comes twice but
//! where the adapter was killed, with the offset that it had. `make torture-logs` runs it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use support::{Adapter, Room};

/// Bytes of each line, its end included.
const LINE: u64 = 14;
const WRITERS: u64 = 2;

/// How logrotate is told to rotate.
struct Mode {
    name: &'static str,
    directives: &'static str,
    /// logrotate itself loses what is written between its copy and its cut: the writers wait meanwhile.
    writers_wait: bool,
    /// Whether the adapter is killed. Not where what it has not read is deleted while it is down.
    kills: bool,
}

#[test]
#[ignore = "takes minutes and needs logrotate"]
fn renamed() {
    torture(&Mode { name: "create", directives: "create\nrotate 1000", writers_wait: false, kills: true });
}

#[test]
#[ignore = "takes minutes and needs logrotate"]
fn copied_and_truncated() {
    let directives = "copytruncate\nrotate 1000";
    torture(&Mode { name: "copytruncate", directives, writers_wait: true, kills: true });
}

#[test]
#[ignore = "takes minutes and needs logrotate"]
fn moved_to_another_directory_by_date() {
    let directives =
        "nocreate\ndateext\ndateformat -%Y%m%d-%s\nolddir old\ncreateolddir 755 root root\nrotate 1000";
    torture(&Mode { name: "olddir", directives, writers_wait: false, kills: true });
}

#[test]
#[ignore = "takes minutes and needs logrotate"]
fn deleted() {
    torture(&Mode { name: "delete", directives: "nocreate\nrotate 0", writers_wait: false, kills: false });
}

fn torture(mode: &Mode) {
    let lines: u64 = std::env::var("LINES").map_or(10_000_000, |lines| lines.parse().unwrap());
    let room = Room::new(mode.name);
    room.configure(&json!({"files": ["*.log"]}));
    let conf = logrotate_conf(&room, mode);
    let (done, rotating) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
    let tally = Arc::new(Mutex::new(Tally::new(lines)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|first| {
            let (path, rotating) = (room.log(&format!("{first}.log")), Arc::clone(&rotating));
            thread::spawn(move || write(&path, first, lines, &rotating))
        })
        .collect();
    let rotator = {
        let (done, rotating, state) = (Arc::clone(&done), Arc::clone(&rotating), room.root.join("state"));
        let wait = mode.writers_wait;
        thread::spawn(move || rotate(&conf, &state, &done, wait.then_some(&rotating)))
    };
    let (mut adapter, mut reader) = start(&room, &tally);
    let mut kills = 0;
    while !writers.iter().all(JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(1500));
        if mode.kills {
            adapter.signal("KILL");
            adapter.child.wait().unwrap();
            reader.join().unwrap();
            kills += 1;
            (adapter, reader) = start(&room, &tally);
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    done.store(true, Relaxed);
    let rotations = rotator.join().unwrap();
    adapter.signal("TERM");
    assert!(adapter.child.wait().unwrap().success());
    reader.join().unwrap();
    let tally = tally.lock().unwrap();
    eprintln!(
        "{}: {lines} lines, {rotations} rotations, {kills} kills, {} lines twice",
        mode.name, tally.doubled
    );
    let missing: Vec<_> = (0..lines).filter(|line| tally.offsets[slot(*line)] == ABSENT).take(10).collect();
    assert!(missing.is_empty(), "missing, the first of them: {missing:?}\n{}", room.stderr());
    assert!(
        tally.doubled * LINE <= kills * (2 << 20),
        "{} lines came twice after {kills} kills",
        tally.doubled
    );
}

fn logrotate_conf(room: &Room, mode: &Mode) -> PathBuf {
    let conf = room.root.join("logrotate.conf");
    let files = room.log("*.log");
    fs::write(&conf, format!("{} {{\nmissingok\n{}\n}}\n", files.display(), mode.directives)).unwrap();
    conf
}

/// Rotates until all is written, and returns how often.
fn rotate(conf: &Path, state: &Path, done: &AtomicBool, writers: Option<&Mutex<()>>) -> u32 {
    let mut times = 0;
    while !done.load(Relaxed) {
        thread::sleep(Duration::from_millis(400));
        let _waiting: Option<MutexGuard<()>> = writers.map(|writers| writers.lock().unwrap());
        let output = Command::new("logrotate").arg("-f").arg("-s").arg(state).arg(conf).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        times += 1;
    }
    times
}

/// Writes every other line, from `first` on, as apps do that reopen their file when it is another.
fn write(path: &Path, first: u64, lines: u64, rotating: &Mutex<()>) {
    let open = || File::options().create(true).append(true).open(path).unwrap();
    let mut file = open();
    let mut number = first;
    while number < lines {
        let _held = rotating.lock().unwrap();
        let is_there = fs::metadata(path).is_ok_and(|found| found.ino() == file.metadata().unwrap().ino());
        if !is_there {
            file = open();
        }
        let mut batch = Vec::new();
        for _ in 0..200 {
            if number < lines {
                writeln!(batch, "line {number:08}").unwrap();
                number += WRITERS;
            }
        }
        // In two pieces, so that a line is often half there.
        let (one, other) = batch.split_at(batch.len() / 2 + 3);
        file.write_all(one).unwrap();
        file.write_all(other).unwrap();
    }
}

/// Where each line was seen.
struct Tally {
    offsets: Vec<u32>,
    doubled: u64,
}

const ABSENT: u32 = u32::MAX;

impl Tally {
    fn new(lines: u64) -> Self {
        Self { offsets: vec![ABSENT; slot(lines)], doubled: 0 }
    }

    fn saw(&mut self, line: &str) {
        let number = field(line, "\"message\":\"line ");
        let offset = u32::try_from(field(line, "\"log.offset\":")).unwrap();
        let seen = &mut self.offsets[slot(number)];
        if *seen == ABSENT {
            *seen = offset;
            return;
        }
        assert_eq!(*seen, offset, "{line}: it comes twice with another offset");
        self.doubled += 1;
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// The number after `key`. Not by a parser: there are many lines.
fn field(line: &str, key: &str) -> u64 {
    let rest = line.split_once(key).unwrap_or_else(|| panic!("no {key} in {line}")).1;
    let digits = rest.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn start(room: &Room, tally: &Arc<Mutex<Tally>>) -> (Adapter, JoinHandle<()>) {
    let mut adapter = room.start_unread();
    let (stdout, tally) = (adapter.stdout.take().unwrap(), Arc::clone(tally));
    let reader = thread::spawn(move || read(stdout, &tally));
    (adapter, reader)
}

/// Reads to the end, and stops for a while now and then.
fn read(stdout: ChildStdout, tally: &Mutex<Tally>) {
    static LINES_READ: AtomicU64 = AtomicU64::new(0);
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 0 {
        // The last one of an adapter that was killed may have no end.
        if line.ends_with('\n') {
            tally.lock().unwrap().saw(&line);
        }
        line.clear();
        if LINES_READ.fetch_add(1, Relaxed).is_multiple_of(500_000) {
            thread::sleep(Duration::from_millis(300));
        }
    }
}
