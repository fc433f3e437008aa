//! Two writers, a real logrotate, `kill -9` and a reader that stops, all at once: no line is missing, and none comes twice but
//! where the adapter was killed, with the offset that it had.
//!
//! Short with each test run; `make torture-logs` runs it with 10 million lines a mode.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{ChildStdout, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::Room;

/// How many are written with each test run.
const SHORT: u64 = 300_000;
/// How many lines come between two rotations, two kills, two pauses of the reader.
const A_ROTATION: u64 = 30_000;
const A_KILL: u64 = 100_000;
const A_PAUSE: u64 = 200_000;
const PAUSE: Duration = Duration::from_millis(300);
/// Between two looks at what the others have done.
const TURN: Duration = Duration::from_millis(1);
/// Bytes of each line, its end included.
const LINE: u64 = 14;
const WRITERS: u64 = 2;

/// How logrotate is told to rotate.
struct Mode {
    name: &'static str,
    /// Which files are followed.
    pattern: &'static str,
    directives: &'static str,
    /// logrotate itself loses what is written between its copy and its cut: the writers wait meanwhile.
    writers_wait: bool,
    rotates: Rotates,
    /// Whether the adapter is killed now and then.
    kills: bool,
}

#[derive(PartialEq)]
enum Rotates {
    AtAnyTime,
    /// For what is deleted, or compressed, the next time: what the adapter has never seen by then is lost.
    WhatCameOut,
}

const RENAMED: Mode = Mode {
    name: "create",
    pattern: "*.log",
    directives: "create\nrotate 1000",
    writers_wait: false,
    rotates: Rotates::AtAnyTime,
    kills: true,
};

#[test]
fn renamed() {
    torture(&RENAMED);
}

#[test]
fn renamed_to_names_that_match_too() {
    torture(&Mode { name: "create, *.log*", pattern: "*.log*", ..RENAMED });
}

const COPIED: Mode =
    Mode { name: "copytruncate", directives: "copytruncate\nrotate 1000", writers_wait: true, ..RENAMED };

#[test]
fn copied_and_truncated() {
    torture(&COPIED);
}

#[test]
fn copied_to_names_that_match_too() {
    torture(&Mode { name: "copytruncate, *.log*", pattern: "*.log*", ..COPIED });
}

#[test]
fn moved_to_another_directory() {
    torture(&Mode { name: "olddir", directives: "nocreate\nolddir old\nrotate 1000", ..RENAMED });
}

#[test]
fn compressed_one_rotation_later() {
    let directives = "create\nrotate 3\ncompress\ndelaycompress";
    torture(&Mode { name: "delaycompress", directives, rotates: Rotates::WhatCameOut, ..RENAMED });
}

#[test]
fn copied_truncated_and_compressed_one_rotation_later() {
    let directives = "copytruncate\nrotate 3\ncompress\ndelaycompress";
    torture(&Mode {
        name: "copytruncate, delaycompress",
        directives,
        rotates: Rotates::WhatCameOut,
        ..COPIED
    });
}

#[test]
fn deleted() {
    let rotates = Rotates::WhatCameOut;
    torture(&Mode { name: "delete", directives: "nocreate\nrotate 0", rotates, kills: false, ..RENAMED });
}

/// What the threads of one run share.
struct Shared {
    lines: u64,
    written: AtomicU64,
    /// How many there were at the last rotation.
    rotated: AtomicU64,
    /// Held by a writer while it writes, and where writers wait, by who rotates.
    rotating: Mutex<()>,
    done: AtomicBool,
    tally: Mutex<Tally>,
}

/// Where a thread fails, the others must not wait for it.
struct EndsAll<'a>(&'a Shared);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.done.store(true, Relaxed);
        }
    }
}

fn torture(mode: &Mode) {
    let lines = std::env::var("LINES").map_or(SHORT, |lines| lines.parse().unwrap());
    let room = Room::new("torture");
    room.configure(&json!({"files": [mode.pattern]}));
    fs::create_dir(room.log("old")).unwrap();
    let conf = room.root.join("logrotate.conf");
    let files = room.log("[01].log");
    fs::write(&conf, format!("{} {{\nmissingok\n{}\n}}\n", files.display(), mode.directives)).unwrap();
    let shared = Shared {
        lines,
        written: AtomicU64::new(0),
        rotated: AtomicU64::new(0),
        rotating: Mutex::default(),
        done: AtomicBool::new(false),
        tally: Mutex::new(Tally { places: vec![None; slot(lines)], seen: 0, doubled: 0 }),
    };
    let (rotations, kills) = thread::scope(|scope| {
        let paths = (0..WRITERS).map(|first| (first, room.log(&format!("{first}.log"))));
        let writers: Vec<_> = paths
            .map(|(first, path)| {
                scope.spawn({
                    let shared = &shared;
                    move || write(&path, first, shared)
                })
            })
            .collect();
        let rotator = scope.spawn(|| rotate(&conf, mode, &shared));
        let start = || {
            let mut adapter = room.start_unread();
            let stdout = adapter.stdout.take().unwrap();
            let reader = scope.spawn(|| {
                let _ends_all = EndsAll(&shared);
                read(stdout, &shared);
            });
            (adapter, reader)
        };
        let (mut adapter, mut reader) = start();
        let mut kills = 0;
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            if mode.kills && shared.written.load(Relaxed) >= (kills + 1) * A_KILL {
                adapter.signal("KILL");
                adapter.child.wait().unwrap();
                reader.join().unwrap();
                kills += 1;
                (adapter, reader) = start();
            }
            thread::sleep(TURN);
        }
        shared.done.store(true, Relaxed);
        let rotations = rotator.join().unwrap();
        adapter.signal("TERM");
        assert!(adapter.child.wait().unwrap().success());
        reader.join().unwrap();
        (rotations, kills)
    });
    let tally = shared.tally.lock().unwrap();
    eprintln!("{}: {lines} lines, {rotations} rotations, {kills} kills, {} twice", mode.name, tally.doubled);
    tally.judge(lines, kills).unwrap_or_else(|fault| panic!("{}: {fault}\n{}", mode.name, room.stderr()));
}

/// Rotates until all is written, and returns how often.
fn rotate(conf: &Path, mode: &Mode, shared: &Shared) -> u32 {
    let state = conf.with_extension("state");
    let mut times = 0;
    while !shared.done.load(Relaxed) {
        thread::sleep(TURN);
        let written = shared.written.load(Relaxed);
        let is_out = || shared.tally.lock().unwrap().seen >= shared.written.load(Relaxed);
        // Half of what may be written until then, so that writers go on meanwhile.
        if written - shared.rotated.load(Relaxed) < A_ROTATION / 2
            || (mode.rotates == Rotates::WhatCameOut && !is_out())
        {
            continue;
        }
        let _waiting = mode.writers_wait.then(|| shared.rotating.lock().unwrap());
        let output = Command::new("logrotate").arg("-f").arg("-s").arg(&state).arg(conf).output().unwrap();
        if !output.status.success() {
            // Nobody would go on without a rotation.
            shared.done.store(true, Relaxed);
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        shared.rotated.store(shared.written.load(Relaxed), Relaxed);
        times += 1;
    }
    times
}

/// Writes every other line, from `first` on, as apps do that reopen their file when it is another.
fn write(path: &Path, first: u64, shared: &Shared) {
    let open = || File::options().create(true).append(true).open(path).unwrap();
    let mut file = open();
    let mut number = first;
    while number < shared.lines && !shared.done.load(Relaxed) {
        if shared.written.load(Relaxed) - shared.rotated.load(Relaxed) >= A_ROTATION {
            thread::sleep(TURN);
            continue;
        }
        let _held = shared.rotating.lock().unwrap();
        let is_there = fs::metadata(path).is_ok_and(|found| found.ino() == file.metadata().unwrap().ino());
        if !is_there {
            file = open();
        }
        let mut batch = Vec::new();
        let from = number;
        while number < shared.lines && number < from + 200 * WRITERS {
            writeln!(batch, "line {number:08}").unwrap();
            number += WRITERS;
        }
        // In two pieces, so that a line is often half there.
        let (one, other) = batch.split_at(batch.len() / 2 + 3);
        file.write_all(one).unwrap();
        file.write_all(other).unwrap();
        shared.written.fetch_add((number - from) / WRITERS, Relaxed);
    }
}

/// What came out.
struct Tally {
    /// The file and the offset of each line.
    places: Vec<Option<(u64, u32)>>,
    seen: u64,
    doubled: u64,
}

impl Tally {
    fn saw(&mut self, line: &str) {
        let number = slot(field(line, "\"message\":\"line "));
        let offset = u32::try_from(field(line, "\"log.offset\":")).unwrap();
        let place = (file(line), offset);
        match self.places[number].replace(place) {
            None => self.seen += 1,
            Some(before) => {
                assert_eq!(before, place, "{line}: it comes twice, from another place");
                self.doubled += 1;
            }
        }
    }

    /// Whether each line is there, from a place of its own, and no more came twice than was not confirmed at a kill.
    fn judge(&self, lines: u64, kills: u64) -> Result<(), String> {
        let missing: Vec<_> = (0..lines).filter(|line| self.places[slot(*line)].is_none()).take(10).collect();
        if !missing.is_empty() {
            return Err(format!("missing, the first of them: {missing:?}"));
        }
        let mut places = self.places.clone();
        places.sort_unstable();
        if !places.is_sorted_by(|one, other| one < other) {
            return Err("two lines have the same file and offset".to_owned());
        }
        let most = kills * (3 << 19);
        if self.doubled * LINE > most {
            return Err(format!("{} bytes came twice, and not only {most}", self.doubled * LINE));
        }
        Ok(())
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

/// The file that a line is of.
fn file(line: &str) -> u64 {
    let id = line.split_once("\"log.file.id\":\"").unwrap_or_else(|| panic!("no file in {line}")).1;
    u64::from_str_radix(&id[..16], 16).unwrap()
}

/// Reads to the end, and stops for a while now and then.
fn read(stdout: ChildStdout, shared: &Shared) {
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    for read in 1.. {
        line.clear();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        // The last one of an adapter that was killed may have no end.
        if line.ends_with('\n') {
            shared.tally.lock().unwrap().saw(&line);
        }
        if u64::is_multiple_of(read, A_PAUSE) {
            thread::sleep(PAUSE);
        }
    }
}
