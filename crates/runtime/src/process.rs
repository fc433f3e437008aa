//! `process_*`, from /proc: what Prometheus users expect of every process.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks a second in /proc: `USER_HZ`, part of Linux's ABI and 100 on every architecture we build for. Asking
/// `sysconf` would take unsafe code or a dependency.
const TICKS_A_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        // What can't be read is left out: a gap tells more than a zero.
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", resident_bytes()),
            ("process_open_fds", "Open file descriptors", open_fds()),
            (
                "process_start_time_seconds",
                "Start of the process, since the Unix epoch",
                start_time_seconds(),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(gauge) = value.map(ConstGauge::new) {
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        if let Some(counter) = cpu_seconds().map(ConstCounter::new) {
            let (name, help) = ("process_cpu_seconds", "CPU time used, user and system");
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// From `status`, which is in kB; `statm` counts pages, whose size can't be asked without libc.
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn open_fds() -> Option<f64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory that we are reading.
    u32::try_from(entries.saturating_sub(1)).ok().map(f64::from)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some((stat_field(&stat, 14)? + stat_field(&stat, 15)?) / TICKS_A_SECOND)
}

fn start_time_seconds() -> Option<f64> {
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some(boot + stat_field(&stat, 22)? / TICKS_A_SECOND)
}

/// A field by its number in proc(5), for numbers from 3: those after the program's name, which may hold spaces and
/// parentheses.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_name_with_spaces_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 1 0 999 1 2";
        assert_eq!(stat_field(stat, 14), Some(12.0));
        assert_eq!(stat_field(stat, 15), Some(34.0));
        assert_eq!(stat_field(stat, 22), Some(999.0));
    }

    #[test]
    fn our_own_process_has_all_four() {
        assert!(resident_bytes().unwrap() > 100_000.0);
        assert!(open_fds().unwrap() >= 3.0);
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(start_time_seconds().unwrap() > 1.6e9);
    }
}
