//! The binary, run as a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outrigger_api::config::Protocol;

use super::{client, closed_port, config, text, wait_until};

/// A config file that is removed with the test.
pub struct ConfigFile(pub PathBuf);

impl ConfigFile {
    pub fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("outrigger-{name}-{}.json", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    /// Puts another file in its place, as the kubelet does: a reader sees the old or the new one, whole.
    pub fn replace(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn command(config: &Path, admin: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger-proxy"));
    command.arg("--config").arg(config).args(["--admin-port", &admin.to_string()]);
    command
}

/// A running binary.
pub struct Process {
    pub child: Child,
    pub port: u16,
    pub admin: u16,
    config: Option<ConfigFile>,
}

impl Process {
    pub fn start(name: &str, target: u16) -> Self {
        let port = closed_port();
        let file = ConfigFile::new(name, &text(&config(Protocol::Http, port, target)));
        let mut process = Self::start_by(&file.0, port);
        process.config = Some(file);
        process
    }

    /// By a config that lets it listen on `port`.
    pub fn start_by(config: &Path, port: u16) -> Self {
        Self::start_with(config, port, &[])
    }

    /// As [`start_by`](Self::start_by), with further arguments.
    pub fn start_with(config: &Path, port: u16, arguments: &[&str]) -> Self {
        let admin = closed_port();
        let mut command = command(config, admin);
        command.args(arguments);
        Self::started(command, port, admin)
    }

    /// As [`start_by`](Self::start_by), by a shell that does something before.
    pub fn start_after(before: &str, config: &Path, port: u16) -> Self {
        let admin = closed_port();
        let proxy = command(config, admin);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
        command.arg(proxy.get_program()).args(proxy.get_args());
        Self::started(command, port, admin)
    }

    fn started(mut command: Command, port: u16, admin: u16) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("the proxy is up", || std::net::TcpStream::connect(("127.0.0.1", admin)).is_ok());
        wait_until("the proxy is ready", || client::get(admin, "/ready").status == 200);
        Self { child, port, admin, config: None }
    }

    /// The binary once more, as a hook in the same container.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.config.as_ref().expect("started with a file of its own");
        let mut command = command(&config.0, self.admin);
        command.args(arguments);
        command
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Most memory that it ever held, in KiB.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
