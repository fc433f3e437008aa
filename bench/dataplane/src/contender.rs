//! What is measured: our proxy, the others, the floor, and the app without anything before it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, bail};

use crate::process::Process;

/// In the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Outrigger,
    Haproxy,
    Nginx,
    Envoy,
    BareRelay,
    HyperRelay,
    /// The app itself.
    Direct,
}

/// Where things are, and on which CPUs they run.
pub(crate) struct Bench {
    /// For configs, logs and sockets; removed by who made it.
    pub(crate) work: PathBuf,
    /// The proxy's program and the directory of the relays.
    pub(crate) proxy: PathBuf,
    pub(crate) relays: PathBuf,
    pub(crate) envoy: PathBuf,
    pub(crate) proxy_cpu: usize,
    pub(crate) load_cpu: usize,
    pub(crate) app: Ports,
}

/// Where a contender, or the app, listens on 127.0.0.1. Those it has no listener for refuse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) http2: u16,
    pub(crate) tcp: u16,
    pub(crate) admin: u16,
}

pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) ports: Ports,
    process: Option<Process>,
}

impl Kind {
    pub(crate) const PROXIES: [Self; 4] = [Self::Outrigger, Self::Haproxy, Self::Nginx, Self::Envoy];
    pub(crate) const FLOOR: [Self; 2] = [Self::BareRelay, Self::HyperRelay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outrigger => "Outrigger",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::BareRelay => "bare relay",
            Self::HyperRelay => "hyper relay",
            Self::Direct => "no proxy",
        }
    }
}

impl Ports {
    /// Four that nothing listens on.
    pub(crate) fn free() -> io::Result<Self> {
        // Held until all four are known, so that no two are the same.
        let sockets = [(); 4].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let mut ports = [0; 4];
        for (port, socket) in ports.iter_mut().zip(sockets) {
            *port = socket?.local_addr()?.port();
        }
        let [http, http2, tcp, admin] = ports;
        Ok(Self { http, http2, tcp, admin })
    }
}

impl Bench {
    /// Starts a contender afresh and waits until it accepts connections.
    pub(crate) fn start(&self, kind: Kind) -> anyhow::Result<Contender> {
        let ports = if kind == Kind::Direct { self.app } else { Ports::free()? };
        let process = match kind {
            Kind::Direct => None,
            _ => Some(self.launch(kind, ports).with_context(|| format!("failed to start {}", kind.name()))?),
        };
        Ok(Contender { kind, ports, process })
    }

    fn launch(&self, kind: Kind, ports: Ports) -> anyhow::Result<Process> {
        let name = kind.name().replace(' ', "-");
        let log = self.work.join(format!("{name}-{}.log", ports.http));
        let start =
            |command: &[&str], env: &[(&str, &str)]| Process::start(self.proxy_cpu, &log, command, env);
        let process = match kind {
            Kind::Outrigger => {
                let config =
                    self.write(&format!("outrigger-{}.json", ports.http), &self.sidecar_config(ports))?;
                let program = self.proxy.display().to_string();
                let admin = ports.admin.to_string();
                let arguments =
                    [&program, "--config", &config, "--admin-port", &admin, "--app-address", "127.0.0.1"];
                start(&arguments, &[("OUTRIGGER_MAX_CONNECTIONS", "8192")])?
            }
            Kind::Haproxy => {
                start(&["haproxy", "-db", "-f", &self.config("haproxy.cfg", HAPROXY, ports)?], &[])?
            }
            Kind::Nginx => start(&["nginx", "-c", &self.config("nginx.conf", NGINX, ports)?], &[])?,
            Kind::Envoy => {
                let program = self.envoy.display().to_string();
                let config = self.config("envoy.yaml", ENVOY, ports)?;
                let quiet = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"];
                start(&[&[program.as_str(), "-c", &config][..], &quiet].concat(), &[])?
            }
            Kind::BareRelay | Kind::HyperRelay => {
                let program = self.relays.join(name.replace('-', "_")).display().to_string();
                start(&[&program, &ports.http.to_string(), &self.app.http.to_string()], &[])?
            }
            Kind::Direct => bail!("the app is started once, for all"),
        };
        wait_for_listener(ports.http, &log)?;
        Ok(process)
    }

    /// The app: nginx, on the load's CPU.
    pub(crate) fn start_app(&self) -> anyhow::Result<Process> {
        let log = self.work.join("app.out");
        let config = self.config("app.conf", APP, self.app)?;
        let process = Process::start(self.load_cpu, &log, &["nginx", "-c", &config], &[])?;
        wait_for_listener(self.app.http, &log)?;
        Ok(process)
    }

    fn sidecar_config(&self, ports: Ports) -> String {
        let inbound = |name, listen, target, protocol| serde_json::json!({"name": name, "listen": listen, "target": target, "protocol": protocol});
        serde_json::json!({"version": 1, "profile": "bench/default", "token": "bench", "inbound": [
            inbound("http", ports.http, self.app.http, "http"),
            inbound("http2", ports.http2, self.app.http2, "http"),
            inbound("tcp", ports.tcp, self.app.tcp, "tcp"),
        ]})
        .to_string()
    }

    fn config(&self, file: &str, template: &str, ports: Ports) -> anyhow::Result<String> {
        let mut text = template.replace("@work@", &self.work.display().to_string());
        for (name, port) in [
            ("@http@", ports.http),
            ("@http2@", ports.http2),
            ("@tcp@", ports.tcp),
            ("@admin@", ports.admin),
            ("@app_http@", self.app.http),
            ("@app_http2@", self.app.http2),
            ("@app_tcp@", self.app.tcp),
        ] {
            text = text.replace(name, &port.to_string());
        }
        self.write(&format!("{}-{file}", ports.http), &text)
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<String> {
        let path = self.work.join(file);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path.display().to_string())
    }
}

const APP: &str = include_str!("../config/app.conf");
const HAPROXY: &str = include_str!("../config/haproxy.cfg");
const NGINX: &str = include_str!("../config/nginx.conf");
const ENVOY: &str = include_str!("../config/envoy.yaml");

impl Contender {
    /// Its process; an error for the app, which is not measured.
    pub(crate) fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().with_context(|| format!("{} has no process", self.kind.name()))
    }

    /// CPU time so far, in seconds; none for the app.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        self.process.as_ref().map_or(Ok(0.0), Process::cpu)
    }
}

fn wait_for_listener(port: u16, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if Instant::now() > deadline {
            let said = fs::read_to_string(log).unwrap_or_default();
            let mut last: Vec<_> = said.lines().rev().take(5).collect();
            last.reverse();
            bail!("nothing listens on 127.0.0.1:{port} after 15 s; it said:\n{}", last.join("\n"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
