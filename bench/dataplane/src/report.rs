//! The results as Markdown: tables, then each limit with what was measured.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contender::Kind;
use crate::limits;
use crate::load;
use crate::measure::{CONNECTIONS, LOW_RATE, RESIDENT_AT, Results, Work};
use crate::memory::{IDLE_CONNECTIONS, Soak};
use crate::sample::Sample;

/// The section of a standard run, without its markers.
pub(crate) fn standard(results: &Results, about: &str) -> String {
    let mut out = format!("{about}\n");
    if !results.faults.is_empty() {
        out += "\n**Failed in this run**, and left out of the medians:\n\n";
        for fault in &results.faults {
            let _ = writeln!(out, "- {fault}");
        }
    }
    out += "\n### Limits\n\n";
    out += &limits::table(results);
    out += "\n### One hop\n\n";
    out += &one_hop(results);
    out += "\n### Full speed\n\nCPU per request in µs, and requests a second in thousands.\n\n";
    out += &full_speed(results);
    out += "\n### HTTP/2, gRPC, TCP\n\n";
    let _ = writeln!(
        out,
        "{} connections with {} requests at a time each; gRPC is a unary call. TCP: {} connections, one way.\n",
        load::CONNECTIONS,
        load::STREAMS,
        crate::bulk::CONNECTIONS
    );
    out += &others(results);
    out += "\n### Memory\n\nResident MiB, each of a fresh process.\n\n";
    out += &memory(results);
    if let Some(soak) = &results.soak {
        let _ = writeln!(out, "\nSoak: {soak}.");
    }
    let _ = writeln!(out, "\n{:.1} million requests were answered in the rounds.", results.requests() / 1e6);
    out
}

/// The section of a long soak.
pub(crate) fn soak(soak: &Soak, about: &str) -> String {
    let tenth = soak.resident.len() / 10;
    let shown: Vec<_> = soak.resident.chunks(tenth.max(1)).map(|part| mib(part[0])).collect();
    format!("{about}\n\n{soak}.\nResident MiB at each tenth of the time: {}.\n", shown.join(", "))
}

fn one_hop(results: &Results) -> String {
    let mut out = format!(
        "Times in µs. *Low*: {LOW_RATE} requests a second, answers of 1 KiB. *Half load*: half of HAProxy's full speed on 64 \
         connections, for a slower proxy half of its own. *Tenths*: the 99th percentile of as \
         many answers in a row as are due in a tenth of a second, and the median of those. What stops the proxies' CPU less often \
         moves only the p99 of a whole round: here a thread of the kernel did for 2 to 4 ms twice a second, as `perf` showed.\n\n\
         | | low: p50 | p99 | added p50 | added p99 | CPU | half load: req/s | p50 | p99, tenths | p99 | added p50 | \
         added p99, tenths | added p99 | CPU |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    let kinds = [&[Kind::Direct][..], &Kind::PROXIES, &[Kind::BareRelay]].concat();
    for kind in kinds {
        let rate = |work| number(results.median(work, kind, Sample::rate), 0);
        let low = latencies(results, Work::Low, kind, &[|sample| sample.p50, |sample| sample.p99]);
        let half: [fn(&Sample) -> f64; 3] =
            [|sample| sample.p50, |sample| sample.p99_of_tenths, |sample| sample.p99];
        let row = latencies(results, Work::Half, kind, &half);
        let _ = writeln!(out, "| {} | {low} | {} | {row} |", kind.name(), rate(Work::Half));
        if kind == Kind::Outrigger {
            let row = latencies(results, Work::Scraped, kind, &half);
            let name = "Outrigger, `/metrics` read 100 times a second";
            let _ = writeln!(out, "| {name} | | | | | | {} | {row} |", rate(Work::Scraped));
        }
    }
    out
}

/// The cells of these times, of what a proxy adds to each, and of its CPU time for a request; the app alone has the first only.
fn latencies(results: &Results, work: Work, kind: Kind, figures: &[fn(&Sample) -> f64]) -> String {
    let of = |work, kind, figure| results.median(work, kind, figure) * 1e6;
    let mut cells: Vec<_> = figures.iter().map(|figure| number(of(work, kind, *figure), 0)).collect();
    if kind == Kind::Direct {
        cells.resize(2 * figures.len() + 1, String::new());
        return cells.join(" | ");
    }
    let base = if work == Work::Scraped { Work::Half } else { work };
    cells.extend(
        figures.iter().map(|figure| number(of(work, kind, *figure) - of(base, Kind::Direct, *figure), 0)),
    );
    cells.push(number(of(work, kind, Sample::cpu_each), 1));
    cells.join(" | ")
}

fn full_speed(results: &Results) -> String {
    let mut out = String::from("| connections |");
    for connections in CONNECTIONS {
        let _ = write!(out, " {connections}: CPU | req/s |");
    }
    out += "\n|---|";
    out += &"---|---|".repeat(CONNECTIONS.len());
    out += "\n";
    for kind in [&Kind::PROXIES[..], &Kind::FLOOR].concat() {
        let _ = write!(out, "| {} |", kind.name());
        for connections in CONNECTIONS {
            let of = |figure| results.median(Work::Full(connections), kind, figure);
            let _ = write!(
                out,
                " {} | {} |",
                number(of(Sample::cpu_each) * 1e6, 2),
                number(of(Sample::rate) / 1e3, 1)
            );
        }
        out += "\n";
    }
    out
}

fn others(results: &Results) -> String {
    let mut out = String::from(
        "| | HTTP/2: CPU µs | req/s | gRPC: CPU µs | req/s | TCP: GB per CPU second | GB/s |\n|---|---|---|---|---|---|---|\n",
    );
    for kind in [Kind::Outrigger, Kind::Haproxy, Kind::Envoy] {
        let of = |work, figure| results.median(work, kind, figure);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            kind.name(),
            number(of(Work::Http2, Sample::cpu_each) * 1e6, 1),
            number(of(Work::Http2, Sample::rate), 0),
            number(of(Work::Grpc, Sample::cpu_each) * 1e6, 1),
            number(of(Work::Grpc, Sample::rate), 0),
            number(of(Work::Tcp, |sample| sample.done / 1e9 / sample.cpu), 2),
            number(of(Work::Tcp, |sample| sample.done / 1e9 / sample.seconds), 2),
        );
    }
    out
}

fn memory(results: &Results) -> String {
    let mut out = String::from("| | idle |");
    for connections in RESIDENT_AT {
        let _ = write!(out, " {connections} connections, loaded |");
    }
    let _ = writeln!(
        out,
        " {IDLE_CONNECTIONS} connections, idle | 1 GiB to a slow reader, peak |\n|---|---|---|---|---|---|"
    );
    for kind in [&Kind::PROXIES[..], &Kind::FLOOR].concat() {
        let cell = |bytes: Option<&u64>| bytes.map_or_else(|| "–".to_owned(), |bytes| mib(*bytes));
        let of = |map: &BTreeMap<Kind, u64>| cell(map.get(&kind));
        let _ = write!(out, "| {} | {} |", kind.name(), of(&results.idle));
        for connections in RESIDENT_AT {
            let _ = write!(out, " {} |", cell(results.loaded.get(&(connections, kind))));
        }
        let _ = writeln!(out, " {} | {} |", of(&results.idle_connections), of(&results.slow_reader));
    }
    out
}

/// With so many decimals; a dash for what was not measured.
pub(crate) fn number(figure: f64, decimals: usize) -> String {
    if figure.is_finite() { format!("{figure:.decimals$}") } else { "–".to_owned() }
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
