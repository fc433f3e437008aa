//! Connections that the kernel sends to the proxy: with real rules and packets, in network namespaces of the tests' own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

#[path = "../../redirect/tests/support/mod.rs"]
mod network;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use network::{Link, Namespace, PATIENCE, POD, Program, WORLD};
use outrigger_api::circuit_breaker::CircuitBreakerSpec;
use outrigger_api::config::{Inbound, Interception, Protocol, SidecarConfig, Upstream};
use outrigger_api::traffic::{LimitsSpec, RateSpec};
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
    /// What the proxy says.
    log: ConfigFile,
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

fn inbound(name: &str, target: u16, protocol: Protocol) -> Inbound {
    Inbound { name: name.to_owned(), listen: 15180, target, protocol, ..Inbound::default() }
}

fn document(upstreams: Vec<Upstream>) -> String {
    document_of(vec![inbound("web", 8080, Protocol::Http)], upstreams)
}

fn document_of(inbound: Vec<Inbound>, upstreams: Vec<Upstream>) -> String {
    text(&SidecarConfig {
        interception: Interception::Redirect,
        inbound,
        upstreams,
        ..config(Protocol::Http, 15180, 8080)
    })
}

/// So many requests, and no more for an hour.
fn limit(requests: u32) -> LimitsSpec {
    let rate = RateSpec { requests: 1, per: "1h".parse().unwrap(), burst: Some(requests) };
    LimitsSpec { rate: Some(rate), ..LimitsSpec::default() }
}

impl Pod {
    fn new(name: &str, upstreams: Vec<Upstream>) -> Self {
        Self::by(name, &document(upstreams), None)
    }

    /// With this config, and names of hosts from this file where there is one.
    fn by(name: &str, document: &str, hosts: Option<&Path>) -> Self {
        Self::beside_rules_for(PROXY, name, document, hosts)
    }

    /// With rules that leave this user's calls alone.
    fn beside_rules_for(user: u32, name: &str, document: &str, hosts: Option<&Path>) -> Self {
        let link = Link::new();
        let file = ConfigFile::new(name, document);
        let log = ConfigFile::new(&format!("{name}-log"), "");
        let proxy = start(&link.pod, &file.0, &log.0, hosts);
        let rules = Wanted { proxy_uid: user, ..Wanted::default() };
        link.pod.run(|| kernel::write(&rules)).unwrap();
        let pod = Self { link, proxy, config: file, log };
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

fn start(pod: &Namespace, config: &Path, log: &Path, hosts: Option<&Path>) -> (Child, Program) {
    let program = Program::of(env!("CARGO_BIN_EXE_outrigger-proxy"));
    let args = ["--config", config.to_str().unwrap()];
    let mut command = match hosts {
        None => pod.command_as(PROXY, program.path(), &args),
        Some(hosts) => {
            let script = format!(
                "mount --bind {} /etc/hosts && exec setpriv --reuid={PROXY} --regid={PROXY} --clear-groups \"$@\"",
                hosts.display()
            );
            let shell = ["--mount", "sh", "-c", &script, "sh", program.path()];
            pod.command("unshare", &[&shell[..], &args].concat())
        }
    };
    command.env("POD_IPS", POD.join(","));
    let log = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    (command.stdout(Stdio::null()).stderr(log).spawn().unwrap(), program)
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
    let reasons = |reason: &str| {
        pod.metric("tcp_connections_closed_total", &[r#"direction="inbound""#, &format!("reason={reason:?}")])
    };
    wait_until("it is counted", || reasons("foreign_address") == 1);
    assert_eq!(reasons("loop"), 0, "it once counted as a call of the proxy to itself");
    // A broadcast address of the pod's, which to the world is one host's. It was tried, and the app blamed.
    let broadcast = "10.123.0.255";
    for route in [
        ["route", "del", "table", "local", "broadcast", broadcast].as_slice(),
        &["route", "add", broadcast, "via", POD[0]],
    ] {
        pod.link.world.ip(route);
    }
    assert_eq!(get(&pod.link.world, broadcast, 8080, "shop"), None);
    wait_until("it is counted", || reasons("foreign_address") == 2);
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
        let mut kept = None;
        // It once waited a second for the client's first line, each time.
        wait_until("the greeting comes soon", || {
            let mut stream = connect(&pod.link.pod, address, 3306).unwrap();
            let connected = Instant::now();
            let mut greeting = [0; 6];
            stream.read_exact(&mut greeting).unwrap();
            let soon = connected.elapsed() < Duration::from_millis(900);
            assert_eq!(&greeting, b"hello!");
            kept = Some(stream);
            soon
        });
        let mut stream = kept.unwrap();
        stream.write_all(b"GET me\r\n").unwrap();
        let mut echo = [0; 8];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"GET me\r\n");
    }
    let opened = || pod.metric("tcp_connections_opened_total", &[r#"upstream="_other""#, r#"port="3306""#]);
    wait_until("all are counted", || opened() >= 4);
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

/// A policy that sets the proxy's user after the injection. One call of the app went round until the proxy had 5,000 connections, and its
/// warnings blamed these.
#[test]
fn the_proxys_calls_that_come_back_to_it_are_refused_as_a_loop() {
    let pod = Pod::beside_rules_for(PROXY + 1, "redirected-user", &document(Vec::new()), None);
    web(&pod.link.world, "::", 80, "hello");
    for address in WORLD {
        let answer = get(&pod.link.pod, address, 80, "shop").unwrap_or_default();
        assert!(!answer.ends_with("hello"), "{answer}");
    }
    let refused =
        || pod.metric("tcp_connections_closed_total", &[r#"direction="outbound""#, r#"reason="loop""#]);
    wait_until("each is counted", || refused() >= 2);
    let opened = pod.metric("tcp_connections_opened_total", &[r#"direction="outbound""#]);
    assert!(opened < 100, "{opened}");
}

/// Listeners beyond 512 destinations were not known to what stops them and what changes them: the drain took all of its 25 s.
#[test]
fn a_changed_config_and_the_end_are_for_connections_to_many_destinations_too() {
    let pod = Pod::new("redirected-many", Vec::new());
    let ask = |stream: &mut TcpStream| -> io::Result<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = [0; 2048];
        // It comes in one piece.
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    // Who says nothing for 10 ms, as this thread on a busy machine, may wait for the server to speak first: it is connected, and reset.
    let kept = |port| {
        let mut stream = None;
        wait_until("nobody listens there, which is told", || {
            let stream = stream.insert(connect(&pod.link.world, POD[0], port).unwrap());
            ask(stream).is_ok_and(|answer| answer.starts_with("HTTP/1.1 502"))
        });
        stream.unwrap()
    };
    let mut streams: Vec<_> = (20_000..20_520).map(kept).collect();
    let rest = Inbound { limits: limit(1), ..inbound("_other", 0, Protocol::Auto) };
    pod.config.replace(&document_of(vec![rest], Vec::new()));
    let last = streams.last_mut().unwrap();
    wait_until("the limit counts for the last", || ask(last).unwrap().starts_with("HTTP/1.1 429"));
    let ended = Instant::now();
    assert!(pod.link.pod.command("kill", &[&pod.proxy.0.id().to_string()]).status().unwrap().success());
    for mut stream in streams {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // Not at the end of the time that a drain has, which is 25 s.
    assert!(ended.elapsed() < Duration::from_secs(20), "{:?}", ended.elapsed());
}

/// What is behind one ingress. The first in the profile had the requests of both.
#[test]
fn of_upstreams_with_one_address_the_host_says_whose_a_request_is() {
    let hosts = ConfigFile::new("redirected-shared", &format!("{} a.example b.example\n", WORLD[0]));
    let limited = Upstream { limits: limit(2), ..upstream("b", "b.example", 80) };
    let known = document(vec![upstream("a", "a.example", 80), limited]);
    let pod = Pod::by("redirected-ingress", &known, Some(&hosts.0));
    web(&pod.link.world, "::", 80, "hello");
    // Both are found.
    wait_until("the limit of b counts", || {
        get(&pod.link.pod, WORLD[0], 80, "b.example").unwrap().starts_with("HTTP/1.1 429")
    });
    for host in ["a.example", "A.example:80", "c.example"] {
        assert!(get(&pod.link.pod, WORLD[0], 80, host).unwrap().ends_with("hello"), "{host}");
    }
    let counted = |upstream: &str| {
        pod.metric("http_requests_total", &[&format!("upstream={upstream:?}"), r#"code="200""#])
    };
    wait_until("all are counted", || counted("a") >= 3 && counted("b") == 2);
}

/// Each destination that nobody knows had its own clock of warnings, so a line was written for each call.
#[test]
fn calls_to_many_that_are_down_are_warned_of_once() {
    let pod = Pod::new("redirected-down", Vec::new());
    for port in 81..101 {
        assert!(get(&pod.link.pod, WORLD[0], port, "shop").unwrap().starts_with("HTTP/1.1 502"));
    }
    let log = std::fs::read_to_string(&pod.log.0).unwrap();
    assert_eq!(log.matches("connect_refused").count(), 1, "{log}");
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
    pod.proxy = start(&pod.link.pod, &pod.config.0, &pod.log.0, None);
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

/// It was one for each address of the pod, and none beyond 512 destinations: who had asked for so many others first was not limited.
#[test]
fn a_limit_of_a_port_is_one_for_all_its_addresses_and_is_not_forgotten() {
    let limited = Inbound { limits: limit(3), ..inbound("web", 8080, Protocol::Http) };
    let pod = Pod::by("redirected-limit", &document_of(vec![limited], Vec::new()), None);
    web(&pod.link.pod, "::", 8080, "hello");
    for port in 20_000..20_520 {
        drop(connect(&pod.link.world, POD[0], port).unwrap());
    }
    let statuses = [POD[0], POD[1], POD[0], POD[1], POD[0]].map(|address| {
        let answer = get(&pod.link.world, address, 8080, "shop").unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    });
    assert_eq!(statuses, ["200", "200", "200", "429", "429"]);
}

/// It was one for each address that the upstream is called by.
#[test]
fn a_limit_of_an_upstream_is_one_for_all_its_addresses_and_its_breaker_is_each_ones() {
    let limited = Upstream { limits: limit(2), ..upstream("limited", "shop.example", 8000) };
    let breaker = CircuitBreakerSpec { consecutive_failures: 3, ..CircuitBreakerSpec::default() };
    let broken = Upstream { circuit_breaker: Some(breaker), ..upstream("broken", "shop.example", 8001) };
    let pod = Pod::new("redirected-gate", vec![limited, broken]);
    web(&pod.link.world, "::", 8000, "hello");
    let call = |address: &str, port| {
        let answer = get(&pod.link.pod, address, port, "shop.example").unwrap();
        let reason = answer.lines().find_map(|line| line.strip_prefix("outrigger-reason: "));
        reason.unwrap_or_default().to_owned()
    };
    let limited = [WORLD[0], WORLD[1], WORLD[0], WORLD[1]].map(|address| call(address, 8000));
    assert_eq!(limited, ["", "", "rate_limited", "rate_limited"]);
    // Nobody listens at the first.
    web(&pod.link.world, WORLD[1], 8001, "hello");
    let broken = [WORLD[0]; 5].map(|address| call(address, 8001));
    let [refused, open] = ["connect_refused", "circuit_open"];
    assert_eq!(broken, [refused, refused, refused, open, open]);
    assert_eq!(call(WORLD[1], 8001), "", "as of a headless Service: one pod that fails closes no other");
    let state = pod.metric("circuit_state", &[r#"upstream="broken""#, r#"port="8001""#]);
    assert_eq!(state, 1, "the worst of the two: open");
    assert_eq!(pod.metric("circuit_rejected_total", &[r#"upstream="broken""#]), 2);
}

/// A breaker opens, keeps calls of other protocols too, lets one try when its time is over, and closes.
#[test]
fn a_circuit_breaker_opens_and_closes_where_calls_are_redirected() {
    let breaker = CircuitBreakerSpec {
        consecutive_failures: 2,
        open_for: "2s".parse().unwrap(),
        ..CircuitBreakerSpec::default()
    };
    let api = Upstream { circuit_breaker: Some(breaker), ..upstream("api", WORLD[0], 8000) };
    let pod = Pod::new("redirected-circuit", vec![api]);
    let call = || get(&pod.link.pod, WORLD[0], 8000, "shop").unwrap();
    assert!(call().contains("connect_refused"));
    // As bytes, which there is no way to answer: a connection that can't be made counts as well.
    assert_eq!(exchange(&pod.link.pod, WORLD[0], 8000, "\x16\x03\x01"), None);
    assert!(call().contains("circuit_open"));
    assert_eq!(exchange(&pod.link.pod, WORLD[0], 8000, "\x16\x03\x01"), None);
    web(&pod.link.world, "::", 8000, "well again");
    wait_until("a call is let through", || call().ends_with("well again"));
    assert!(call().ends_with("well again"));
    let closed = || pod.metric("circuit_transitions_total", &[r#"to="closed""#, r#"cause="recovered""#]);
    wait_until("it has closed", || closed() == 1);
    assert_eq!(pod.metric("circuit_state", &[r#"upstream="api""#]), 0);
}

/// A name that came later than the first connection stayed unknown for as long as its address was in use.
#[test]
fn an_upstream_whose_name_is_found_later_is_known_from_then_on() {
    let hosts = ConfigFile::new("redirected-hosts", "127.0.0.1 localhost\n");
    let known = document(vec![upstream("api", "api.example", 80), upstream("other", "other.example", 80)]);
    let pod = Pod::by("redirected-later", &known, Some(&hosts.0));
    web(&pod.link.world, "::", 80, "hello");
    let counted = |upstream: &str| pod.metric("http_requests_total", &[&format!("upstream={upstream:?}")]);
    assert!(get(&pod.link.pod, WORLD[0], 80, "whatever").is_some());
    wait_until("it is counted as nobody known's", || counted("_other") == 1);
    // In its place: what is mounted is the file and not its name.
    std::fs::write(&hosts.0, format!("{} api.example\n", WORLD[0])).unwrap();
    wait_until("calls are the upstream's", || {
        assert!(get(&pod.link.pod, WORLD[0], 80, "whatever").is_some());
        counted("api") > 0
    });
    assert_eq!(counted("other"), 0);
}

#[test]
fn what_is_said_of_every_port_holds_for_those_that_nobody_declares() {
    let rest = Inbound { limits: limit(1), ..inbound("_other", 0, Protocol::Auto) };
    let pod = Pod::by(
        "redirected-rest",
        &document_of(vec![inbound("web", 8080, Protocol::Http), rest], Vec::new()),
        None,
    );
    for port in [8080, 9090, 9091] {
        web(&pod.link.pod, "::", port, "hello");
    }
    let status = |port| get(&pod.link.world, POD[0], port, "shop").unwrap()[9..12].to_owned();
    assert_eq!([8080, 9090, 9091, 9090, 8080].map(status), ["200", "200", "429", "429", "200"]);
    wait_until("all are counted", || pod.metric("http_requests_total", &[r#"port="_other""#]) == 3);
}

#[test]
fn tls_on_a_port_without_a_name_is_passed_on_as_bytes() {
    let pod = Pod::new("redirected-tls", Vec::new());
    listen(&pod.link.pod, "::", 8443, |mut stream| {
        let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
    });
    // A client's hello, and one that comes in pieces.
    for pieces in [&["\x16\x03\x01\x02\x00\x01"][..], &["\x16", "\x03\x01"]] {
        let mut stream = connect(&pod.link.world, POD[0], 8443).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).unwrap();
            let mut echo = vec![0; piece.len()];
            stream.read_exact(&mut echo).unwrap();
            assert_eq!(echo, piece.as_bytes());
        }
    }
    assert_eq!(pod.metric("detect_total", &[r#"port="_other""#, r#"result="tcp""#]), 2);
}

/// As a plain container, the proxy is told to stop together with the app. One that declares no port was taken for gone.
#[test]
fn the_end_of_an_app_without_declared_ports_is_waited_for() {
    let pod = Pod::by("redirected-end", &document_of(Vec::new(), Vec::new()), None);
    let address: SocketAddr = "[::]:9090".parse().unwrap();
    let app = pod.link.pod.run(|| TcpListener::bind(address).unwrap());
    let args = ["--config", pod.config.0.to_str().unwrap(), "drain", "--until-app-ends=5m"];
    let mut hook = pod.link.pod.command_as(PROXY, pod.proxy.1.path(), &args).spawn().unwrap();
    for _ in 0..5 {
        // Each takes longer than the hook between two looks.
        std::thread::park_timeout(Duration::from_millis(100));
        assert!(hook.try_wait().unwrap().is_none(), "it did not wait for the app");
    }
    drop(app);
    let ended = Instant::now();
    assert!(hook.wait().unwrap().success());
    assert!(ended.elapsed() < Duration::from_mins(2), "{:?}", ended.elapsed());
}
