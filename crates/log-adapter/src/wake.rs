//! Waiting until there is something to do.
//!
//! Directories are watched by inotify, which only shortens the wait: every file is looked at once a second in any case, so that
//! nothing is missed on a file system without it (virtiofs, gVisor), behind a symbolic link, or when the kernel is out of
//! watches. Looking costs a `stat` for each file.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// What ends a wait.
#[derive(Debug)]
pub(crate) struct Wake {
    inotify: Option<OwnedFd>,
    stop: OwnedFd,
    /// Said once, not at every look.
    warned: bool,
}

impl Wake {
    /// Watches nothing yet. Also returns what wakes it from another thread: see [`stop`].
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(error) = &inotify {
            tracing::warn!(%error, "no inotify here: files are looked at once a second");
        }
        let stop = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let handle = stop.try_clone()?;
        Ok((Self { warned: inotify.is_err(), inotify: inotify.ok(), stop }, handle))
    }

    /// Watches a directory; nothing changes for one that is watched already.
    pub(crate) fn watch(&mut self, directory: &Path) {
        let Some(inotify) = &self.inotify else { return };
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(inotify, directory, flags) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) if !self.warned => {
                self.warned = true;
                let directory = directory.display();
                tracing::warn!(%error, %directory, "failed to watch directory: it is looked at once a second");
            }
            Err(_) => {}
        }
    }

    /// Waits until something happens in a watched directory, a stop is asked for, or `timeout` is over. Returns whether files
    /// came, went or changed their names.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut fds = vec![PollFd::new(&self.stop, PollFlags::IN)];
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.stop, &mut counter);
        self.inotify.as_ref().is_some_and(names_changed)
    }
}

/// Takes all events that there are.
fn names_changed(inotify: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(inotify, &mut buffer);
    let mut changed = false;
    // The only other error is EAGAIN: no more events.
    while let Ok(event) = events.next() {
        changed |= event.events() != ReadFlags::MODIFY;
    }
    changed
}

/// Ends the current wait, or the next one, of the [`Wake`] that `handle` came with.
pub(crate) fn stop(handle: &OwnedFd) {
    // It fails only where 2⁶⁴ stops are pending.
    let _ = rustix::io::write(handle, &1_u64.to_ne_bytes());
}
