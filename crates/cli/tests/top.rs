//! `outrigger top` on a terminal: cut to its size, drawn anew whatever the collector does, and the terminal given back at its end.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

const COLUMNS: u16 = 60;
const ROWS: u16 = 10;

/// A collector with more services than the terminal has lines, whose words are longer than these. Away, it hangs up.
fn collector() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let service = |number: usize| {
        json!({"namespace": "shop", "name": format!("api-{number}"), "state": "slow", "pods": {}, "figures": {"rate": 1.0},
            "findings": [{"state": "slow", "text": "p50 80 ms, its peers' is 12 ms ".repeat(10)}]})
    };
    let mesh =
        json!({"services": (0..30).map(service).collect::<Vec<_>>(), "edges": [], "pods": 30}).to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if !is_away.load(Relaxed) {
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{mesh}", mesh.len());
            }
        }
    });
    (address, away)
}

/// A terminal in which `top` runs.
struct Terminal {
    keys: File,
    /// The program's side.
    own: File,
    said: Arc<Mutex<String>>,
    top: Child,
}

impl Terminal {
    fn start(collector: SocketAddr) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap().into_string().unwrap();
        let own = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&own, Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["top", "--collector", &collector.to_string()]);
        let [stdin, stdout, stderr] = [0; 3].map(|_| own.try_clone().unwrap());
        let top = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        let (keys, said) = (File::from(keys), Arc::new(Mutex::new(String::new())));
        let (mut screen, told) = (keys.try_clone().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read) = screen.read(&mut piece) {
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        });
        Self { keys, own, said, top }
    }

    /// Waits until the newest whole picture is so, and returns its lines.
    fn shows(&self, what: &str, holds: impl Fn(&str) -> bool) -> Vec<String> {
        let mut picture = String::new();
        eventually(what, || {
            let said = self.said.lock().unwrap();
            let whole = said.rsplit_once("\x1b[J").map_or("", |(whole, _)| whole);
            picture = whole.rsplit_once("\x1b[H").map_or(String::new(), |(_, picture)| picture.to_owned());
            !picture.is_empty() && holds(&picture)
        });
        anstream::adapter::strip_str(&picture).to_string().lines().map(str::to_owned).collect()
    }

    fn takes_whole_lines(&self) -> bool {
        tcgetattr(&self.own)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.top.kill();
        let _ = self.top.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_mins(2), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Once, more lines than the terminal has let it scroll, so that the end was to be seen and not what hurts most.
#[test]
fn the_table_is_cut_to_the_terminal() {
    let (collector, _) = collector();
    let terminal = Terminal::start(collector);
    let lines = terminal.shows("the table", |picture| picture.contains("shop/api-0"));
    assert!(lines.len() <= ROWS.into(), "{lines:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS.into()), "{lines:?}");
    assert!(lines[0].starts_with("STATE") && lines[lines.len() - 1].starts_with("q: quit"), "{lines:?}");
}

/// Once, one answer that was missed ended it.
#[test]
fn a_collector_that_is_away_for_a_while_leaves_the_old_figures() {
    let (collector, away) = collector();
    let terminal = Terminal::start(collector);
    terminal.shows("the table", |picture| picture.contains("shop/api-0"));
    away.store(true, Relaxed);
    let lines = terminal.shows("that they are old", |picture| picture.contains("old figures: "));
    assert!(lines[1].contains("shop/api-0"), "{lines:?}");
    away.store(false, Relaxed);
    terminal.shows("new ones", |picture| !picture.contains("old figures"));
}

/// Once, a signal left the terminal without echo, in its second screen.
#[test]
fn however_it_ends_the_terminal_is_given_back() {
    let (collector, _) = collector();
    for end in ["q", "\x03", "TERM", "HUP", "INT"] {
        let mut terminal = Terminal::start(collector);
        terminal.shows("the table", |picture| picture.contains("shop/api-0"));
        assert!(!terminal.takes_whole_lines(), "keys need no return");
        let pid = Pid::from_raw(i32::try_from(terminal.top.id()).unwrap()).unwrap();
        match end {
            "TERM" => kill_process(pid, Signal::TERM).unwrap(),
            "HUP" => kill_process(pid, Signal::HUP).unwrap(),
            "INT" => kill_process(pid, Signal::INT).unwrap(),
            key => terminal.keys.write_all(key.as_bytes()).unwrap(),
        }
        eventually(end, || terminal.top.try_wait().unwrap().is_some());
        assert!(terminal.top.wait().unwrap().success(), "{end:?}");
        assert!(terminal.takes_whole_lines(), "{end:?}");
        eventually("the first screen", || terminal.said.lock().unwrap().ends_with("\x1b[?25h\x1b[?1049l"));
    }
}
