//! The directory of one demo: logs, configs and a kubeconfig.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::process::geteuid;

/// What its name begins with; the number of the process follows.
const PREFIX: &str = "outrigger-demo-";

/// A directory that is there as long as its demo wants, and no longer than until the next one starts.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
    /// Locked as long as the demo runs, however it ends: a process number alone may be somebody else's by now.
    _lock: File,
}

impl Room {
    /// Makes one in `parent` that nobody else may look into: the configs in it have the tokens of the pods. Takes away those that killed
    /// demos of this user have left.
    pub(crate) fn make(parent: &Path) -> anyhow::Result<Self> {
        for left in fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
            // What can't be taken away takes place, and no more.
            let _ = take_away(&left);
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path).and_then(|()| File::open(&path));
        let lock = made.with_context(|| format!("failed to create {}", path.display()))?;
        lock.try_lock().with_context(|| format!("failed to lock {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what an earlier demo has left, and nothing else.
fn take_away(left: &Path) -> io::Result<()> {
    let name = left.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_room = name.strip_prefix(PREFIX).is_some_and(|number| number.parse::<u32>().is_ok());
    // Of a link, these are the link's own.
    let metadata = left.symlink_metadata()?;
    if !is_room || !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    File::open(left)?.try_lock()?;
    fs::remove_dir_all(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each demo that was killed left one, which everybody could read.
    #[test]
    fn what_a_killed_demo_has_left_goes_and_what_runs_stays() {
        let parent = std::env::temp_dir().join(format!("outrigger-rooms-{}", std::process::id()));
        let [left, running, other] = [format!("{PREFIX}1"), format!("{PREFIX}2"), format!("{PREFIX}notes")]
            .map(|name| parent.join(name));
        for room in [&left, &running, &other] {
            fs::create_dir_all(room).unwrap();
            fs::write(room.join("webhook.log"), "").unwrap();
        }
        let lock = File::open(&running).unwrap();
        lock.try_lock().unwrap();
        let room = Room::make(&parent).unwrap();
        assert_eq!(room.path().metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!([&left, &running, &other].map(|room| room.exists()), [false, true, true]);
        fs::remove_dir_all(parent).unwrap();
    }
}
