//! A changed config takes effect while the proxy runs, and costs no connection.

mod support;

use std::net::TcpStream;

use outrigger_api::config::{Inbound, Protocol, SidecarConfig};
use outrigger_api::profile::LogLevel;
use support::app::{answering, serve};
use support::client::Client;
use support::{Running, TOKEN, client, closed_port, config, http, tcp, text, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[allow(clippy::unwrap_used)] // part of tests, though not marked as one
fn shown(proxy: &Running) -> serde_json::Value {
    serde_json::from_str(&client::get(proxy.admin, "/config").text()).unwrap()
}

fn change(proxy: &Running, config: &SidecarConfig) {
    proxy.rewrite(&text(config));
    wait_until("it is taken", || shown(proxy)["config"]["inbound"] == serde_json::json!(config.inbound));
}

fn inbound(name: &str, listen: u16, target: u16, protocol: Protocol) -> Inbound {
    Inbound { name: name.to_owned(), listen, target, protocol, ..Inbound::default() }
}

#[test]
fn requests_on_an_open_connection_go_by_the_new_config() {
    let proxy = http(answering(OK));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "ok");
    let other = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    change(&proxy, &config(Protocol::Http, proxy.port, other));
    wait_until("the new app answers", || client.get("/").text() == "other");
}

#[test]
fn tcp_port_becomes_http_and_what_is_open_stays_open() {
    let proxy = tcp(answering(OK));
    let mut relayed = proxy.connect();
    relayed.get("/");
    assert_eq!(proxy.requests("GET", "200", ""), 0);
    let target =
        shown(&proxy)["config"]["inbound"][0]["target"].as_u64().and_then(|port| port.try_into().ok());
    change(&proxy, &config(Protocol::Http, proxy.port, target.unwrap()));
    wait_until("requests are counted", || {
        proxy.connect().get("/");
        proxy.requests("GET", "200", "") > 0
    });
    assert_eq!(relayed.get("/").text(), "ok");
    assert_eq!(proxy.of_port("tcp_open_connections"), 1);
}

#[test]
fn port_that_is_added_is_served() {
    let proxy = http(closed_port());
    let (listen, target) = (closed_port(), answering(OK));
    let mut wanted = config(Protocol::Http, proxy.port, closed_port());
    wanted.inbound.push(inbound("more", listen, target, Protocol::Http));
    change(&proxy, &wanted);
    assert_eq!(client::get(listen, "/").text(), "ok");
    let series = r#"http_requests_total{direction="inbound",port="more",method="GET",code="200",protocol="HTTP/1.1",reason=""}"#;
    wait_until("it is counted", || proxy.metric(series) == 1);
}

#[test]
fn port_that_is_removed_finishes_what_is_under_way() {
    let (answer_now, when) = std::sync::mpsc::channel::<()>();
    let when = std::sync::Mutex::new(when);
    let proxy = http(serve(move |mut connection| {
        while connection.request().is_some() {
            when.lock().unwrap().recv().unwrap();
            connection.send(OK);
        }
    }));
    let mut idle = proxy.connect();
    answer_now.send(()).unwrap();
    idle.get("/");
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("it is in flight", || proxy.active() == 1);
    change(&proxy, &SidecarConfig { inbound: Vec::new(), ..config(Protocol::Http, 1, 1) });
    wait_until("nothing listens", || TcpStream::connect(("127.0.0.1", proxy.port)).is_err());
    assert!(idle.is_closed_by_peer());
    answer_now.send(()).unwrap();
    let answer = busy.answer();
    assert_eq!(answer.text(), "ok");
    assert!(answer.head.to_lowercase().contains("connection: close"), "{}", answer.head);
    assert_eq!(proxy.requests("GET", "200", ""), 2, "counters stay");
}

#[test]
fn bad_document_changes_nothing_and_says_why() {
    let proxy = http(answering(OK));
    let mut client = proxy.connect();
    client.get("/");
    let good = config(Protocol::Http, proxy.port, 1);
    let twice = SidecarConfig { inbound: vec![good.inbound[0].clone(), good.inbound[0].clone()], ..good };
    for (document, wanted) in [
        ("{".to_owned(), "EOF while parsing"),
        (text(&twice), "appears twice"),
        (r#"{"version":1,"profile":"a/b","token":7}"#.to_owned(), "token: invalid type"),
    ] {
        proxy.rewrite(&document);
        wait_until("it is refused", || {
            shown(&proxy)["refused"]["error"].as_str().is_some_and(|error| error.contains(wanted))
        });
        assert_eq!(proxy.metric("config_last_reload_success"), 0);
        assert_eq!(client.get("/").text(), "ok");
    }
    let again = config(Protocol::Http, proxy.port, answering(OK));
    change(&proxy, &again);
    assert_eq!(proxy.metric("config_last_reload_success"), 1);
    assert_eq!(shown(&proxy)["refused"], serde_json::Value::Null);
}

#[test]
fn port_that_is_taken_refuses_the_whole_document_until_it_is_free() {
    let proxy = http(answering(OK));
    let holder = std::net::TcpListener::bind(("::", 0)).unwrap();
    let listen = holder.local_addr().unwrap().port();
    let mut wanted = config(Protocol::Http, proxy.port, closed_port());
    wanted.inbound.push(inbound("more", listen, closed_port(), Protocol::Http));
    proxy.rewrite(&text(&wanted));
    let named = format!("failed to listen on port {listen} for more");
    wait_until("it is refused", || {
        shown(&proxy)["refused"]["error"].as_str().is_some_and(|error| error.contains(&named))
    });
    assert_eq!(proxy.connect().get("/").text(), "ok");
    drop(holder);
    wait_until("it is taken", || shown(&proxy)["refused"].is_null());
    assert_eq!(client::get(listen, "/").status, 502);
}

#[test]
fn token_and_unknown_fields() {
    let proxy = http(answering(OK));
    let renewed = SidecarConfig {
        token: "another".to_owned(),
        log_level: LogLevel::Debug,
        ..config(Protocol::Http, proxy.port, closed_port())
    };
    let mut document = serde_json::to_value(&renewed).unwrap();
    document["newer"] = serde_json::json!({"a": 1});
    let before = shown(&proxy)["hash"].clone();
    proxy.rewrite(&document.to_string());
    wait_until("it is taken", || shown(&proxy)["ignoredFields"] == serde_json::json!(["newer"]));
    assert_ne!(shown(&proxy)["hash"], before);
    let status = |token: &str| {
        let head = format!("GET /stats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}");
        client::request(proxy.admin, &format!("{head}\r\nConnection: close\r\n\r\n")).status
    };
    assert_eq!((status(TOKEN), status("another")), (401, 200));
}

/// Pods outlive versions of the webhook, which writes their documents, in both directions.
#[test]
fn documents_of_older_and_newer_versions_are_run_by() {
    let proxy = http(closed_port());
    let (listen, app) = (proxy.port, answering(OK));
    let inbound = format!(r#"{{"name":"web","listen":{listen},"target":{app},"protocol":"http""#);
    // With nothing in it that came later.
    proxy.rewrite(&format!(r#"{{"version":1,"profile":"a/old","token":"t","inbound":[{inbound}}}]}}"#));
    wait_until("the older one is taken", || shown(&proxy)["config"]["profile"] == "a/old");
    assert_eq!(proxy.connect().get("/").text(), "ok");
    assert_eq!(shown(&proxy)["ignoredFields"], serde_json::json!([]));

    proxy.rewrite(&format!(
        r#"{{"version":2,"profile":"a/new","token":"t","mesh":{{"a":1}},"inbound":[{inbound},"quota":{{"rps":5}}}}]}}"#
    ));
    wait_until("the newer one is taken", || shown(&proxy)["config"]["profile"] == "a/new");
    assert_eq!(proxy.connect().get("/").text(), "ok");
    assert_eq!(shown(&proxy)["ignoredFields"], serde_json::json!(["mesh", "inbound.0.quota"]));

    // A value that it does not know can't be guessed.
    let unknown = inbound.replace(r#""http""#, r#""http9""#);
    proxy.rewrite(&format!(r#"{{"version":2,"profile":"a/newer","token":"t","inbound":[{unknown}}}]}}"#));
    wait_until("that one is refused", || {
        shown(&proxy)["refused"]["error"].as_str().is_some_and(|error| error.contains("http9"))
    });
    assert_eq!(proxy.connect().get("/").text(), "ok");
}

/// The kubelet swaps a symbolic link to a directory, `..data`, and the file is a link through it.
#[test]
fn the_way_the_kubelet_changes_a_volume_is_seen() {
    let root = std::env::temp_dir().join(format!("outrigger-volume-{}", std::process::id()));
    let write = |version: &str, target: u16, listen: u16| {
        let directory = root.join(version);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.json"), text(&config(Protocol::Http, listen, target))).unwrap();
        let link = root.join("..data_tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, root.join("..data")).unwrap();
    };
    let listen = closed_port();
    write("..1", closed_port(), listen);
    std::os::unix::fs::symlink("..data/config.json", root.join("config.json")).unwrap();
    let process = support::process::Process::start_by(&root.join("config.json"), listen);
    let mut client = Client::connect(process.port);
    assert_eq!(client.get("/").status, 502);
    write("..2", answering(OK), listen);
    std::fs::remove_dir_all(root.join("..1")).unwrap();
    wait_until("the new app answers", || client.get("/").status == 200);
    std::fs::remove_dir_all(root).unwrap();
}
