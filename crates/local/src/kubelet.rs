//! What the kubelet does with an admitted pod, with processes in place of containers.
//!
//! Each has the arguments, the variables and the config of the pod, and nothing else but for four things that a container's own
//! namespaces would do: the pod's address, given in `OUTRIGGER_LISTEN_ADDRESS`; the same in place of loopback in a variable, since all
//! pods have one loopback here; a mounted volume, which is a directory whose path stands in the arguments in place of the mount's; and
//! the program, which is this machine's in place of the image's.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use outrigger_api::names::{ADMIN_PORT, CONFIG_ANNOTATION, CONFIG_FILE, CONFIG_VOLUME};
use outrigger_runtime::bind::LISTEN_ADDRESS;
use serde_json::Value;

use crate::http;
use crate::process::{self, Process};

/// How long a container may take to be ready. The startup probe of the proxy gives it a minute.
const PATIENCE: Duration = Duration::from_mins(2);

/// A pod that runs.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) address: IpAddr,
    /// As it was admitted.
    pub(crate) object: Value,
    directory: PathBuf,
    pub(crate) processes: Vec<Process>,
}

impl Pod {
    /// Starts the containers, each when the one before is ready.
    pub(crate) async fn start(
        object: Value,
        address: IpAddr,
        programs: &Path,
        room: &Path,
    ) -> anyhow::Result<Self> {
        let name = object["metadata"]["name"].as_str().context("the pod has no name")?.to_owned();
        let app = object["metadata"]["labels"]["app"].as_str().unwrap_or_default().to_owned();
        let directory = room.join(&name);
        fs::create_dir_all(&directory)?;
        let mut pod = Self { name, app, address, object, directory, processes: Vec::new() };
        pod.mount()?;
        let lists = ["initContainers", "containers"].map(|list| pod.object["spec"][list].clone());
        for container in lists.iter().filter_map(Value::as_array).flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let command = pod.command(container, programs)?;
            let process = Process::start(&format!("{}.{name}", pod.name), command, room)?;
            pod.processes.push(process);
            let (port, path) = if container["image"].as_str().is_some_and(is_sidecar) {
                (ADMIN_PORT, "/ready")
            } else {
                (8080, "/healthz")
            };
            pod.ready(port, path).await?;
        }
        Ok(pod)
    }

    /// The config annotation as a file, put in the place of the old one in one step, as the kubelet does.
    fn mount(&self) -> anyhow::Result<()> {
        let config = self.object["metadata"]["annotations"][CONFIG_ANNOTATION].as_str();
        let volume = self.directory.join(CONFIG_VOLUME);
        fs::create_dir_all(&volume)?;
        fs::write(volume.join("new"), config.context("the pod has no config")?)?;
        fs::rename(volume.join("new"), volume.join(CONFIG_FILE)).context("failed to write the pod's config")
    }

    /// The object has changed. Says whether its config has.
    pub(crate) fn changed(&mut self, object: Value) -> anyhow::Result<bool> {
        let config = |object: &Value| object["metadata"]["annotations"][CONFIG_ANNOTATION].clone();
        let new = config(&object) != config(&self.object);
        self.object = object;
        if new {
            self.mount()?;
        }
        Ok(new)
    }

    fn command(&self, container: &Value, programs: &Path) -> anyhow::Result<Command> {
        let image = container["image"].as_str().unwrap_or_default();
        let texts = |field: &str| {
            let list = container[field].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        // Without a command it is the image's entry point.
        let entry = if is_sidecar(image) { "outrigger-proxy" } else { "outrigger-demo" };
        let command = texts("command");
        let program = command.first().map_or(entry, |path| path.rsplit('/').next().unwrap_or(path));
        let environment = self.environment(container)?;
        let arguments = command
            .iter()
            .skip(1)
            .chain(&texts("args"))
            .map(|text| self.local(container, &expand(text, &environment)))
            .collect::<Vec<_>>();
        let mut command = process::command(&programs.join(program))?;
        command.args(arguments).envs(environment).env(LISTEN_ADDRESS, self.address.to_string());
        Ok(command)
    }

    /// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables>
    fn environment(&self, container: &Value) -> anyhow::Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        for variable in container["env"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                None => {
                    let value = expand(variable["value"].as_str().unwrap_or_default(), &environment);
                    value.replace("//127.0.0.1:", &format!("//{}:", self.address))
                }
                Some("status.podIP" | "status.podIPs") => self.address.to_string(),
                Some("metadata.name") => self.name.clone(),
                Some(field) => {
                    bail!("a variable of {} comes from {field}, which the demo does not know", self.name)
                }
            };
            environment.insert(variable["name"].as_str().unwrap_or_default().to_owned(), value);
        }
        Ok(environment)
    }

    /// The path of a mount is that of the volume's directory here.
    fn local(&self, container: &Value, argument: &str) -> String {
        let mounts = container["volumeMounts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = mounts.iter().find_map(|mount| {
            let (path, volume) = (mount["mountPath"].as_str()?, mount["name"].as_str()?);
            let at = argument.find(path)?;
            Some(format!(
                "{}{}{}",
                &argument[..at],
                self.directory.join(volume).display(),
                &argument[at + path.len()..]
            ))
        });
        found.unwrap_or_else(|| argument.to_owned())
    }

    async fn ready(&mut self, port: u16, path: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            if let Some(process) = self.processes.last_mut() {
                process.check()?;
            }
            let answer = http::at((self.address, port).into(), &format!("GET {path}")).await;
            match answer {
                Ok((200, _)) => return Ok(()),
                other if begin.elapsed() > PATIENCE => {
                    bail!("{} was not ready after {} s: {other:?}", self.name, PATIENCE.as_secs())
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Where a Service with `targetPort: http` leads: the container port of that name, which the proxy has taken over.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        let lists = ["initContainers", "containers"].map(|list| self.object["spec"][list].as_array());
        let mut ports = lists
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|container| container["ports"].as_array())
            .flatten();
        let port = ports.find(|port| port["name"] == "http")?["containerPort"].as_u64()?;
        Some((self.address, u16::try_from(port).ok()?).into())
    }

    /// Sets the app's faults, asking it directly.
    pub(crate) async fn fault(&self, slow_milliseconds: u64, errors_of_100: u64) -> anyhow::Result<()> {
        let request = format!("PUT /fault?slow={slow_milliseconds}&errors={errors_of_100}");
        http::at((self.address, 8080).into(), &request).await?;
        Ok(())
    }
}

fn is_sidecar(image: &str) -> bool {
    image.starts_with("outrigger/sidecar:")
}

/// `$(NAME)` is the value of a variable that came before.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}
