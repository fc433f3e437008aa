//! The access log on the stdout of the program.

mod support;

use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, channel};

use http::Response;
use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::profile::AccessLog;
use support::app::answering;
use support::client::Client;
use support::process::{ConfigFile, Process};
use support::{PATIENCE, client, closed_port, config, http2, text, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn document(port: u16, target: u16, access_log: AccessLog) -> String {
    text(&SidecarConfig { access_log, ..config(Protocol::Http, port, target) })
}

/// Lines of stdout as they come; ends with the process.
fn lines(stdout: ChildStdout) -> Receiver<serde_json::Value> {
    let (line, lines) = channel();
    std::thread::spawn(move || {
        for text in BufReader::new(stdout).lines() {
            let parsed = serde_json::from_str(&text.expect("stdout can be read"));
            let _ = line.send(parsed.expect("each line is JSON"));
        }
    });
    lines
}

#[test]
fn each_request_is_one_line_with_both_its_times() {
    let port = closed_port();
    let file = ConfigFile::new("logged", &document(port, answering(OK), AccessLog::Json));
    let mut proxy = Process::start_by(&file.0, port);
    let lines = lines(proxy.child.stdout.take().unwrap());
    let mut client = Client::connect(port);
    let traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client.send(format!(
        "POST /cart/7?token=secret HTTP/1.1\r\nHost: shop\r\nUser-Agent: cli/1 \"x\"\r\ntraceparent: {traced}\r\n\
         Content-Length: 3\r\n\r\nabc"
    ));
    client.answer();
    let line = lines.recv_timeout(PATIENCE).unwrap();
    for (name, wanted) in [
        ("direction", "inbound".into()),
        ("port", "web".into()),
        ("client", "127.0.0.1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("method", "POST".into()),
        ("host", "shop".into()),
        ("path", "/cart/7".into()),
        ("status", serde_json::json!(200)),
        ("reason", "".into()),
        ("requestBodyBytes", 3.into()),
        ("responseBodyBytes", 2.into()),
        ("userAgent", "cli/1 \"x\"".into()),
        ("traceId", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
    ] {
        assert_eq!(line[name], wanted, "{name} of {line}");
    }
    assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    let (total, own) = (line["durationSeconds"].as_f64().unwrap(), line["proxySeconds"].as_f64().unwrap());
    assert!(0.0 < own && own <= total, "{own} of {total}");

    client::request(port, "GET /a b HTTP/1.1\r\n\r\n");
    // What is not written yet is, before the process ends.
    proxy.signal("TERM");
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&line["status"], &line["reason"]), (&400.into(), &"bad_request".into()));
    assert!(lines.recv_timeout(PATIENCE).is_err(), "no more lines");
}

#[test]
fn a_call_by_grpc_is_one_line_with_its_own_status() {
    let port = closed_port();
    let app = http2::serve(async |call| {
        let mut respond = call.respond;
        let answer = Response::builder().header("grpc-status", "5").body(()).unwrap();
        respond.send_response(answer, true).unwrap();
    });
    let file = ConfigFile::new("grpc", &document(port, app, AccessLog::Json));
    let mut proxy = Process::start_by(&file.0, port);
    let lines = lines(proxy.child.stdout.take().unwrap());
    http2::run(async {
        http2::connect(port).await.call().await;
    });
    let line = lines.recv_timeout(PATIENCE).unwrap();
    for (name, wanted) in [
        ("client", "127.0.0.1"),
        ("protocol", "HTTP/2"),
        ("method", "POST"),
        ("host", "shop"),
        ("grpcStatus", "NOT_FOUND"),
    ] {
        assert_eq!(line[name], wanted, "{name} of {line}");
    }
}

#[test]
fn it_is_off_until_the_config_says_so_and_again_after() {
    let (port, app) = (closed_port(), answering(OK));
    let file = ConfigFile::new("switched", &text(&config(Protocol::Http, port, app)));
    let mut proxy = Process::start_by(&file.0, port);
    let lines = lines(proxy.child.stdout.take().unwrap());
    let mut client = Client::connect(port);
    client.get("/before");
    file.replace(&document(port, app, AccessLog::Json));
    let mut asked = 0;
    wait_until("a request is logged", || {
        asked += 1;
        client.get("/while");
        lines.try_recv().is_ok_and(|line| line["path"] == "/while")
    });
    file.replace(&document(port, app, AccessLog::None));
    let logged = || client::get(proxy.admin, "/config").text().contains("accessLog");
    wait_until("the change is taken", || !logged());
    // The worker hears of it a moment later.
    wait_until("requests are not logged", || {
        while lines.try_recv().is_ok() {}
        client.get("/after");
        lines.recv_timeout(std::time::Duration::from_millis(300)).is_err()
    });
}

#[test]
fn the_flag_stands_above_the_config() {
    let (port, app) = (closed_port(), answering(OK));
    for (flag, in_config, logged) in [("json", AccessLog::None, true), ("none", AccessLog::Json, false)] {
        let file = ConfigFile::new(&format!("flag-{flag}"), &document(port, app, in_config));
        let mut proxy = Process::start_with(&file.0, port, &["--access-log", flag]);
        let lines = lines(proxy.child.stdout.take().unwrap());
        client::get(port, "/");
        proxy.signal("TERM");
        assert_eq!(lines.recv_timeout(PATIENCE).is_ok(), logged, "{flag}");
        proxy.child.wait().unwrap();
    }
}

#[test]
fn stdout_that_nobody_reads_costs_lines_that_are_counted_and_no_request() {
    const REQUESTS: u64 = 3000;
    let port = closed_port();
    let file = ConfigFile::new("unread", &document(port, answering(OK), AccessLog::Json));
    let mut proxy = Process::start_by(&file.0, port);
    let mut client = Client::connect(port);
    let path = format!("/{}", "x".repeat(1500));
    for _ in 0..REQUESTS {
        assert_eq!(client.get(&path).status, 200);
    }
    let admin = proxy.admin;
    let dropped = || {
        let text = client::get(admin, "/metrics").text();
        let line =
            text.lines().find_map(|line| line.strip_prefix("outrigger_access_log_lines_dropped_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    wait_until("lines are dropped", || dropped() > 0);
    let lines = lines(proxy.child.stdout.take().unwrap());
    let mut written = 0;
    wait_until("each request was written or counted", || {
        written += lines.try_iter().count() as u64;
        written + dropped() == REQUESTS
    });
}
