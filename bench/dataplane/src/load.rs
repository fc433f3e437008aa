//! Load as fast as it goes: wrk for HTTP/1, h2load for HTTP/2 and gRPC.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::contender::{Bench, Contender};
use crate::process::pinned;
use crate::sample::Sample;

/// Streams at a time on each HTTP/2 connection.
pub(crate) const STREAMS: u32 = 8;
/// HTTP/2 connections.
pub(crate) const CONNECTIONS: u32 = 8;

/// HTTP/1 keep-alive, one request at a time on each connection.
pub(crate) fn http1(bench: &Bench, to: &Contender, connections: u32, seconds: u64) -> anyhow::Result<Sample> {
    wrk(bench, to, connections, seconds, &[])
}

/// HTTP/1, each request on a connection of its own.
pub(crate) fn http1_closing(
    bench: &Bench,
    to: &Contender,
    connections: u32,
    seconds: u64,
) -> anyhow::Result<Sample> {
    wrk(bench, to, connections, seconds, &["-H", "Connection: close"])
}

fn wrk(
    bench: &Bench,
    to: &Contender,
    connections: u32,
    seconds: u64,
    extra: &[&str],
) -> anyhow::Result<Sample> {
    let script = bench.work.join("result.lua");
    fs::write(&script, include_str!("../config/result.lua"))?;
    let (connections, duration) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let (script, url) = (script.display().to_string(), format!("http://127.0.0.1:{}/", to.ports.http));
    let before = to.cpu()?;
    let fixed = ["wrk", "-t1", &connections, &duration, "--timeout", "5s", "-s", &script, &url];
    let out = run(bench, &[&fixed, extra].concat())?;
    let cpu = to.cpu()? - before;
    let line = out.lines().find_map(|line| line.strip_prefix("RESULT ")).context("wrk told no result")?;
    let figures: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, micros, p50, p99, errors] = figures[..] else { bail!("wrk told {line:?}") };
    Ok(Sample {
        done: requests,
        errors,
        seconds: micros / 1e6,
        cpu,
        p50: p50 / 1e6,
        p99: p99 / 1e6,
        p99_of_tenths: f64::NAN,
    })
}

/// HTTP/2 with prior knowledge: GET.
pub(crate) fn http2(bench: &Bench, to: &Contender, seconds: u64) -> anyhow::Result<Sample> {
    h2load(bench, to, seconds, &[], "/")
}

/// A unary gRPC call: the health check.
pub(crate) fn grpc(bench: &Bench, to: &Contender, seconds: u64) -> anyhow::Result<Sample> {
    let message = bench.work.join("files/empty-message");
    let message = message.display().to_string();
    let as_grpc = ["-d", &message, "-H", "content-type: application/grpc", "-H", "te: trailers"];
    h2load(bench, to, seconds, &as_grpc, "/grpc.health.v1.Health/Check")
}

fn h2load(bench: &Bench, to: &Contender, seconds: u64, extra: &[&str], path: &str) -> anyhow::Result<Sample> {
    let (connections, streams) = (format!("-c{CONNECTIONS}"), format!("-m{STREAMS}"));
    let (duration, url) = (seconds.to_string(), format!("http://127.0.0.1:{}{path}", to.ports.http2));
    let fixed = ["h2load", "-t1", &connections, &streams, "-D", &duration];
    let before = to.cpu()?;
    let out = run(bench, &[&fixed, extra, &[url.as_str()]].concat())?;
    let cpu = to.cpu()? - before;
    let requests = number_before(&out, " 2xx").context("h2load told no status codes")?;
    let failed =
        ["failed", "errored", "timeout"].map(|what| number_before(&out, &format!(" {what}")).unwrap_or(0.0));
    let others = [" 3xx", " 4xx", " 5xx"].map(|what| number_before(&out, what).unwrap_or(0.0));
    let errors = failed.iter().chain(&others).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let seconds = seconds as f64;
    Ok(Sample { done: requests, errors, seconds, cpu, ..Sample::default() })
}

/// The number that stands before the first occurrence of this text.
fn number_before(out: &str, text: &str) -> Option<f64> {
    let before = out.get(..out.find(text)?)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn run(bench: &Bench, command: &[&str]) -> anyhow::Result<String> {
    let output =
        pinned(bench.load_cpu, command).output().with_context(|| format!("failed to run {}", command[0]))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{} failed: {out}{}", command.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(out)
}

/// What the app serves, and what is sent to it.
pub(crate) fn write_files(work: &Path, big: u64) -> anyhow::Result<()> {
    let files = work.join("files");
    fs::create_dir_all(files.join("grpc.health.v1.Health"))?;
    fs::write(files.join("1k"), [b'x'; 1024])?;
    // Sparse: zeros that take no disk.
    fs::File::create(files.join("big"))?.set_len(big)?;
    fs::write(files.join("empty-message"), [0; 5])?;
    // One message of two bytes: HealthCheckResponse { status: SERVING }.
    fs::write(files.join("grpc.health.v1.Health/Check"), [0, 0, 0, 0, 2, 0x08, 0x01])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2loads_figures_are_found() {
        let out = "requests: 690 total, 754 started, 690 done, 690 succeeded, 7 failed, 0 errored, 0 timeout\n\
                   status codes: 683 2xx, 0 3xx, 0 4xx, 7 5xx\n";
        let found = [" 2xx", " failed", " 5xx", " errored"].map(|text| number_before(out, text));
        assert_eq!(found, [Some(683.0), Some(7.0), Some(7.0), Some(0.0)]);
        assert_eq!(number_before("", " 2xx"), None);
    }
}
