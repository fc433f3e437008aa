//! CPU and memory of the pod, from its cgroup and never from the node's.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>; version 1 beside it, for nodes that still have it.

mod place;

use outrigger_runtime::bind::LISTEN_ADDRESS;
use serde::Serialize;

use crate::cgroup::place::{Place, Version};

/// What a pod or a container has used and may use. What can't be told is left out: outside a container there is nothing.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

/// Whose figures they are. Most container runtimes show a container no more than its own cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Scope {
    Pod,
    /// Of the proxy's own container.
    Container,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    of: Scope,
    usage_seconds: f64,
    /// Absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_cores: Option<f64>,
    throttled_seconds: f64,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    of: Scope,
    usage_bytes: u64,
    /// Without the file pages that can go at any time, as the kubelet reckons.
    working_set_bytes: u64,
    /// Absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
}

/// Version 1 says so where there is no limit, rounded down to a page.
const NO_LIMIT: u64 = 1 << 62;

impl ResourceStats {
    /// As of now.
    pub(crate) fn now() -> Self {
        // Where several pods are processes of one machine, its cgroup is that of all of them.
        if std::env::var_os(LISTEN_ADDRESS).is_some() {
            return Self::default();
        }
        Self::read(&|path| std::fs::read_to_string(path).ok())
    }

    fn read(file: &impl Fn(&str) -> Option<String>) -> Self {
        Self { cpu: cpu(file), memory: memory(file) }
    }
}

/// The memory limit of this process's container, in bytes. `None` where there is none.
pub(crate) fn memory_limit() -> Option<u64> {
    if std::env::var_os(LISTEN_ADDRESS).is_some() {
        return None;
    }
    own_memory_limit(&|path| std::fs::read_to_string(path).ok())
}

fn own_memory_limit(file: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let place = Place::own("memory", file)?;
    let name = match place.version {
        Version::One => "memory.limit_in_bytes",
        Version::Two => "memory.max",
    };
    let limit = place.file(file, name)?.trim().parse().ok();
    limit.filter(|limit| *limit < NO_LIMIT)
}

fn memory(file: &impl Fn(&str) -> Option<String>) -> Option<Memory> {
    let place = Place::of("memory", file)?;
    let names = match place.version {
        Version::One => ["memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"],
        Version::Two => ["memory.current", "memory.max", "inactive_file"],
    };
    let [usage, limit, inactive] = names;
    let number = |name| place.file(file, name)?.trim().parse::<u64>().ok();
    let usage_bytes = number(usage)?;
    let inactive = field(&place.file(file, "memory.stat")?, inactive).unwrap_or(0);
    Some(Memory {
        of: place.scope,
        usage_bytes,
        working_set_bytes: usage_bytes.saturating_sub(inactive),
        // "max" is no number.
        limit_bytes: number(limit).filter(|limit| *limit < NO_LIMIT),
    })
}

#[allow(clippy::cast_precision_loss)] // microseconds of CPU are below 2^52 for a century
fn cpu(file: &impl Fn(&str) -> Option<String>) -> Option<Cpu> {
    let usage = Place::of("cpuacct", file)?;
    let seconds = |value: u64, a_second: f64| value as f64 / a_second;
    if usage.version == Version::Two {
        let stat = usage.file(file, "cpu.stat")?;
        return Some(Cpu {
            of: usage.scope,
            usage_seconds: seconds(field(&stat, "usage_usec")?, 1e6),
            limit_cores: usage.file(file, "cpu.max").and_then(|max| cores(max.split_once(' ')?)),
            throttled_seconds: seconds(field(&stat, "throttled_usec").unwrap_or(0), 1e6),
        });
    }
    let usage_seconds = seconds(usage.file(file, "cpuacct.usage")?.trim().parse().ok()?, 1e9);
    let limits = Place::of("cpu", file);
    let limit = |name| limits.as_ref()?.file(file, name);
    let stat = limit("cpu.stat").unwrap_or_default();
    Some(Cpu {
        of: usage.scope,
        usage_seconds,
        limit_cores: limit("cpu.cfs_quota_us")
            .zip(limit("cpu.cfs_period_us"))
            .and_then(|(quota, period)| cores((&quota, &period))),
        throttled_seconds: seconds(field(&stat, "throttled_time").unwrap_or(0), 1e9),
    })
}

/// `None` where the quota is `max` or -1: there is no limit.
fn cores((quota, period): (&str, &str)) -> Option<f64> {
    let quota = quota.trim().parse::<u32>().ok()?;
    let period = period.trim().parse::<u32>().ok()?;
    Some(f64::from(quota) / f64::from(period))
}

/// The number of a line `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "pod8f14e45f_ceea_467f_a9d3_1f0c5a3b2c1d.slice";

    fn read(files: &[(&str, &str)]) -> ResourceStats {
        ResourceStats::read(&|path| {
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    fn memory(of: Scope, usage_bytes: u64, working_set_bytes: u64, limit_bytes: Option<u64>) -> Memory {
        Memory { of, usage_bytes, working_set_bytes, limit_bytes }
    }

    /// As a container with a limit of 64 MiB and a tenth of a CPU sees itself, in a cgroup namespace of its own. The total that a
    /// dashboard shows was the node's once.
    #[test]
    fn version_2_in_a_namespace_of_its_own_is_the_containers() {
        let stats = read(&[
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"),
            ("/sys/fs/cgroup/cgroup.events", "populated 1\n"),
            ("/sys/fs/cgroup/memory.current", "10485760\n"),
            ("/sys/fs/cgroup/memory.max", "67108864\n"),
            ("/sys/fs/cgroup/memory.stat", "anon 9\ninactive_file 485760\n"),
            ("/sys/fs/cgroup/cpu.stat", "usage_usec 2500000\nnr_throttled 2\nthrottled_usec 30000\n"),
            ("/sys/fs/cgroup/cpu.max", "10000 100000\n"),
        ]);
        assert_eq!(stats.memory, Some(memory(Scope::Container, 10_485_760, 10_000_000, Some(64 << 20))));
        let cpu =
            Cpu { of: Scope::Container, usage_seconds: 2.5, limit_cores: Some(0.1), throttled_seconds: 0.03 };
        assert_eq!(stats.cpu, Some(cpu));
    }

    #[test]
    fn version_2_with_the_hosts_tree_is_the_pods() {
        let own = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{UID}");
        let at = |name: &str| format!("/sys/fs/cgroup{own}/{name}");
        let stats = read(&[
            ("/proc/self/cgroup", &format!("0::{own}/cri-containerd-0af1.scope\n")),
            ("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n"),
            (&at("cgroup.events"), "populated 1\n"),
            (&at("memory.current"), "1000\n"),
            (&at("memory.max"), "max\n"),
            (&at("memory.stat"), "inactive_file 1\n"),
            (&at("cpu.stat"), "usage_usec 1000000\n"),
            (&at("cpu.max"), "max 100000\n"),
        ]);
        assert_eq!(stats.memory, Some(memory(Scope::Pod, 1000, 999, None)));
        let cpu = Cpu { of: Scope::Pod, usage_seconds: 1.0, limit_cores: None, throttled_seconds: 0.0 };
        assert_eq!(stats.cpu, Some(cpu));
    }

    #[test]
    fn the_limit_that_counts_is_that_of_the_container_itself() {
        let own = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{UID}/cri-0af1.scope");
        let limit = own_memory_limit(&|path| {
            let at = |name: &str| path == format!("/sys/fs/cgroup{own}/{name}");
            match path {
                "/proc/self/cgroup" => Some(format!("0::{own}\n")),
                "/proc/self/mountinfo" => {
                    Some("31 23 0:28 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n".to_owned())
                }
                _ if at("memory.max") => Some("67108864\n".to_owned()),
                _ => at("cgroup.events").then(|| "populated 1\n".to_owned()),
            }
        });
        assert_eq!(limit, Some(64 << 20));
        assert_eq!(own_memory_limit(&|_| None), None);
    }

    /// Each controller has a tree of its own, of which the container's part is mounted.
    #[test]
    fn version_1_is_the_containers() {
        let own = "/kubepods/burstable/pod8f14e45f-ceea-467f-a9d3-1f0c5a3b2c1d/0af1";
        let mount =
            |name: &str| format!("31 23 0:28 {own} /sys/fs/cgroup/{name} ro - cgroup cgroup rw,{name}\n");
        let stats = read(&[
            ("/proc/self/cgroup", &format!("5:memory:{own}\n3:cpu,cpuacct:{own}\n0::{own}\n")),
            (
                "/proc/self/mountinfo",
                &format!(
                    "{}{}31 23 0:41 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
                    mount("memory"),
                    mount("cpu,cpuacct")
                ),
            ),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "1500000000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_throttled 1\nthrottled_time 250000000\n"),
        ]);
        assert_eq!(stats.memory, Some(memory(Scope::Container, 5000, 4000, None)));
        let cpu =
            Cpu { of: Scope::Container, usage_seconds: 1.5, limit_cores: Some(0.5), throttled_seconds: 0.25 };
        assert_eq!(stats.cpu, Some(cpu));
    }

    #[test]
    fn the_nodes_figures_are_never_told() {
        let two = read(&[
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"),
            ("/sys/fs/cgroup/cpu.stat", "usage_usec 2500000\n"),
            ("/sys/fs/cgroup/memory.stat", "inactive_file 1\n"),
        ]);
        let one = read(&[
            ("/proc/self/cgroup", "3:cpuacct:/\n5:memory:/\n"),
            (
                "/proc/self/mountinfo",
                "31 23 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n32 23 0:29 / /cg/cpu rw - cgroup cgroup rw,cpuacct\n",
            ),
            ("/cg/memory/release_agent", "\n"),
            ("/cg/memory/memory.usage_in_bytes", "5000\n"),
            ("/cg/memory/memory.limit_in_bytes", "1\n"),
            ("/cg/memory/memory.stat", "\n"),
            ("/cg/cpu/release_agent", "\n"),
            ("/cg/cpu/cpuacct.usage", "1\n"),
        ]);
        for stats in [two, one, read(&[])] {
            assert_eq!(stats, ResourceStats::default());
        }
    }
}
