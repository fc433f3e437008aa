//! Processes that belong to the demo: started, watched, and ended with it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

/// How long a process may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a program with no variables, which the kernel kills when this process ends, also where that was killed itself and could
/// end nobody: its pods would keep their ports from the next demo.
///
/// By way of this same program, which becomes it in [`become_child`]: between the fork and the program only unsafe code could ask the kernel.
pub(crate) fn command(program: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("failed to find this program")?);
    command.env_clear().arg("--child").arg(std::process::id().to_string()).arg(program);
    Ok(command)
}

/// What [`command`] started becomes the program that it is to run. `words` are the process that started it, the program and its arguments.
pub(crate) fn become_child(words: &[OsString]) -> anyhow::Error {
    let [parent, program, arguments @ ..] = words else {
        return anyhow!("--child takes a process and a program");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return anyhow!("failed to ask for the end of {} with the demo: {error}", program.display());
    }
    // It may have ended before the kernel was asked.
    if getppid().is_none_or(|pid| parent.to_str() != Some(&pid.to_string())) {
        return anyhow!("the demo has ended");
    }
    let error = Command::new(program).args(arguments).exec();
    anyhow!("failed to start {}: {error}", program.display())
}

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
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
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
