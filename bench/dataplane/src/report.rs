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
         connections, for a slower proxy half of its own.\n\n\
         | | low: p50 | p99 | added p50 | added p99 | CPU | half load: req/s | p50 | p99 | added p50 | added p99 | CPU |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    let kinds = [&[Kind::Direct][..], &Kind::PROXIES, &[Kind::BareRelay]].concat();
    let mut row = |name: &str, low: Option<Work>, half: Work, kind: Kind| {
        let latency = |work| {
            let of = |figure, kind| results.median(work, kind, figure) * 1e6;
            let [p50, p99]: [fn(&Sample) -> f64; 2] = [|sample| sample.p50, |sample| sample.p99];
            let base = if work == Work::Scraped { Work::Half } else { work };
            let added = |figure| of(figure, kind) - results.median(base, Kind::Direct, figure) * 1e6;
            let cpu = results.median(work, kind, Sample::cpu_each) * 1e6;
            let times = format!("{} | {}", number(of(p50, kind), 0), number(of(p99, kind), 0));
            if kind == Kind::Direct {
                return format!("{times} | | |");
            }
            format!("{times} | {} | {} | {}", number(added(p50), 0), number(added(p99), 0), number(cpu, 1))
        };
        let rate = results.median(half, kind, Sample::rate);
        let low = low.map_or("| | | |".to_owned(), latency);
        let _ = writeln!(out, "| {name} | {low} | {} | {} |", number(rate, 0), latency(half));
    };
    for kind in kinds {
        row(kind.name(), Some(Work::Low), Work::Half, kind);
        if kind == Kind::Outrigger {
            row("Outrigger, `/metrics` read 100 times a second", None, Work::Scraped, kind);
        }
    }
    out
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
