//! File descriptors: each client's connection has one, and its request, while it is in flight, another to the app.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For what is no connection: listeners, log, config, the admin server's clients.
const OTHERS: u64 = 64;

/// Makes room for this many connections of clients, as far as the system allows. Returns for how many there is room.
///
/// The soft limit is raised no further than needed, and only up to the hard one. containerd gives 1,024 and a hard limit of 524,288
/// since its version 2, after the fashion of systemd: a limit that is kept low for programs that use `select`, which we do not.
#[must_use]
pub fn make_room(connections: usize) -> usize {
    let wanted = (connections as u64).saturating_mul(2).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(maximum.map_or(wanted, |most| most.min(wanted))), maximum };
        // Where it fails, what is left is what there was.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let room = getrlimit(Resource::Nofile).current.map_or(connections, room_in);
    if room < connections {
        tracing::warn!(
            wanted = connections,
            connections = room,
            "fewer connections than wanted: the limit of open files (RLIMIT_NOFILE) has no room for more"
        );
    }
    room.min(connections)
}

fn room_in(open_files: u64) -> usize {
    usize::try_from(open_files.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX)
}
