//! Connections that the kernel sends to the proxy: with real rules and packets, in network namespaces of the tests' own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

#[path = "../../redirect/tests/support/mod.rs"]
mod network;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use network::{Link, Namespace, PATIENCE, POD, Program, WORLD};
use outrigger_api::config::{Inbound, Interception, Protocol, SidecarConfig, Upstream};
use outrigger_redirect::kernel;
use outrigger_redirect::rules::Wanted;
use support::process::ConfigFile;
use support::{config, text, wait_until};

const PROXY: u32 = 15180;

/// A pod with a proxy, and rules that bring it all traffic.
struct Pod {
    link: Link,
    proxy: (Child, Program),
    config: ConfigFile,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.proxy.0.kill();
        let _ = self.proxy.0.wait();
    }
}

fn upstream(name: &str, host: &str, port: u16) -> Upstream {
    Upstream {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
        protocol: Protocol::Auto,
        listen: None,
        ..Upstream::default()
    }
}

fn document(upstreams: Vec<Upstream>) -> String {
    let inbound = Inbound {
        listen: 15180,
        protocol: Protocol::Http,
        ..config(Protocol::Http, 15180, 8080).inbound.remove(0)
    };
    text(&SidecarConfig {
        interception: Interception::Redirect,
        inbound: vec![inbound],
        upstreams,
        ..config(Protocol::Http, 15180, 8080)
    })
}

impl Pod {
    fn new(name: &str, upstreams: Vec<Upstream>) -> Self {
        let link = Link::new();
        let file = ConfigFile::new(name, &document(upstreams));
        let proxy = start(&link.pod, &file.0);
        let rules = Wanted { proxy_uid: PROXY, ..Wanted::default() };
        link.pod.run(|| kernel::write(&rules)).unwrap();
        let pod = Self { link, proxy, config: file };
        wait_until("the proxy is ready", || pod.admin("/ready").starts_with("HTTP/1.1 200"));
        pod
    }

    /// What the admin server answers.
    fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        exchange(&self.link.pod, "127.0.0.1", 15190, &request).unwrap_or_default()
    }

    /// The value of the series whose line begins so and has all of these.
    fn metric(&self, family: &str, labels: &[&str]) -> u64 {
        let metrics = self.admin("/metrics");
        let prefix = format!("outrigger_{family}{{");
        let lines = metrics.lines().filter(|line| line.starts_with(&prefix));
        let found = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        found.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }
}

fn start(pod: &Namespace, config: &Path) -> (Child, Program) {
    let program = Program::of(env!("CARGO_BIN_EXE_outrigger-proxy"));
    let mut command = pod.command_as(PROXY, program.path(), &["--config", config.to_str().unwrap()]);
    command.env("POD_IPS", POD.join(","));
    (command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), program)
}

fn connect(from: &Namespace, address: &str, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let stream = from.run(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends this, and returns what comes until the end; `None` where the connection breaks.
fn exchange(from: &Namespace, address: &str, port: u16, request: &str) -> Option<String> {
    let mut stream = connect(from, address, port).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn get(from: &Namespace, address: &str, port: u16, host: &str) -> Option<String> {
    exchange(from, address, port, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// Answers one request on each connection with this body.
fn web(at: &Namespace, address: &str, port: u16, body: &'static str) {
    listen(at, address, port, move |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    });
}

fn listen(at: &Namespace, address: &str, port: u16, serve: impl Fn(TcpStream) + Clone + Send + 'static) {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let listener = at.run(|| TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
}

#[test]
fn what_comes_in_is_served_by_where_it_was_going() {
    let pod = Pod::new("redirected-in", Vec::new());
    web(&pod.link.pod, "::", 8080, "declared");
    web(&pod.link.pod, "::", 9090, "not declared");
    for address in POD {
        let answer = get(&pod.link.world, address, 8080, "shop").unwrap();
        assert!(answer.ends_with("declared"), "{address}: {answer}");
        let answer = get(&pod.link.world, address, 9090, "shop").unwrap();
        assert!(answer.ends_with("not declared"), "{address}: {answer}");
    }
    let counted =
        |port| pod.metric("http_requests_total", &[r#"direction="inbound""#, port, r#"code="200""#]);
    wait_until("all are counted", || counted(r#"port="web""#) == 2 && counted(r#"port="_other""#) == 2);
}

/// A neighbour that takes the pod for a gateway, or sends it what is for its loopback: the rules see that before the kernel drops it.
#[test]
fn what_is_for_an_address_that_the_pod_does_not_have_is_refused() {
    let pod = Pod::new("redirected-foreign", Vec::new());
    let route = ["route", "add", "203.0.113.9", "via", POD[0]];
    assert!(pod.link.world.command("ip", &route).status().unwrap().success());
    assert_eq!(get(&pod.link.world, "203.0.113.9", 8080, "shop"), None);
    let refused =
        || pod.metric("tcp_connections_closed_total", &[r#"direction="inbound""#, r#"reason="loop""#]);
    wait_until("it is counted", || refused() == 1);
}

/// As without a proxy: what listens on loopback alone is not for others, and here they are told so.
#[test]
fn an_app_on_loopback_is_not_opened_to_the_world_and_says_why() {
    let pod = Pod::new("redirected-loopback", Vec::new());
    web(&pod.link.pod, "127.0.0.1", 8080, "private");
    let answer = get(&pod.link.world, POD[0], 8080, "shop").unwrap();
    assert!(answer.contains("outrigger-reason: connect_refused"), "{answer}");
    assert!(answer.contains("loopback only"), "{answer}");
}

#[test]
fn calls_are_counted_by_upstream_and_else_by_port() {
    let upstreams = vec![upstream("api", WORLD[0], 80), upstream("named", "shop.example", 8000)];
    let pod = Pod::new("redirected-out", upstreams);
    for port in [80, 8000, 8001] {
        web(&pod.link.world, "::", port, "hello");
    }
    let calls = [
        // By its address.
        (WORLD[0], 80, "whatever"),
        // The other family's is not the upstream's, and its host neither.
        (WORLD[1], 80, "whatever"),
        // By the host that is named, which DNS does not know here.
        (WORLD[0], 8000, "Shop.Example:8000"),
        (WORLD[1], 8000, "shop.example."),
        (WORLD[0], 8000, "else.example"),
        (WORLD[0], 8001, "shop.example"),
    ];
    for (address, port, host) in calls {
        let answer = get(&pod.link.pod, address, port, host).unwrap();
        assert!(answer.ends_with("hello"), "{address} {port}: {answer}");
    }
    let counted = |upstream: &str, port: &str| {
        let (upstream, port) = (format!("upstream={upstream:?}"), format!("port={port:?}"));
        pod.metric("http_requests_total", &[r#"direction="outbound""#, &upstream, &port, r#"code="200""#])
    };
    let all = || {
        [("api", "80"), ("_other", "80"), ("named", "8000"), ("_other", "8000"), ("_other", "8001")]
            .map(|(upstream, port)| counted(upstream, port))
    };
    wait_until("all are counted", || all() == [1, 1, 2, 1, 1]);
}

/// linkerd2#1505: clients of servers that speak first hung until detection gave up.
#[test]
fn a_server_that_speaks_first_is_heard() {
    let pod = Pod::new("redirected-first", Vec::new());
    listen(&pod.link.world, "::", 3306, |mut stream| {
        let _ = stream.write_all(b"hello!");
        let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
    });
    for address in WORLD {
        // The first connection of all waits for the neighbour's hardware address.
        connect(&pod.link.pod, address, 3306).unwrap().read_exact(&mut [0; 6]).unwrap();
        let mut stream = connect(&pod.link.pod, address, 3306).unwrap();
        let connected = Instant::now();
        let mut greeting = [0; 6];
        stream.read_exact(&mut greeting).unwrap();
        // It once waited a second for the client's first line.
        assert!(connected.elapsed() < Duration::from_millis(900), "{:?}", connected.elapsed());
        assert_eq!(&greeting, b"hello!");
        stream.write_all(b"GET me\r\n").unwrap();
        let mut echo = [0; 8];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"GET me\r\n");
    }
    let opened = || pod.metric("tcp_connections_opened_total", &[r#"upstream="_other""#, r#"port="3306""#]);
    wait_until("all are counted", || opened() == 4);
}

#[test]
fn nobody_there_is_told_as_far_as_the_protocol_can() {
    let pod = Pod::new("redirected-nobody", Vec::new());
    let answer = get(&pod.link.pod, WORLD[0], 81, "shop").unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("the upstream refuses connections"), "{answer}");
    // By another protocol there is no way to say so but a reset.
    assert_eq!(exchange(&pod.link.pod, WORLD[0], 81, "\x16\x03\x01"), None);
}

#[test]
fn the_proxy_does_not_call_itself() {
    let pod = Pod::new("redirected-loop", Vec::new());
    for (from, address, port) in [
        (&pod.link.world, POD[0], 15180),
        (&pod.link.world, POD[1], 15181),
        (&pod.link.pod, "127.0.0.1", 15180),
        (&pod.link.pod, "127.0.0.1", 15181),
        (&pod.link.pod, "::1", 15181),
        (&pod.link.pod, POD[0], 15180),
    ] {
        assert_eq!(get(from, address, port, "shop"), None, "{address} {port}");
    }
    let refused = || pod.metric("tcp_connections_closed_total", &[r#"reason="loop""#]);
    wait_until("each is counted", || refused() == 6);
}

#[test]
fn a_proxy_that_is_gone_cuts_traffic_off_and_lets_none_past() {
    let mut pod = Pod::new("redirected-gone", Vec::new());
    web(&pod.link.pod, "::", 8080, "app");
    web(&pod.link.world, "::", 80, "world");
    assert!(get(&pod.link.world, POD[0], 8080, "shop").is_some());
    pod.proxy.0.kill().unwrap();
    pod.proxy.0.wait().unwrap();
    for (from, address, port) in [(&pod.link.world, POD[0], 8080), (&pod.link.pod, WORLD[0], 80)] {
        assert_eq!(get(from, address, port, "shop"), None, "{address} {port}");
    }
    // Its next start finds the rules there.
    pod.proxy = start(&pod.link.pod, &pod.config.0);
    wait_until("traffic flows", || get(&pod.link.pod, WORLD[0], 80, "shop").is_some());
}

#[test]
fn a_changed_config_counts_for_calls_on_open_connections() {
    let pod = Pod::new("redirected-reload", Vec::new());
    listen(&pod.link.world, "::", 80, |mut stream| {
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).is_ok_and(|length| length > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut stream = connect(&pod.link.pod, WORLD[0], 80).unwrap();
    let mut ask = || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = [0; 38];
        stream.read_exact(&mut answer).unwrap();
    };
    let counted = |upstream| pod.metric("http_requests_total", &[upstream, r#"port="80""#, r#"code="200""#]);
    ask();
    wait_until("it is counted as nobody known's", || counted(r#"upstream="_other""#) == 1);
    pod.config.replace(&document(vec![upstream("api", WORLD[0], 80)]));
    wait_until("calls are the upstream's", || {
        ask();
        counted(r#"upstream="api""#) > 0
    });
}
