//! The demo from its start to its end.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use outrigger_fake_api::FakeApi;
use outrigger_runtime::bind::LISTEN_ADDRESS;
use outrigger_runtime::shutdown::{self, Trigger};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::addresses::{Addresses, free};
use crate::admission;
use crate::cluster::{self, DEPLOYMENTS, Deployment, RELEASE, SHOP};
use crate::commands::{self, Command};
use crate::http;
use crate::kubelet::Pod;
use crate::process::{self, Process, stop_all};
use crate::room::Room;
use crate::service::{self, Endpoints};
use crate::{Args, say};

/// How long the webhook and the collector may take to be there.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often changed objects and ended processes are looked for.
const LOOK: Duration = Duration::from_millis(250);
/// The pod that is slow, and by how much; how often payments fail.
const SLOW_POD: &str = "api-7d9c4f-c";
const SLOW_MILLISECONDS: u64 = 300;
const FAILURES_OF_100: u64 = 15;
/// After how long the object of a crashed pod is deleted, as the cluster does for a lost node: sooner than there, which takes minutes.
const LOST: Duration = Duration::from_secs(45);

/// Everything that runs.
struct Demo {
    addresses: Addresses,
    api: FakeApi,
    servers: Vec<Process>,
    pods: Vec<Pod>,
    endpoints: Vec<(&'static Deployment, Endpoints)>,
    /// Names of pods that crashed, and when.
    lost: Vec<(Instant, String)>,
    programs: PathBuf,
    room: Room,
}

/// Runs it until the user ends it, or for so many seconds.
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (trigger, stop) = shutdown::channel();
    shutdown::on_signal(trigger.clone())?;
    on_hangup(trigger)?;
    let mut demo = Demo::new(args).await?;
    let result = tokio::select! {
        // Ctrl-C reaches all processes: that one has ended by it is no crash.
        biased;
        () = stop.requested() => Ok(()),
        result = demo.live(args.dashboard, begin) => result,
        () = ends_after(args.seconds) => Ok(()),
    };
    demo.end(result.is_ok()).await;
    result
}

/// A terminal that is closed ends the demo as Ctrl-C does.
fn on_hangup(trigger: Trigger) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        hangup.recv().await;
        trigger.request();
    });
    Ok(())
}

async fn ends_after(seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

impl Demo {
    async fn new(args: &Args) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let programs = program.parent().context("this program stands nowhere")?.to_owned();
        for name in ["outrigger", "outrigger-proxy", "outrigger-demo"] {
            if !programs.join(name).exists() {
                bail!("{name} is not in {}\n\nhint: make demo builds all of them", programs.display());
            }
        }
        let addresses = Addresses(args.block);
        for address in addresses.all().chain([args.dashboard]) {
            free(address)?;
        }
        let room = Room::make(&std::env::temp_dir())?;
        let endpoints = DEPLOYMENTS.iter().map(|deployment| (deployment, Endpoints::default())).collect();
        let api = FakeApi::start(0).await;
        let (servers, pods, lost) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { addresses, api, servers, pods, endpoints, lost, programs, room })
    }

    async fn live(&mut self, dashboard: SocketAddr, begin: Instant) -> anyhow::Result<()> {
        say("  starting the webhook, with TLS");
        let webhook = self.start_webhook().await?;
        self.admit_all(&webhook).await?;
        self.fault(true).await?;
        say("  starting visitors and the dashboard");
        self.start_visitors(dashboard)?;
        self.wait_for(dashboard, "GET /api/v1/mesh").await?;
        say(&format!("\n{}", self.welcome(dashboard, begin.elapsed())));
        self.obey(commands::read()).await
    }

    /// The real program, told where the API server is by a kubeconfig. Returns the authority of its certificate.
    async fn start_webhook(&mut self) -> anyhow::Result<String> {
        cluster::install(&self.api);
        cluster::workloads(&self.api);
        cluster::profiles(&self.api, 1, |name| self.addresses.host(name));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "demo",
            "clusters": [{"name": "demo", "cluster": {"server": self.api.url()}}],
            "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "you", "namespace": SHOP}}],
            "users": [{"name": "you", "user": {}}],
        });
        fs::write(self.kubeconfig(), kubeconfig.to_string())?;
        let image = format!("--sidecar-image=outrigger/sidecar:{}", env!("CARGO_PKG_VERSION"));
        let mut command = self.outrigger()?;
        command.args(["webhook", "--namespace", RELEASE, &image, "--live-reload", "--audit-interval=5s"]);
        command
            .args(["--shutdown-delay=0s", "--log-format=text"])
            .env(LISTEN_ADDRESS, self.addresses.webhook().ip().to_string());
        self.servers.push(Process::start("webhook", command, self.room.path())?);
        self.wait_for(self.addresses.webhook_admin(), "GET /ready").await?;
        cluster::ca_bundle(&self.api).context("the webhook is ready without a caBundle")
    }

    async fn admit_all(&mut self, ca_bundle: &str) -> anyhow::Result<()> {
        let addresses = self.addresses;
        for (place, deployment) in (0..).zip(&DEPLOYMENTS) {
            for (number, letter) in (1..=deployment.pods).zip('a'..) {
                let address = addresses.pod(place, number);
                let mut pod = admission::admit(
                    addresses.webhook(),
                    ca_bundle,
                    cluster::pod(deployment, |name| addresses.host(name)),
                )
                .await?;
                let name = format!("{}-7d9c4f-{letter}", deployment.name);
                pod["metadata"]["name"] = name.as_str().into();
                pod["spec"]["nodeName"] = "this-machine".into();
                let ready = json!({"type": "Ready", "status": "True"});
                pod["status"] = json!({"phase": "Running", "podIP": address, "conditions": [ready]});
                say(&format!("  {name}: admitted, starts at {address}"));
                self.api.put(&path(&name), pod.clone());
                let pod = Pod::start(pod, address, &self.programs, self.room.path()).await?;
                self.pods.push(pod);
            }
            self.aim();
            let endpoints = self.endpoints[usize::from(place)].1.clone();
            service::serve(addresses.service(deployment.name), endpoints)?;
        }
        Ok(())
    }

    /// The Services lead to the pods that are there.
    fn aim(&self) {
        for (deployment, endpoints) in &self.endpoints {
            let pods = self.pods.iter().filter(|pod| pod.app == deployment.name);
            endpoints.set(pods.filter_map(Pod::http).collect());
        }
    }

    fn start_visitors(&mut self, dashboard: SocketAddr) -> anyhow::Result<()> {
        let mut visitors = process::command(&self.programs.join("outrigger-demo"))?;
        visitors.arg("visit").arg(format!("http://{}", self.addresses.service("frontend")));
        self.servers.push(Process::start("visitors", visitors, self.room.path())?);
        let mut collector = self.outrigger()?;
        collector.args(["collector", "--log-format=text", "--listen", &dashboard.to_string()]);
        self.servers.push(Process::start("collector", collector, self.room.path())?);
        Ok(())
    }

    async fn fault(&self, on: bool) -> anyhow::Result<()> {
        for pod in &self.pods {
            let (slow, failures) = if on { fault_of(&pod.app, &pod.name) } else { (0, 0) };
            pod.fault(slow, failures).await?;
        }
        Ok(())
    }

    /// Does what the user types, and what the kubelet does meanwhile.
    async fn obey(&mut self, mut commands: UnboundedReceiver<Command>) -> anyhow::Result<()> {
        let mut typing = true;
        loop {
            let command = tokio::select! {
                command = commands.recv(), if typing => command,
                () = tokio::time::sleep(LOOK) => {
                    self.look()?;
                    continue;
                }
            };
            match command {
                None => typing = false,
                Some(Command::Quit) => return Ok(()),
                Some(command) => self.follow(command).await?,
            }
        }
    }

    async fn follow(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Fault(on) => {
                self.fault(on).await?;
                say(if on { "one pod of api is slow, payments fail now and then" } else { "all is well" });
            }
            Command::Profile(version) => {
                cluster::profiles(&self.api, version, |name| self.addresses.host(name));
                say("the profiles are changed; the webhook brings it to the pods that run:");
            }
            Command::Kill(name) => {
                if self.end_pod(&name) {
                    self.api.delete(&path(&name));
                    say(&format!("{name} is deleted"));
                }
            }
            Command::Crash(name) => {
                if self.end_pod(&name) {
                    say(&format!("{name} has crashed; its object is there for {} s more", LOST.as_secs()));
                    self.lost.push((Instant::now(), name));
                }
            }
            Command::Pods => {
                for Pod { name, address, .. } in &self.pods {
                    say(&format!("  {name:<22} {address:<12} {}/{name}.*.log", self.room.path().display()));
                }
            }
            Command::Help => say(commands::HELP),
            Command::Quit => {}
        }
        Ok(())
    }

    /// Ends the pod's processes. Says whether there is such a pod.
    fn end_pod(&mut self, name: &str) -> bool {
        let Some(at) = self.pods.iter().position(|pod| pod.name == name) else {
            say(&format!("there is no pod {name:?}; `pods` lists them"));
            return false;
        };
        let mut pod = self.pods.remove(at);
        pod.processes.iter_mut().for_each(Process::kill);
        self.aim();
        true
    }

    /// Brings changed objects to their pods, and finds what has crashed.
    fn look(&mut self) -> anyhow::Result<()> {
        for pod in &mut self.pods {
            if pod.changed(self.api.object(&path(&pod.name)))? {
                say(&format!("  {} has its new config", pod.name));
            }
        }
        for (_, name) in self.lost.extract_if(.., |(at, _)| at.elapsed() >= LOST) {
            self.api.delete(&path(&name));
        }
        let mut all = self.pods.iter_mut().flat_map(|pod| &mut pod.processes).chain(&mut self.servers);
        all.try_for_each(Process::check)
    }

    async fn wait_for(&mut self, address: SocketAddr, request: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !matches!(http::at(address, request).await, Ok((200, _))) {
            if let Some(last) = self.servers.last_mut() {
                last.check()?;
                if begin.elapsed() > PATIENCE {
                    bail!(
                        "{} was not there after {} s; its log: {}",
                        last.name,
                        PATIENCE.as_secs(),
                        last.log.display()
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn welcome(&self, dashboard: SocketAddr, took: Duration) -> String {
        let outrigger = self.programs.join("outrigger");
        let outrigger = std::env::current_dir()
            .ok()
            .and_then(|here| outrigger.strip_prefix(here).ok().map(PathBuf::from))
            .unwrap_or(outrigger);
        format!(
            "All runs, after {:.1} s. Look at it:

    http://{dashboard}

  Mesh      the frontend calls api and payments, through their proxies
  api       one of its four pods is slow: which?
  payments  some of its requests fail

In another terminal:

    {outrigger} top --collector {dashboard}
    {outrigger} tap deploy/api --min-latency 250ms --kubeconfig {kubeconfig}

Type:
{}
",
            took.as_secs_f64(),
            commands::HELP,
            outrigger = outrigger.display(),
            kubeconfig = self.kubeconfig().display(),
        )
    }

    fn outrigger(&self) -> anyhow::Result<Program> {
        let mut command = process::command(&self.programs.join("outrigger"))?;
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.room.path().join("kubeconfig.json")
    }

    /// Ends all. After a failure the logs stay, until the next demo starts.
    async fn end(&mut self, well: bool) {
        stop_all(self.pods.iter_mut().flat_map(|pod| &mut pod.processes).chain(&mut self.servers)).await;
        if well {
            let _ = fs::remove_dir_all(self.room.path());
            say("\nended; nothing is left behind");
        }
    }
}

/// How many milliseconds a pod takes longer, and how many of 100 requests fail. By its name and not its place, which another has once
/// one was killed.
fn fault_of(app: &str, name: &str) -> (u64, u64) {
    match app {
        _ if name == SLOW_POD => (SLOW_MILLISECONDS, 0),
        "payments" => (0, FAILURES_OF_100),
        _ => (0, 0),
    }
}

fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/{SHOP}/pods/{pod}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_of_api_is_slow_and_stays_the_one_when_others_are_killed() {
        let mut names = ["a", "b", "c", "d"].map(|letter| format!("api-7d9c4f-{letter}")).to_vec();
        for _ in 0..2 {
            let slow: Vec<_> = names.iter().filter(|name| fault_of("api", name).0 > 0).collect();
            assert_eq!(slow, [SLOW_POD]);
            names.remove(0);
        }
        assert_eq!(fault_of("payments", "payments-7d9c4f-a"), (0, FAILURES_OF_100));
    }
}
