//! The machine, the versions and the command of a run.

use std::fs;
use std::process::Command;

use crate::contender::Bench;

/// A paragraph that stands before the figures.
pub(crate) fn run(bench: &Bench, command: &str) -> String {
    let date = jiff::Timestamp::now().strftime("%-d %B %Y, %H:%M UTC");
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changed = if said("git", &["status", "--porcelain", "--", "crates", "Cargo.lock"]).is_empty() {
        ""
    } else {
        " with changes"
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let envoy = bench.envoy.display().to_string();
    let versions = [
        ("HAProxy", said("haproxy", &["-v"])),
        ("nginx", said("nginx", &["-v"])),
        ("Envoy", said(&envoy, &["--version"])),
        ("wrk", said("wrk", &["-v"])),
        ("h2load", said("h2load", &["--version"])),
        ("rustc", said("rustc", &["--version"])),
    ]
    .map(|(name, said)| format!("{name} {}", version(&said)));
    format!(
        "{date}, commit {commit}{changed}, `{command}`. {}, Linux {}. {}.",
        cpus(),
        kernel.trim(),
        versions.join(", ")
    )
}

/// Model and number of the machine's CPUs, not of the one that this program is pinned to.
fn cpus() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("unknown CPU", |model| model.trim_start_matches(['\t', ':', ' ']));
    format!("{model}, {} CPUs", models.len())
}

/// What a program says on both its channels, trimmed. Versions are no reason to fail a run.
fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return String::new() };
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// The first word that looks like a version; some programs put their name and a slash before it.
fn version(said: &str) -> &str {
    let words = said.split(|c: char| c.is_whitespace() || c == '/');
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    words.into_iter().find(is_version).unwrap_or("of unknown version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        for (said, found) in [
            ("HAProxy version 2.6.12-1+deb12u4 2026/01/01 - https://haproxy.org/", "2.6.12-1+deb12u4"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("/tools/envoy  version: 6a2c/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
            ("", "of unknown version"),
        ] {
            assert_eq!(version(said), found);
        }
    }
}
