//! Where in the file system the cgroup stands.

use crate::cgroup::Scope;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// The directory of a cgroup.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) version: Version,
    pub(crate) scope: Scope,
    directory: String,
}

impl Place {
    /// Of the pod where it can be seen, otherwise of this process's container. In version 2 there is one for all
    /// controllers. `None` where it would be the node's, or there is none.
    pub(crate) fn of(controller: &str, file: &impl Fn(&str) -> Option<String>) -> Option<Self> {
        Self::find(controller, file, pod)
    }

    /// Of this process's container.
    pub(crate) fn own(controller: &str, file: &impl Fn(&str) -> Option<String>) -> Option<Self> {
        Self::find(controller, file, |_| None)
    }

    fn find(
        controller: &str,
        file: &impl Fn(&str) -> Option<String>,
        pod: impl Fn(&str) -> Option<&str>,
    ) -> Option<Self> {
        let (version, own) = own_path(&file("/proc/self/cgroup")?, controller)?;
        let (root, mount_point) = mount(&file("/proc/self/mountinfo")?, version, controller)?;
        // What is mounted is the whole tree or the part that the container is to see.
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or_default().trim_matches('/');
        let directory = |below: &str| format!("{mount_point}/{below}").trim_end_matches('/').to_owned();
        let (scope, directory) = match pod(below) {
            Some(pod) => (Scope::Pod, directory(pod)),
            None => (Scope::Container, directory(below)),
        };
        let place = Self { version, scope, directory };
        let is_node = match version {
            // Files that all groups have but for the root, and only the root.
            Version::Two => place.file(file, "cgroup.events").is_none(),
            Version::One => place.file(file, "release_agent").is_some(),
        };
        (!is_node).then_some(place)
    }

    pub(crate) fn file(&self, file: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
        file(&format!("{}/{name}", self.directory))
    }
}

/// From `/proc/self/cgroup`, cgroups(7): lines of `number:controllers:path`, with `0::path` for version 2.
fn own_path(text: &str, controller: &str) -> Option<(Version, String)> {
    let lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let mut two = None;
    for (controllers, path) in lines {
        if controllers.is_empty() {
            two = Some((Version::Two, path.to_owned()));
        } else if controllers.split(',').any(|found| found == controller) {
            return Some((Version::One, path.to_owned()));
        }
    }
    two
}

/// From `/proc/self/mountinfo`, proc(5): what of the tree is mounted, and where.
fn mount(text: &str, version: Version, controller: &str) -> Option<(String, String)> {
    text.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        let is_it = match version {
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == controller),
            Version::Two => kind == "cgroup2",
        };
        let mut mount = mount.split(' ').skip(3);
        is_it.then_some((mount.next()?.to_owned(), mount.next()?.to_owned()))
    })
}

/// The part of a path that leads to the pod: `kubepods/burstable/pod<uid>`, or `...-pod<uid>.slice` where systemd keeps the
/// cgroups.
fn pod(path: &str) -> Option<&str> {
    let mut end = 0;
    for name in path.split('/') {
        end += name.len();
        let uid = name.trim_end_matches(".slice").rsplit_once("pod").map(|(_, uid)| uid);
        let is_uid = |uid: &str| {
            uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(&byte))
        };
        if uid.is_some_and(is_uid) {
            return path.get(..end);
        }
        end += 1;
    }
    None
}
