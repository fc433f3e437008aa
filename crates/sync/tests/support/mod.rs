//! A repository made by git itself, and an entry that follows it.

#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod http;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use outrigger_api::sync::{GitSpec, SyncSource, SyncSpec};
use outrigger_runtime::readiness::Readiness;
use outrigger_sync::app::App;
use outrigger_sync::failure::{Failure, Reason};
use outrigger_sync::status::{Entry, Statuses};
use outrigger_sync::worker::Worker;

/// A directory of this test alone, gone with it.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-sync-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A repository with a working tree.
pub(crate) struct Repository {
    pub(crate) path: PathBuf,
    /// Each commit is a minute later than the last, so that dates tell them apart.
    minutes: u32,
    pub(crate) year: u32,
}

impl Repository {
    pub(crate) fn new(directory: &Path, format: &str) -> Self {
        let path = directory.join("repository");
        fs::create_dir_all(&path).unwrap();
        let mut repository = Self { path, minutes: 0, year: 2026 };
        repository.git(&["init", "--quiet", "--initial-branch=main", &format!("--object-format={format}")]);
        for (key, value) in [("user.name", "A"), ("user.email", "a@example.com"), ("gc.auto", "0")] {
            repository.git(&["config", key, value]);
        }
        repository
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    pub(crate) fn git(&mut self, arguments: &[&str]) -> String {
        let date = format!("{}-11-22T{:02}:{:02}:00Z", self.year, self.minutes / 60, self.minutes % 60);
        let output = Command::new("git")
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", &self.path)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn commit(&mut self) {
        self.minutes += 1;
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
    }

    /// Commits these files, and no others, as a tag.
    pub(crate) fn tag(&mut self, tag: &str, files: &[(&str, &str)]) {
        self.git(&["rm", "-r", "--quiet", "--ignore-unmatch", "."]);
        for (path, content) in files {
            self.write(path, content);
        }
        self.commit();
        self.git(&["tag", tag]);
    }
}

/// An entry, driven round by round.
pub(crate) struct Followed {
    pub(crate) worker: Worker,
    pub(crate) statuses: Statuses,
    pub(crate) tree: PathBuf,
}

pub(crate) fn spec(url: &str, tags: &str) -> SyncSpec {
    SyncSpec {
        container: "app".to_owned(),
        path: "/srv/www".to_owned(),
        git: GitSpec { url: url.to_owned(), tags: Some(tags.to_owned()), ..GitSpec::default() },
        ..SyncSpec::default()
    }
}

pub(crate) fn source(directory: &Path, spec: SyncSpec) -> SyncSource {
    let directory = directory.join("entry").display().to_string();
    SyncSource { directory, spec, ready: None }
}

pub(crate) fn app() -> App {
    App {
        container: "app".to_owned(),
        path: "/srv/www".to_owned(),
        tree: PathBuf::new(),
        host: "127.0.0.1".to_owned(),
        grace: Duration::from_mins(1),
    }
}

impl Followed {
    pub(crate) fn new(directory: &Path, spec: SyncSpec) -> Self {
        Self::of(source(directory, spec))
    }

    pub(crate) fn of(source: SyncSource) -> Self {
        let mut followed = Self::new_unstarted(source);
        followed.worker.start().unwrap();
        followed
    }

    /// One that has not looked at its directory.
    pub(crate) fn new_unstarted(source: SyncSource) -> Self {
        let names = std::iter::once((source.spec.container.clone(), source.spec.path.clone()));
        let statuses = Statuses::new(names, Readiness::default().condition("content"));
        let tree = Path::new(&source.directory).join("tree");
        let program = env!("CARGO_BIN_EXE_outrigger-sync").into();
        let worker = Worker::new(source, app(), statuses.clone(), 0, program);
        Self { worker, statuses, tree }
    }

    pub(crate) fn round(&mut self) -> Result<(), Failure> {
        self.worker.round()
    }

    /// How the next round fails.
    pub(crate) fn fails(&mut self) -> (Reason, String) {
        let failure = self.worker.round().unwrap_err();
        (failure.reason(), failure.to_string())
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.tree.join(path)).ok()
    }

    pub(crate) fn entry(&self) -> Entry {
        self.statuses.all().remove(0)
    }

    pub(crate) fn version(&self) -> Option<String> {
        self.entry().version
    }

    /// How many versions lie on the disk.
    pub(crate) fn versions(&self) -> usize {
        fs::read_dir(self.tree.join("..versions")).unwrap().count()
    }
}
