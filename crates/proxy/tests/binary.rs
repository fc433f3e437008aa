//! The binary itself: its messages, its signals, its memory.

mod support;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Output;

use outrigger_api::config::Protocol;
use support::app::{answering, serve};
use support::client::Client;
use support::process::{ConfigFile, Process, command};
use support::{client, closed_port, config, wait_until};

fn refused(name: &str, text: &str) -> (Output, ConfigFile) {
    let file = ConfigFile::new(name, text);
    (command(&file.0, closed_port()).output().expect("the binary starts"), file)
}

#[test]
fn bad_config_is_one_line_that_names_file_and_field() {
    for (name, text, wanted) in [
        ("syntax", "{", "EOF while parsing"),
        (
            "field",
            r#"{"version":1,"profile":"a/b","token":"t","inbound":[{"name":"x"}]}"#,
            "inbound[0]: missing field `listen`",
        ),
        ("type", r#"{"version":1,"profile":"a/b","token":7}"#, "token: invalid type"),
        (
            "check",
            r#"{"version":1,"profile":"a/b","token":"t","inbound":[{"name":"x","listen":0,"target":1,"protocol":"tcp"}]}"#,
            "listen port 0",
        ),
    ] {
        let (output, file) = refused(name, text);
        assert_eq!(output.status.code(), Some(64), "{name}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains(wanted), "{message}");
        assert!(message.contains(file.0.to_str().unwrap()), "{message}");
    }
}

#[test]
fn missing_config_names_the_file() {
    let (file, admin) = (ConfigFile(PathBuf::from("/nowhere/config.json")), closed_port());
    let output = command(&file.0, admin).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("failed to read sidecar config /nowhere/config.json"), "{message}");
}

#[test]
fn bad_address_of_the_app_is_named() {
    let file = ConfigFile::new("address", "{}");
    for wrong in ["10.0.0.300", "10.0.0.1,", "web.shop.svc", ""] {
        let output = command(&file.0, closed_port()).env("POD_IPS", wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("--app-address"), "{message}");
    }
}

#[test]
fn addresses_of_both_families_are_taken_as_the_downward_api_gives_them() {
    let file = ConfigFile::new("families", "{");
    let output = command(&file.0, closed_port()).env("POD_IPS", "10.0.0.1,fd00::1").output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("sidecar config"), "it came as far as the config: {message}");
}

#[test]
fn taken_port_names_the_port() {
    let taken = std::net::TcpListener::bind(("::", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = serde_json::to_string(&config(Protocol::Http, port, 1)).unwrap();
    let (output, _file) = refused("taken", &text);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&format!("failed to listen on port {port} for web")), "{message}");
}

#[test]
fn sigterm_lets_the_request_in_flight_end_and_exits_0() {
    let (answer_now, when) = std::sync::mpsc::channel::<()>();
    let when = std::sync::Mutex::new(when);
    let mut process = Process::start(
        "sigterm",
        serve(move |mut connection| {
            connection.request();
            when.lock().unwrap().recv().unwrap();
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }),
    );
    let mut client = Client::connect(process.port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let in_flight = r#"active_requests{direction="inbound",port="web"} 1"#;
    wait_until("it is in flight", || client::get(process.admin, "/metrics").text().contains(in_flight));
    process.signal("TERM");
    wait_until("it drains", || client::get(process.admin, "/ready").status == 503);
    answer_now.send(()).unwrap();
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    assert!(log.contains("SIGTERM"), "{log}");
}

/// Those that waited for their turn when the listener stopped were reset: of three hundred, 280.
#[test]
fn requests_that_came_before_sigterm_are_answered() {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut process = Process::start("arrived", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let mut clients: Vec<_> = (0..300).map(|_| Client::connect(process.port)).collect();
    for client in &mut clients {
        client.send(REQUEST);
        assert_eq!(client.answer().text(), "ok");
    }
    process.signal("STOP");
    for client in &mut clients {
        client.send(REQUEST);
    }
    process.signal("TERM");
    process.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.answer().text(), "ok");
    }
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn app_that_is_down_is_warned_of_and_not_at_every_request() {
    let mut process = Process::start("down", closed_port());
    for _ in 0..20 {
        assert_eq!(client::get(process.port, "/").status, 502);
    }
    process.signal("TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("connect_refused") && warnings[0].contains("\"port\":\"web\""), "{log}");
}

#[test]
fn second_signal_ends_it_at_once() {
    let mut process = Process::start("twice", serve(|mut connection| connection.wait_for_close()));
    let mut client = Client::connect(process.port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let in_flight = r#"active_requests{direction="inbound",port="web"} 1"#;
    wait_until("it is in flight", || client::get(process.admin, "/metrics").text().contains(in_flight));
    process.signal("TERM");
    wait_until("it drains", || client::get(process.admin, "/ready").status == 503);
    process.signal("TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
}

/// More than the memory of the pod that the proxy is in, by a lot.
const MEGABYTES: usize = 1024;
/// A debug build that has served nothing peaks at about half of it.
const MEMORY_BOUND_KIB: u64 = 24 * 1024;

#[test]
fn large_answer_to_a_slow_reader_is_held_back_not_held() {
    let process = Process::start(
        "download",
        serve(|mut connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MEGABYTES << 20));
            let chunk = vec![7; 1 << 20];
            for _ in 0..MEGABYTES {
                connection.send(&chunk);
            }
        }),
    );
    let mut client = Client::connect(process.port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    // Nothing is read until the proxy has taken no more for as long as a scrape takes.
    let taken = || {
        client::get(process.admin, "/metrics")
            .text()
            .lines()
            .find(|line| line.contains("response_body_bytes_total{"))
            .map(str::to_owned)
    };
    let mut last = None;
    wait_until("the proxy holds back", || {
        let now = taken();
        std::mem::replace(&mut last, now.clone()) == now
    });
    let mut left = MEGABYTES << 20;
    let (mut buffer, sevens) = (vec![0; 1 << 16], vec![7; 1 << 16]);
    while left > 0 {
        let length = client.reader.read(&mut buffer).unwrap();
        assert!(length > 0 && buffer[..length] == sevens[..length]);
        left -= length;
    }
    assert!(process.peak() < MEMORY_BOUND_KIB, "{} KiB", process.peak());
}

#[test]
fn large_upload_is_passed_on_not_held() {
    let process = Process::start(
        "upload",
        serve(|mut connection| {
            connection.head();
            let mut left = MEGABYTES << 20;
            let mut buffer = vec![0; 1 << 16];
            while left > 0 {
                let length = connection.reader.read(&mut buffer).unwrap();
                assert!(length > 0);
                left -= length;
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }),
    );
    let mut client = Client::connect(process.port);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", MEGABYTES << 20));
    let chunk = vec![7; 1 << 20];
    for _ in 0..MEGABYTES {
        client.reader.get_mut().write_all(&chunk).unwrap();
    }
    assert_eq!(client.answer().text(), "ok");
    assert!(process.peak() < MEMORY_BOUND_KIB, "{} KiB", process.peak());
}

/// A plain container gets SIGTERM together with the app, which may go on answering: the hook holds it back.
#[test]
fn the_drain_hook_waits_until_the_app_listens_no_more() {
    let app = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let process = Process::start("until", app.local_addr().unwrap().port());
    let hook = |limit: &str| process.command(&["drain", &format!("--until-app-ends={limit}")]);
    let mut waiting = hook("1m").spawn().unwrap();
    // It waits no longer than it is told to; the other one still does, however late it began.
    assert!(hook("1s").status().unwrap().success());
    assert!(waiting.try_wait().unwrap().is_none(), "the app still listens");
    drop(app);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn the_start_hook_waits_until_the_proxy_is_ready() {
    let process = Process::start("wait", closed_port());
    assert!(process.command(&["wait"]).status().unwrap().success());
    let file = ConfigFile::new("wait-in-vain", "{}");
    let output = command(&file.0, closed_port()).args(["wait", "--timeout=1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("the proxy was not ready in 1 s: Connection refused"), "{message}");
}
