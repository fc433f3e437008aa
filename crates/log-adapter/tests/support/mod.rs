//! The binary, run as a process on a directory of its own.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Long enough for a machine that compiles meanwhile.
const DEADLINE: Duration = Duration::from_mins(2);

#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited {DEADLINE:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory with `logs`, a config and a checkpoint, that goes with the test.
pub(crate) struct Room {
    pub(crate) root: PathBuf,
}

impl Room {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root =
            std::env::temp_dir().join(format!("outrigger-logs-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("logs")).unwrap();
        let new = Self { root };
        new.configure(&json!({"files": ["**/*.log"]}));
        new
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }

    /// Writes a config of one source, with these fields beside those that it must have.
    pub(crate) fn configure(&self, fields: &Value) {
        let mut source = json!({"directory": self.root.join("logs"), "container": "app", "path": "/var/log/app", "format": "text"});
        source.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let config = json!({"version": 1, "profile": "a/b", "token": "t", "logs": [source]});
        let new = self.root.join("config.new");
        fs::write(&new, config.to_string()).unwrap();
        fs::rename(new, self.root.join("config.json")).unwrap();
    }

    pub(crate) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.log(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.log(from), self.log(to)).unwrap();
    }

    /// As logrotate's `copytruncate` does it.
    pub(crate) fn copy_truncate(&self, from: &str, to: &str) {
        let mut copy = File::create(self.log(to)).unwrap();
        std::io::copy(&mut File::open(self.log(from)).unwrap(), &mut copy).unwrap();
        OpenOptions::new().write(true).open(self.log(from)).unwrap().set_len(0).unwrap();
    }

    pub(crate) fn command(&self, admin: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger-logs"));
        command.arg("--config").arg(self.root.join("config.json"));
        command.arg("--checkpoint").arg(self.root.join("checkpoint.json"));
        command.args(["--log-level", "debug", "--log-format", "text"]);
        command.args(["--admin-port", &admin.to_string(), "--pod", "web-1", "--namespace", "shop"]);
        command
    }

    /// Starts the adapter and reads what it writes.
    pub(crate) fn start(&self) -> Adapter {
        let mut adapter = self.start_unread();
        adapter.read();
        adapter
    }

    /// Starts the adapter and leaves its output in the pipe.
    pub(crate) fn start_unread(&self) -> Adapter {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let stderr = self.root.join("stderr");
        let said = File::create(&stderr).unwrap();
        let mut child = self.command(admin).stdout(Stdio::piped()).stderr(said).spawn().unwrap();
        let stdout = child.stdout.take();
        wait_until("the adapter is up", || TcpStream::connect(("127.0.0.1", admin)).is_ok());
        Adapter { child, admin, stderr, stdout, lines: Arc::default(), reader: None }
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.root.join("stderr")).unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A running adapter, and what it has written.
pub(crate) struct Adapter {
    pub(crate) child: Child,
    pub(crate) admin: u16,
    stderr: PathBuf,
    pub(crate) stdout: Option<ChildStdout>,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Adapter {
    pub(crate) fn read(&mut self) {
        let (stdout, lines) = (self.stdout.take().unwrap(), Arc::clone(&self.lines));
        let read = move || {
            for line in BufReader::new(stdout).lines() {
                lines.lock().unwrap().push(line.unwrap());
            }
        };
        self.reader = Some(std::thread::spawn(read));
    }

    /// What was written so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, messages: &[&str]) {
        let end = Instant::now() + DEADLINE;
        while self.messages() != messages {
            let said = || fs::read_to_string(&self.stderr).unwrap();
            assert!(Instant::now() < end, "{:?} are not {messages:?}\n{}", self.messages(), said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Ends it by this signal, and returns the lines that it has written; a last one without an end is left out.
    pub(crate) fn end(mut self, signal: &str) -> Vec<String> {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert!(signal == "KILL" || status.success(), "{status}");
        self.reader.take().unwrap().join().unwrap();
        let mut lines = std::mem::take(&mut *self.lines.lock().unwrap());
        if lines.last().is_some_and(|last| serde_json::from_str::<Value>(last).is_err()) {
            lines.pop();
        }
        lines
    }

    pub(crate) fn get(&self, path: &str, header: &str) -> String {
        self.ask("GET", path, header)
    }

    pub(crate) fn post(&self, path: &str) -> String {
        self.ask("POST", path, "")
    }

    fn ask(&self, method: &str, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The value of the first metric whose line begins so.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let answer = self.get("/metrics", "");
        let line = answer.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn message(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned()
}
