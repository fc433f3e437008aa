//! The app: how it learns of a version, and whether it can live with it.

use std::fs;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use outrigger_api::sync::{HttpCall, OnChange, ReadyCheck};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use ureq::Agent;

/// How long the app may take for the answer to a POST.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the kubelet may wait before it starts a container again. It doubles from ten seconds to five minutes for one that has ended
/// in the last ten, whoever ended it.
///
/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restarts>
const LONGEST_BACK_OFF: Duration = Duration::from_secs(330);
/// The shortest time between two questions whether it is ready.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
/// From one look for its process to the next. A container's start takes longer, however soon its program ends.
const LOOK: Duration = Duration::from_millis(20);

/// Why the app was not told.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Its process is not seen.
    #[error(
        "container {0} has no process in sight that could be told: it may not have started, or runs as another user"
    )]
    NoProcess(String),
    /// It may not be signalled.
    #[error("failed to signal container {container}: {error}")]
    Signal {
        /// The container.
        container: String,
        /// Why.
        error: rustix::io::Errno,
    },
    /// The request failed.
    #[error("failed to tell container {container} by POST {path}: {why}")]
    Http {
        /// The container.
        container: String,
        /// The path.
        path: String,
        /// Why.
        why: String,
    },
}

/// The app of one entry.
#[derive(Clone, Debug)]
pub struct App {
    /// Its container.
    pub container: String,
    /// Where it sees its files.
    pub path: String,
    /// Where we see the same.
    pub tree: PathBuf,
    /// The pod's address. Not loopback, which some apps do not listen on, and others trust.
    pub host: String,
    /// How long it may take to end when it is restarted.
    pub grace: Duration,
}

impl App {
    /// Tells it that there is another version.
    pub fn tell(&self, how: &OnChange) -> Result<(), AppError> {
        if let Some(HttpCall { port, path }) = &how.http {
            return self.post(*port, path);
        }
        if how.restart {
            return self.restart();
        }
        match how.signal.as_deref() {
            Some(name) => {
                self.signal(signal(name))?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Ends it, and by force where it does not in time. The kubelet starts it again.
    fn restart(&self) -> Result<(), AppError> {
        let processes = self.signal(Signal::TERM)?;
        let deadline = Instant::now() + self.grace;
        while processes.iter().any(|process| test_kill_process(*process).is_ok()) {
            if Instant::now() >= deadline {
                tracing::warn!(container = self.container, "the app did not end in time and is killed");
                for process in &processes {
                    let _ = kill_process(*process, Signal::KILL);
                }
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until it is started. An app that was restarted is judged from then on: how long the kubelet waits before is not the
    /// version's fault.
    pub fn wait_for_start(&self) {
        let proc = Path::new("/proc");
        let (before, deadline) = (newcomers(proc), Instant::now() + LONGEST_BACK_OFF);
        while !self.is_started(proc, &before) && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
    }

    /// Whether it runs, or was started since `before` were the newcomers.
    fn is_started(&self, proc: &Path, before: &[i32]) -> bool {
        // A program that dies at once may be missed; what the runtime starts it with is there for longer, and belongs to root.
        let is_new =
            |pid: &i32| !before.contains(pid) && identity(&proc.join(format!("{pid}/root"))).is_none();
        !self.first_processes(proc).is_empty() || newcomers(proc).iter().any(is_new)
    }

    fn signal(&self, signal: Signal) -> Result<Vec<Pid>, AppError> {
        let processes = self.first_processes(Path::new("/proc"));
        if processes.is_empty() {
            return Err(AppError::NoProcess(self.container.clone()));
        }
        for process in &processes {
            kill_process(*process, signal)
                .map_err(|error| AppError::Signal { container: self.container.clone(), error })?;
        }
        Ok(processes)
    }

    /// The container's processes that none of its others has started: those that see our files at its path, and whose parent does
    /// not. A variable in the container's environment would tell them too, but it would have to be put there.
    ///
    /// Who may not be looked at belongs to another user, and could not be signalled either.
    fn first_processes(&self, proc: &Path) -> Vec<Pid> {
        let Some(ours) = identity(&self.tree) else { return Vec::new() };
        let inside = self.path.trim_start_matches('/');
        let sees = |pid: i32| identity(&proc.join(format!("{pid}/root")).join(inside)) == Some(ours);
        let first = pids(proc).filter(|pid| sees(*pid) && !parent(proc, *pid).is_some_and(sees));
        first.filter_map(Pid::from_raw).collect()
    }

    fn post(&self, port: u16, path: &str) -> Result<(), AppError> {
        let url = format!("http://{}{path}", authority(&self.host, port));
        let failed =
            |why: String| AppError::Http { container: self.container.clone(), path: path.to_owned(), why };
        let answer = agent(ANSWER).post(&url).send_empty().map_err(|error| failed(error.to_string()))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(failed(format!("it answers {}", answer.status())))
        }
    }

    /// Whether its readiness probe would pass now.
    pub fn is_ready(&self, check: &ReadyCheck) -> bool {
        let authority = authority(&self.host, check.port);
        let timeout = Duration::from_secs(check.timeout_seconds.into());
        match &check.path {
            Some(path) => agent(timeout)
                .get(format!("http://{authority}{path}"))
                .call()
                // As the kubelet judges: 200 to 399.
                .is_ok_and(|answer| (200..400).contains(&answer.status().as_u16())),
            None => connects(&authority, timeout),
        }
    }

    /// Watches it for that long. In the last third it must not miss as many probes in a row as its own threshold says: what dies again
    /// and again is ready now and then. A row that has begun by then is waited for, so no single probe decides.
    pub fn stays_ready(&self, check: &ReadyCheck, length: Duration) -> bool {
        let threshold = check.failure_threshold.max(1);
        // Not rarer than so that a whole row fits in.
        let step = Duration::from_secs(check.period_seconds.into()).min(length / 3 / threshold);
        let (start, mut missed) = (Instant::now(), 0);
        loop {
            thread::sleep(step.max(SHORTEST_PERIOD));
            let counts = start.elapsed() > length * 2 / 3;
            missed = if self.is_ready(check) || !counts { 0 } else { missed + 1 };
            if missed >= threshold {
                return false;
            }
            if missed == 0 && start.elapsed() >= length {
                return true;
            }
        }
    }
}

fn agent(timeout: Duration) -> Agent {
    let config =
        Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(timeout));
    config.build().new_agent()
}

fn connects(authority: &str, timeout: Duration) -> bool {
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    addresses.iter().any(|address| TcpStream::connect_timeout(address, timeout).is_ok())
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn signal(name: &str) -> Signal {
    match name {
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        _ => Signal::HUP,
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn pids(proc: &Path) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(proc).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The processes that nobody in this namespace has started: the first one of each container, and what is executed in one.
fn newcomers(proc: &Path) -> Vec<i32> {
    pids(proc).filter(|pid| parent(proc, *pid) == Some(0)).collect()
}

/// The parent, of `stat`: the second field after the name, which may hold blanks and parentheses.
fn parent(proc: &Path, pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up /proc with processes, by their number, parent, and what they see at /srv/www.
    struct Proc(PathBuf);

    impl Proc {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("outrigger-proc-{name}-{}", std::process::id())))
        }

        fn add(&self, pid: i32, parent: i32, sees: Option<&Path>) {
            let process = self.0.join(pid.to_string());
            fs::create_dir_all(&process).unwrap();
            fs::write(process.join("stat"), format!("{pid} (a ) b) S {parent} 0 0")).unwrap();
            if let Some(sees) = sees {
                fs::create_dir_all(process.join("root/srv")).unwrap();
                std::os::unix::fs::symlink(sees, process.join("root/srv/www")).unwrap();
            }
        }
    }

    impl Drop for Proc {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn app(tree: &Path) -> App {
        fs::create_dir_all(tree).unwrap();
        App {
            container: "app".to_owned(),
            path: "/srv/www".to_owned(),
            tree: tree.to_owned(),
            host: "127.0.0.1".to_owned(),
            grace: Duration::ZERO,
        }
    }

    /// 1 is the pause container, 20 the app, 21 its child, 30 a container that sees other files there.
    #[test]
    fn an_app_is_its_first_process() {
        let proc = Proc::new("first");
        let (ours, other) = (proc.0.join("tree"), proc.0.join("other"));
        fs::create_dir_all(&other).unwrap();
        let app = app(&ours);
        for (pid, parent, sees) in
            [(1, 0, None), (20, 0, Some(&ours)), (21, 20, Some(&ours)), (30, 0, Some(&other))]
        {
            proc.add(pid, parent, sees.map(PathBuf::as_path));
        }
        assert_eq!(app.first_processes(&proc.0), [Pid::from_raw(20).unwrap()]);
    }

    #[test]
    fn a_restarted_app_has_started_when_it_runs_or_its_container_was_begun() {
        let proc = Proc::new("started");
        let (ours, other) = (proc.0.join("tree"), proc.0.join("other"));
        fs::create_dir_all(&other).unwrap();
        let app = app(&ours);
        proc.add(1, 0, None);
        proc.add(30, 0, Some(&other));
        let before = newcomers(&proc.0);
        assert!(!app.is_started(&proc.0, &before), "those that were there are not the app");
        proc.add(31, 0, Some(&other));
        assert!(!app.is_started(&proc.0, &before), "nor is one that sees other files");
        proc.add(32, 30, None);
        assert!(!app.is_started(&proc.0, &before), "nor one that another has started");
        proc.add(40, 0, None);
        assert!(
            app.is_started(&proc.0, &before),
            "what the runtime begins a container with, whoever it becomes"
        );
        fs::remove_dir_all(proc.0.join("40")).unwrap();
        assert!(!app.is_started(&proc.0, &before));
        proc.add(41, 0, Some(&ours));
        assert!(app.is_started(&proc.0, &before));
    }

    /// One missed probe made a version bad for good.
    #[test]
    fn an_app_is_bad_when_its_probe_fails_as_often_in_a_row_as_the_probe_says() {
        let base = Proc::new("ready");
        let app = app(&base.0);
        let stays = |answers: fn(u32) -> bool| {
            let port = answering(answers);
            let check =
                ReadyCheck { port, path: Some("/".to_owned()), timeout_seconds: 30, ..ReadyCheck::default() };
            app.stays_ready(&check, Duration::from_millis(900))
        };
        assert!(stays(|_| true));
        assert!(!stays(|_| false));
        assert!(!stays(|probe| probe < 2), "it dies and does not come back");
        assert!(stays(|probe| probe % 2 == 0), "every other one is missed");
        assert!(stays(|probe| probe % 3 == 2), "two in a row are not three");
    }

    /// An app that answers so, probe by probe.
    fn answering(is_ready: fn(u32) -> bool) -> u16 {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for (probe, mut stream) in (0..).zip(listener.incoming().map_while(Result::ok)) {
                let _ = stream.read(&mut [0; 1024]);
                let status = if is_ready(probe) { "200 OK" } else { "503 Not ready" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        port
    }
}
