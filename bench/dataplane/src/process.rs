//! Processes pinned to a CPU, and what the kernel knows about them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

/// A running process. Ends when this is dropped, and when the bench itself ends in whatever way.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command on one CPU; what it says goes to the file.
    pub(crate) fn start(
        cpu: usize,
        log: &Path,
        command: &[&str],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
        let child = pinned(cpu, command)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", command[0]))?;
        Ok(Self { child })
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    /// User and system time of the whole process so far, in seconds, exact to 10 ms.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        /// `USER_HZ`, the same on every Linux that Rust runs on.
        const TICKS_A_SECOND: f64 = 100.0;
        let stat = fs::read_to_string(self.proc("stat"))
            .context("failed to read a process' times: has it ended?")?;
        // The name, in brackets, may hold spaces; utime and stime are the 12th and 13th field after it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).map(|field| field.parse().unwrap_or(0.0)).sum();
        Ok(ticks / TICKS_A_SECOND)
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, in bytes.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(self.proc("status")).context("failed to read a process' memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()) else {
            bail!("a process has no {field} any more: has it ended?");
        };
        Ok(kib.parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, on one CPU, ended by the kernel when the bench ends.
pub(crate) fn pinned(cpu: usize, command: &[&str]) -> Command {
    let mut pinned = Command::new("setpriv");
    pinned.args(["--pdeathsig", "KILL", "taskset", "-c", &cpu.to_string()]).args(command);
    pinned
}
