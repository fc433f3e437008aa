//! File descriptors: each file that is followed has one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For what is no log file: output, checkpoint, directories, inotify, the admin server's clients.
const OTHERS: u64 = 64;

/// How many log files may be open. The soft limit is raised to the hard one: containerd gives 1,024 and a hard limit of 524,288 since its
/// version 2, which is kept low for programs that use `select`.
pub(crate) fn most() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it fails, what is left is what there was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(open_files.saturating_sub(OTHERS)).unwrap_or(usize::MAX)
}
