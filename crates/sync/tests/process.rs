//! The program itself: its admin server, and kill -9 at any point.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

#[path = "../../runtime/tests/support/asked_for.rs"]
mod asked_for;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_api::config::SidecarConfig;
use outrigger_api::sync::SyncSpec;
use support::{Directory, Repository, source, spec};

/// A running program, killed with the test.
struct Program {
    child: Child,
    port: u16,
}

impl Program {
    fn start(directory: &Path, spec: SyncSpec) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_outrigger-sync")), directory, spec)
    }

    /// On a disk of its own that has so many kilobytes and is seen by nobody else.
    fn on_small_disk(kilobytes: u32, directory: &Path, spec: SyncSpec) -> Self {
        let entry = directory.join("entry");
        fs::create_dir(&entry).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={kilobytes}k none {} && exec {} \"$@\"",
            entry.display(),
            env!("CARGO_BIN_EXE_outrigger-sync")
        );
        let mut shell = Command::new("unshare");
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        Self::by(shell, directory, spec)
    }

    fn by(mut command: Command, directory: &Path, spec: SyncSpec) -> Self {
        let config = serde_json::json!({
            "version": 1, "profile": "a/b", "token": "secret", "sync": [source(directory, spec)],
        });
        let file = directory.join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        SidecarConfig::parse(&config.to_string()).unwrap();
        // Free a moment ago; a test that loses it fails with what the program says.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command
            .args(["--config".as_ref(), file.as_os_str(), format!("--admin-port={port}").as_ref()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// What it says of its one entry.
    fn entry(&self) -> serde_json::Value {
        let answer = self.ask("GET /stats HTTP/1.1\r\nauthorization: Bearer secret");
        let stats: Option<serde_json::Value> = answer.and_then(|(_, body)| serde_json::from_str(&body).ok());
        stats.unwrap_or_default()["sync"][0].clone()
    }

    /// The status and the body.
    fn ask(&self, head: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "{head}\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_app_waits_for_content_and_a_push_is_taken_at_once() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    // An hour: what comes sooner has been asked for.
    let spec = SyncSpec { interval: "1h".parse().unwrap(), ..spec(&repository.url(), "v*") };
    let program = Program::start(&directory.0, spec);
    wait_for("the admin server", || program.ask("GET /live HTTP/1.1").is_some());
    assert_eq!(program.ask("GET /ready HTTP/1.1").unwrap(), (503, "not ready: content\n".to_owned()));
    repository.tag("v1", &[("index.html", "one")]);
    // Without content it asks again by itself, in seconds.
    wait_for("content", || program.ask("GET /ready HTTP/1.1").is_some_and(|(status, _)| status == 200));
    repository.tag("v2", &[("index.html", "two")]);
    assert_eq!(program.ask("POST /sync HTTP/1.1").unwrap().0, 202);
    let page = directory.0.join("entry/tree/index.html");
    wait_for("the second version", || fs::read_to_string(&page).is_ok_and(|text| text == "two"));
    assert_eq!(program.ask("GET /stats HTTP/1.1").unwrap().0, 401);
    let stats = || program.ask("GET /stats HTTP/1.1\r\nauthorization: Bearer secret").unwrap().1;
    wait_for("the stats to say so", || stats().contains(r#""version":"v2""#));
    assert_eq!(program.ask("POST /retry HTTP/1.1").unwrap().0, 202);
    let metrics = program.ask("GET /metrics HTTP/1.1").unwrap().1;
    let labels = r#"container="app",path="/srv/www""#;
    for wanted in [
        format!("outrigger_sync_switches_total{{{labels}}} 2"),
        format!(r#"outrigger_sync_version_timestamp_seconds{{{labels},version="v2""#),
        format!("outrigger_sync_failing{{{labels}}} 0"),
    ] {
        assert!(metrics.contains(&wanted), "{wanted} is not in\n{metrics}");
    }
}

/// Killed after times that grow by a little each time, so that each step of a checkout is cut off once. Whatever came of it, the app
/// sees one whole version, and the next start goes on.
#[test]
fn killed_at_any_point_there_is_a_whole_version_and_the_next_start_goes_on() {
    const FILES: usize = 60;
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let tag = |repository: &mut Repository, number: u32| {
        let files: Vec<_> = (0..FILES).map(|file| (format!("{file}.txt"), format!("v{number}"))).collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        repository.tag(&format!("v{number}"), &files);
    };
    let tree = directory.0.join("entry/tree");
    let whole = || {
        let version = tree.join("..data").canonicalize().ok()?;
        let texts: Vec<_> =
            (0..FILES).map(|file| fs::read_to_string(version.join(format!("{file}.txt")))).collect();
        let first = texts[0].as_ref().unwrap().clone();
        assert!(texts.iter().all(|text| text.as_ref().is_ok_and(|text| *text == first)), "{texts:?}");
        Some(first)
    };
    let spec = spec(&repository.url(), "v*");
    for number in 1..=60 {
        tag(&mut repository, number);
        let program = Program::start(&directory.0, spec.clone());
        // Not a wait for anything: the moment of the kill.
        thread::sleep(Duration::from_micros(u64::from(number) * 700));
        drop(program);
        whole();
    }
    let _program = Program::start(&directory.0, spec);
    wait_for("the last version", || whole().as_deref() == Some("v60"));
    wait_for("the disk to be tidy", || fs::read_dir(tree.join("..versions")).unwrap().count() <= 3);
}

/// A process that hangs was the sidecar itself.
#[test]
fn a_round_that_is_killed_is_a_failure_and_one_whose_sidecar_is_killed_ends() {
    let directory = Directory::new();
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/site.git", silent.local_addr().unwrap());
    let mut program = Program::start(&directory.0, spec(&url, "v*"));
    wait_for("a round", || !children(program.child.id()).is_empty());
    for round in children(program.child.id()) {
        let killed = Command::new("kill").args(["-KILL", &round.to_string()]).status();
        assert!(killed.unwrap().success());
    }
    wait_for("the failure", || program.entry()["failure"]["reason"] == "BrokenAnswer");
    // Without content it asks again in a second.
    wait_for("another round", || !children(program.child.id()).is_empty());
    let rounds = children(program.child.id());
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    wait_for("the round to end", || rounds.iter().all(|round| !is_running(*round)));
}

/// The processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = format!("PPid:\t{parent}\n");
    pids.filter(|pid| status(*pid).is_some_and(|status| status.contains(&parent))).collect()
}

fn is_running(pid: u32) -> bool {
    status(pid).is_some_and(|status| !status.contains("State:\tZ"))
}

fn status(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

#[test]
fn rules_and_dashboards_ask_for_metrics_that_there_are() {
    let directory = Directory::new();
    let program = Program::start(&directory.0, spec("file:///nowhere", "v*"));
    wait_for("it answers", || program.ask("GET /metrics HTTP/1.1").is_some());
    let (_, metrics) = program.ask("GET /metrics HTTP/1.1").unwrap();
    asked_for::assert_exported(&metrics, |name| name.starts_with("outrigger_sync_"));
}

#[test]
fn a_full_disk_keeps_the_old_version_and_a_smaller_one_is_taken() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one"), ("large", &"x".repeat(100_000))]);
    let server = support::http::Server::start(&directory.0, None);
    // Objects that come over the network lie on the same disk; those of a directory do not.
    for (at, url) in [repository.url(), format!("{}/repository/.git", server.url)].into_iter().enumerate() {
        let place = Directory::new();
        let interval = "1h".parse().unwrap();
        let program = Program::on_small_disk(512, &place.0, SyncSpec { interval, ..spec(&url, "v*") });
        let is_at = |version: &str| program.entry()["version"] == version;
        wait_for("the first version", || is_at("v1"));
        let tree = place.0.join("entry/tree");
        let seen = Path::new("/proc").join(program.child.id().to_string()).join("root");
        let page =
            || fs::read_to_string(seen.join(tree.strip_prefix("/").unwrap()).join("index.html")).unwrap();
        repository
            .tag(&format!("v{}", at * 2 + 2), &[("index.html", "two"), ("large", &"y".repeat(600_000))]);
        let poll = || assert_eq!(program.ask("POST /sync HTTP/1.1").unwrap().0, 202);
        poll();
        wait_for("the disk to be full", || program.entry()["failure"]["reason"] == "Disk");
        assert!(is_at("v1") && page() == "one", "{}", program.entry());
        let small = format!("v{}", at * 2 + 3);
        repository.tag(&small, &[("index.html", "three")]);
        poll();
        wait_for("the smaller version", || is_at(&small) && page() == "three");
        repository.git(&["tag", "--delete", &small, &format!("v{}", at * 2 + 2)]);
    }
}
