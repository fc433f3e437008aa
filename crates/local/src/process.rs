//! Processes that belong to the demo: started, watched, and ended with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// One of them.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to a file of its own.
    pub(crate) fn start(name: &str, mut command: Command, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("failed to start {program}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// An error with its last words, if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<_> = said.lines().rev().take(5).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        bail!(
            "{} ended ({status}); its last words, in {}:\n  {}",
            self.name,
            self.log.display(),
            last.join("\n  ")
        );
    }

    /// Tells it to end.
    pub(crate) fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it at once, as a node that fails ends its pods.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whatever ends the demo, none is left behind.
impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends all of them, in any order at the same time, and waits for it.
///
/// Asynchronous, because what they wait for at their end is this process: its API server, and the connections of its Services.
pub(crate) async fn stop_all<'a>(processes: impl Iterator<Item = &'a mut Process>) {
    let mut left: Vec<_> = processes.collect();
    for process in &mut left {
        process.stop();
    }
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        left.retain_mut(|process| matches!(process.child.try_wait(), Ok(None)));
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for process in &mut left {
        process.kill();
    }
}
