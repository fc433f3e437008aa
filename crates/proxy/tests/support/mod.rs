//! What the tests share: a running proxy, apps and clients made of plain sockets.
//!
//! Plain sockets on purpose. The tests say what passes on the wire, so they stay when the path inside is replaced.

// Each test binary uses its own part, and clippy sees tests only in functions that are marked so.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod app;
pub mod client;
pub mod guarded;
pub mod http2;
pub mod probed;
pub mod process;
pub mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use outrigger_api::config::{Inbound, Protocol, SidecarConfig, Upstream};
use outrigger_proxy::limits::Limits;
use outrigger_proxy::proxy::{self, Proxy, ProxyError, Sockets};
use outrigger_runtime::shutdown::{self, Trigger};
use outrigger_runtime::{bind, log};
use process::ConfigFile;

/// No wait in a test takes longer.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub const TOKEN: &str = "opensesame";

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// A proxy in this process, with one port.
pub struct Running {
    pub port: u16,
    pub admin: u16,
    config: ConfigFile,
    trigger: Trigger,
    thread: Option<JoinHandle<Result<usize, ProxyError>>>,
}

pub fn config(protocol: Protocol, listen: u16, target: u16) -> SidecarConfig {
    SidecarConfig {
        version: 1,
        profile: "shop/web".to_owned(),
        token: TOKEN.to_owned(),
        log_level: outrigger_api::profile::LogLevel::default(),
        access_log: outrigger_api::profile::AccessLog::default(),
        tap: outrigger_api::tap::TapSpec::default(),
        interception: outrigger_api::config::Interception::default(),
        inbound: vec![Inbound { name: "web".to_owned(), listen, target, protocol, ..Inbound::default() }],
        upstreams: Vec::new(),
        probes: Vec::new(),
        app_metrics: None,
        logs: Vec::new(),
        sync: Vec::new(),
    }
}

pub fn http(target: u16) -> Running {
    start(Protocol::Http, target, Limits::default())
}

pub fn tcp(target: u16) -> Running {
    start(Protocol::Tcp, target, Limits::default())
}

pub fn start(protocol: Protocol, target: u16, limits: Limits) -> Running {
    start_at(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], protocol, target, limits)
}

/// So that each proxy has a config file of its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// As [`start`], with an app at these addresses.
pub fn start_at(app: &[IpAddr], protocol: Protocol, target: u16, limits: Limits) -> Running {
    run(app, limits, Path::new("/nonexistent"), |port| config(protocol, port, target))
}

/// A proxy by this config of the port that it listens on, whose Secrets lie in this directory.
pub fn start_by(config: impl FnOnce(u16) -> SidecarConfig, secrets: &Path, limits: Limits) -> Running {
    run(&[Ipv4Addr::LOCALHOST.into()], limits, secrets, config)
}

/// A proxy whose one port leads to the upstream `api` at this place.
pub type Outbound = Running;

pub fn outbound(protocol: Protocol, host: &str, target: u16, limits: Limits) -> Outbound {
    run(&[], limits, Path::new("/nonexistent"), |port| {
        let upstream = Upstream {
            name: "api".to_owned(),
            host: host.to_owned(),
            port: target,
            protocol,
            listen: Some(port),
            ..Upstream::default()
        };
        SidecarConfig { inbound: Vec::new(), upstreams: vec![upstream], ..config(protocol, port, target) }
    })
}

/// A proxy that only calls others, by the config that is made for its port and these Secrets.
pub fn outbound_by(secrets: &Path, config: impl FnOnce(u16) -> SidecarConfig) -> Outbound {
    run(&[], Limits::default(), secrets, config)
}

/// A proxy by the config that is made for its port.
fn run(app: &[IpAddr], limits: Limits, secrets: &Path, config: impl FnOnce(u16) -> SidecarConfig) -> Running {
    let loopback = || bind::listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (admin, served) = (loopback(), loopback());
    let port_of = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (admin_port, port) = (port_of(&admin), port_of(&served));
    let (trigger, shutdown) = shutdown::channel();
    let name = format!("test-{}", STARTED.fetch_add(1, Ordering::Relaxed));
    let file = ConfigFile::new(&name, &text(&config(port)));
    let proxy = Proxy {
        loaded: outrigger_proxy::config::load(&file.0).unwrap(),
        sockets: Sockets { admin, served: vec![(port, served)] },
        app: app.to_vec(),
        secrets: secrets.to_owned(),
        limits,
        log: log::detached(),
        log_level_follows: true,
        access_log: None,
        trigger: trigger.clone(),
        shutdown,
        catch_signals: false,
    };
    let thread = Some(std::thread::spawn(move || proxy::run(proxy)));
    Running { port, admin: admin_port, config: file, trigger, thread }
}

pub fn text(config: &SidecarConfig) -> String {
    serde_json::to_string(config).unwrap()
}

impl Running {
    pub fn connect(&self) -> client::Client {
        client::Client::connect(self.port)
    }

    /// Gives the running proxy this document.
    pub fn rewrite(&self, text: &str) {
        self.config.replace(text);
    }

    pub fn metrics(&self) -> String {
        client::get(self.admin, "/metrics").text()
    }

    /// The value of one series, given as it is written, without the prefix `outrigger_`. 0 where there is none.
    pub fn metric(&self, series: &str) -> u64 {
        let series = format!("outrigger_{series} ");
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// How many requests were counted with these labels, whatever their protocol, once none is in flight: a request is counted when its answer's last
    /// byte was written, and the client may be faster.
    pub fn requests(&self, method: &str, code: &str, reason: &str) -> u64 {
        wait_until("what clients have seen is counted", || self.active() == 0);
        let labels =
            [format!(r#"method="{method}""#), format!(r#"code="{code}""#), format!(r#"reason="{reason}""#)];
        let text = self.metrics();
        let series = text.lines().filter_map(|line| line.strip_prefix("outrigger_http_requests_total{"));
        let series = series.filter(|line| labels.iter().all(|label| line.contains(label)));
        series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// The value of a family that has one series a port.
    pub fn of_port(&self, family: &str) -> u64 {
        self.metric(&format!(r#"{family}{{direction="inbound",port="web"}}"#))
    }

    /// How many relayed connections ended for this reason.
    pub fn closed(&self, reason: &str) -> u64 {
        self.metric(&format!(
            r#"tcp_connections_closed_total{{direction="inbound",port="web",reason="{reason}"}}"#
        ))
    }

    pub fn active(&self) -> u64 {
        self.of_port("http_active_requests")
    }

    /// The value of a series in seconds.
    pub fn seconds(&self, series: &str) -> f64 {
        let series = format!("outrigger_{series} ");
        let text = self.metrics();
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }

    /// `/stats` with this token: status and document.
    pub fn stats(&self, token: &str) -> (u16, serde_json::Value) {
        let head = format!("GET /stats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}");
        let answer = client::request(self.admin, &format!("{head}\r\nConnection: close\r\n\r\n"));
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    pub fn request_stop(&self) {
        self.trigger.request();
    }

    /// Waits for the end of the drain; returns how many connections were cut.
    pub fn stopped(mut self) -> usize {
        self.trigger.request();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.trigger.request();
    }
}

/// A port that nothing listens on.
pub fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub fn open(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
