//! The demo as a new user meets it: started, looked at, played with, ended.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One demo at a time: two take each other's processors.
static ALONE: Mutex<()> = Mutex::new(());

/// Beside a demo of the developer's own, and the tests of another checkout.
fn block() -> u32 {
    std::process::id() % 200 + 20
}

struct Demo {
    _alone: MutexGuard<'static, ()>,
    process: Child,
    dashboard: String,
}

impl Demo {
    fn start() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        build_what_is_old();
        let dashboard = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let block = block().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger-local"));
        command.args(["--dashboard", &dashboard, "--block", &block, "--seconds", "1800"]);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { _alone: alone, process, dashboard }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// What the collector says; null where it does not answer.
    fn told(&self, path: &str) -> Value {
        let ask = || -> Option<Value> {
            let mut stream = TcpStream::connect(&self.dashboard).ok()?;
            let host = &self.dashboard;
            write!(stream, "GET /api/v1{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
        };
        ask().unwrap_or_default()
    }

    /// The names of the pods of `api` that are in this state.
    fn pods(&self, state: &str) -> Vec<String> {
        let service = self.told("/services/shop/api");
        let cards = service["podCards"].as_array().cloned().unwrap_or_default();
        let named = cards.iter().filter(|card| card["state"] == state);
        named.map(|card| card["name"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other programs of the demo. A test of the whole workspace has built them; one of this package alone has not, since cargo builds the
/// programs of a test's own package only. To ask cargo in any case would compile much anew: of other packages it wants other features.
fn build_what_is_old() {
    let programs = [
        ("outrigger", "outrigger-cli"),
        ("outrigger-proxy", "outrigger-proxy"),
        ("outrigger-demo", "outrigger-demo"),
    ];
    let own = Path::new(env!("CARGO_BIN_EXE_outrigger-local"));
    let old =
        programs.into_iter().filter(|(program, _)| !is_newer_than_its_sources(&own.with_file_name(program)));
    let packages: Vec<_> = old.flat_map(|(_, package)| ["--package", package]).collect();
    if !packages.is_empty() {
        let built = Command::new(env!("CARGO")).args(["build", "--locked"]).args(packages).status().unwrap();
        assert!(built.success());
    }
}

/// By the list of them that cargo lays beside each program. False where there is no such program or list.
fn is_newer_than_its_sources(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let (Ok(built), Ok(list)) = (changed(program), std::fs::read_to_string(program.with_extension("d")))
    else {
        return false;
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    // Where a directory for what is built is shared, they may be another checkout's.
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let is_older =
        |source: &Path| source.starts_with(ours) && changed(source).is_ok_and(|changed| changed < built);
    !sources.is_empty() && sources.split_whitespace().all(|source| is_older(Path::new(source)))
}

/// Waits until it holds: far longer than it takes.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_mins(3), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_demo_shows_its_fault_and_does_what_it_is_told() {
    let mut demo = Demo::start();
    eventually("the third of four pods is slow, and it alone", || demo.pods("slow") == ["api-7d9c4f-c"]);
    eventually("payments fail", || demo.told("/services/shop/payments")["state"] == "failing");
    // Once the frontend's proxy needed but three connections for its calls, and one pod of the four had no requests for a minute.
    eventually("each pod of four has its share of 36 requests a second", || {
        let service = demo.told("/services/shop/api");
        let cards = service["podCards"].as_array().cloned().unwrap_or_default();
        cards.len() == 4 && cards.iter().all(|card| card["figures"]["rate"].as_f64() > Some(4.5))
    });
    eventually("the other three are well", || demo.pods("good").len() == 3);

    let kubeconfig =
        std::env::temp_dir().join(format!("outrigger-demo-{}/kubeconfig.json", demo.process.id()));
    let tap = |what: &str, flags: &[&str]| {
        let program = Path::new(env!("CARGO_BIN_EXE_outrigger-local")).with_file_name("outrigger");
        let mut command = Command::new(program);
        command.args(["tap", what, "-o", "json", "--count", "3", "--kubeconfig"]).arg(&kubeconfig);
        let output = command.args(flags).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let slow = tap("deploy/api", &["--min-latency", "250ms"]);
    assert!(slow.len() == 3 && slow.iter().all(|request| request["pod"] == "api-7d9c4f-c"), "{slow:?}");
    let failed = tap("svc/payments", &["--status", "5xx", "--path", "/payments/"]);
    assert!(failed.iter().all(|request| request["status"] == 500), "{failed:?}");
    let asked = tap("pod/frontend-7d9c4f-a", &["--direction", "outbound"]);
    assert!(asked.iter().all(|request| request["upstream"].is_string()), "{asked:?}");

    demo.types("profile v2");
    eventually("the profile reaches the pods that run", || {
        demo.told("/pods/shop/api-7d9c4f-a")["config"]["accessLog"] == "json"
    });
    demo.types("profile v3");
    eventually("the frontend leaves payments alone while they fail", || {
        let frontend = demo.told("/pods/shop/frontend-7d9c4f-a");
        frontend["breakers"].as_array().is_some_and(|breakers| {
            breakers.iter().any(|breaker| breaker["upstream"] == "payments" && breaker["state"] != "closed")
        })
    });
    demo.types("profile v1");
    // Of the pods that are left another is the third: the slow one was once forgotten, and stayed slow.
    demo.types("kill api-7d9c4f-a");
    eventually("the deleted pod is marked", || demo.pods("gone") == ["api-7d9c4f-a"]);
    demo.types("fault off");
    eventually("all is well", || {
        let slow = demo.told("/pods/shop/api-7d9c4f-c");
        slow["figures"]["p95"].as_f64().is_some_and(|p95| p95 < 100.0)
            && demo.told("/services/shop/payments")["state"] == "good"
    });
    demo.types("crash api-7d9c4f-d");
    eventually("the silent pod is marked", || demo.pods("gone").contains(&"api-7d9c4f-d".to_owned()));
    eventually("it says since when", || {
        let silent = demo.told("/pods/shop/api-7d9c4f-d");
        silent["findings"][0]["text"].as_str().is_some_and(|text| text.starts_with("no answer for"))
    });

    demo.types("quit");
    eventually("it ends", || demo.process.try_wait().unwrap().is_some());
    assert!(demo.process.wait().unwrap().success());
    let mut said = String::new();
    demo.process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("nothing is left behind"), "{said}");
    assert!(TcpStream::connect(&demo.dashboard).is_err(), "the dashboard has ended too");
}

/// Once, what it said to nobody any more was a panic, and all its processes stayed.
#[test]
fn a_demo_whose_reader_and_terminal_have_gone_lives_on_and_ends_clean() {
    let mut demo = Demo::start();
    drop(demo.process.stdin.take());
    drop(demo.process.stdout.take());
    eventually("the dashboard is there", || demo.told("/mesh")["pods"] == 6);
    let told = Command::new("kill").args(["-HUP", &demo.process.id().to_string()]).status().unwrap();
    assert!(told.success());
    eventually("it ends", || demo.process.try_wait().unwrap().is_some());
    assert!(demo.process.wait().unwrap().success());
    assert!(TcpStream::connect(&demo.dashboard).is_err(), "the dashboard has ended too");
}

/// Once its 13 processes stayed and kept their ports, and the next demo could not start.
#[test]
fn what_a_demo_has_started_ends_with_it_even_where_it_was_killed() {
    let mut demo = Demo::start();
    eventually("the dashboard is there", || demo.told("/mesh")["pods"] == 6);
    let block = block();
    let pods = ["10.1", "11.1", "11.2", "11.3", "11.4", "12.1"].map(|pod| format!("127.{block}.{pod}:15190"));
    let all: Vec<_> =
        pods.into_iter().chain([format!("127.{block}.90.1:10250"), demo.dashboard.clone()]).collect();
    let answer = || all.iter().filter(|address| TcpStream::connect(address).is_ok()).count();
    assert_eq!(answer(), all.len());
    demo.process.kill().unwrap();
    demo.process.wait().unwrap();
    eventually("all have ended", || answer() == 0);
}
