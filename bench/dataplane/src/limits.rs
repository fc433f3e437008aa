//! The limits that we set ourselves, beside what was measured.

use std::fmt::Write;

use crate::contender::Kind;
use crate::measure::{CONNECTIONS, RESIDENT_AT, Results, Work};
use crate::memory::IDLE_CONNECTIONS;
use crate::report::number;
use crate::sample::Sample;

/// One row: what, the limit in words, the figure in words, and whether it holds (`None`: not measured).
struct Row {
    what: String,
    limit: String,
    measured: String,
    met: Option<bool>,
}

pub(crate) fn table(results: &Results) -> String {
    let mut out = String::from("| | limit | measured | |\n|---|---|---|---|\n");
    for Row { what, limit, measured, met } in rows(results) {
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "**not measured**",
        };
        let _ = writeln!(out, "| {what} | {limit} | {measured} | {verdict} |");
    }
    out
}

fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let what = format!("CPU per request, {connections} connections");
        for (other, limit) in [(Kind::Haproxy, 0.9), (Kind::Envoy, 0.3), (Kind::BareRelay, 1.15)] {
            let cpu = |kind| results.median(Work::Full(connections), kind, Sample::cpu_each);
            rows.push(at_most(&what, limit, cpu(Kind::Outrigger) / cpu(other), other));
        }
    }
    rows.push(added(results, "p50", |sample| sample.p50));
    rows.push(added(results, "p99", |sample| sample.p99));
    rows.push(added(results, "p99 (of tenths)", |sample| sample.p99_of_tenths));
    for (what, work) in [("HTTP/2", Work::Http2), ("gRPC", Work::Grpc)] {
        let cpu = |kind| results.median(work, kind, Sample::cpu_each);
        let ratio = cpu(Kind::Outrigger) / cpu(Kind::Envoy);
        rows.push(at_most(&format!("CPU per request, {what}"), 0.6, ratio, Kind::Envoy));
    }
    rows.push(tcp(results));
    rows.push(megabytes("resident, idle", 8.0, results.idle.get(&Kind::Outrigger)));
    for connections in RESIDENT_AT {
        let bytes = |kind| results.loaded.get(&(connections, kind)).map_or(f64::NAN, |bytes| mb(*bytes));
        let ratio = bytes(Kind::Outrigger) / bytes(Kind::Haproxy);
        rows.push(at_most(
            &format!("resident, {connections} connections, loaded"),
            0.7,
            ratio,
            Kind::Haproxy,
        ));
    }
    let idle = results.idle_connections.get(&Kind::Outrigger);
    rows.push(megabytes(&format!("resident, {IDLE_CONNECTIONS} idle connections"), 16.0, idle));
    // 64 MiB, the default memory limit of the sidecar.
    rows.push(megabytes(
        "resident at the most, 1 GiB to a slow reader",
        67.1,
        results.slow_reader.get(&Kind::Outrigger),
    ));
    rows.push(Row {
        what: "resident over a soak".to_owned(),
        limit: "does not climb".to_owned(),
        measured: results
            .soak
            .as_ref()
            .map_or("–", |soak| if soak.climbs() { "climbs" } else { "does not" })
            .to_owned(),
        met: results.soak.as_ref().map(|soak| !soak.climbs()),
    });
    rows
}

fn at_most(what: &str, limit: f64, ratio: f64, other: Kind) -> Row {
    Row {
        what: what.to_owned(),
        limit: format!("≤ {limit} × {}", other.name()),
        measured: number(ratio, 2),
        met: ratio.is_finite().then_some(ratio <= limit),
    }
}

fn added(results: &Results, name: &str, figure: fn(&Sample) -> f64) -> Row {
    let of = |kind| results.median(Work::Half, kind, figure) * 1e6;
    let [ours, theirs] = [Kind::Outrigger, Kind::Haproxy].map(|kind| of(kind) - of(Kind::Direct));
    Row {
        what: format!("added {name} at half load"),
        limit: format!("< HAProxy's {} µs", number(theirs, 0)),
        measured: format!("{} µs", number(ours, 0)),
        met: (ours.is_finite() && theirs.is_finite()).then_some(ours < theirs),
    }
}

fn tcp(results: &Results) -> Row {
    let of = |kind| results.median(Work::Tcp, kind, |sample| sample.done / sample.cpu);
    let ratio = of(Kind::Outrigger) / of(Kind::Haproxy);
    Row {
        what: "TCP bytes per CPU second".to_owned(),
        limit: "≥ 0.8 × HAProxy, which splices".to_owned(),
        measured: number(ratio, 2),
        met: ratio.is_finite().then_some(ratio >= 0.8),
    }
}

fn megabytes(what: &str, limit: f64, bytes: Option<&u64>) -> Row {
    let measured = bytes.map_or(f64::NAN, |bytes| mb(*bytes));
    Row {
        what: what.to_owned(),
        limit: format!("≤ {limit} MB"),
        measured: format!("{} MB", number(measured, 1)),
        met: measured.is_finite().then_some(measured <= limit),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
