//! The standard run: every kind of work against every contender, interleaved.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::contender::{Bench, Contender, Kind};
use crate::memory::{self, Soak};
use crate::sample::{Sample, median};
use crate::{bulk, counted, load, paced};

/// Connections at full speed.
pub(crate) const CONNECTIONS: [u32; 4] = [8, 64, 256, 1024];
/// Connections at which memory is looked at.
pub(crate) const RESIDENT_AT: [u32; 2] = [256, 1024];
/// Requests a second at the lower of the two fixed rates: the one that the published figures of other meshes are at.
pub(crate) const LOW_RATE: f64 = 1000.0;

/// How long a standard run soaks, in seconds.
const SOAK: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// HTTP/1 as fast as it goes, on so many connections.
    Full(u32),
    /// HTTP/1 at [`LOW_RATE`], answers of 1 KiB.
    Low,
    /// HTTP/1 at half of HAProxy's full speed on 64 connections.
    Half,
    /// The same, while `/metrics` is read 100 times a second.
    Scraped,
    Http2,
    Grpc,
    Tcp,
}

/// Everything that was measured. What failed is in `faults` and nowhere else.
#[derive(Default)]
pub(crate) struct Results {
    samples: BTreeMap<(Work, Kind), Vec<Sample>>,
    /// Resident bytes.
    pub(crate) idle: BTreeMap<Kind, u64>,
    pub(crate) loaded: BTreeMap<(u32, Kind), u64>,
    pub(crate) idle_connections: BTreeMap<Kind, u64>,
    pub(crate) slow_reader: BTreeMap<Kind, u64>,
    pub(crate) soak: Option<Soak>,
    pub(crate) faults: Vec<String>,
}

impl Results {
    /// The median of the rounds; NaN where none succeeded.
    pub(crate) fn median(&self, work: Work, kind: Kind, figure: fn(&Sample) -> f64) -> f64 {
        median(self.samples.get(&(work, kind)).into_iter().flatten().map(figure))
    }

    pub(crate) fn requests(&self) -> f64 {
        self.samples
            .iter()
            .filter(|((work, _), _)| *work != Work::Tcp)
            .flat_map(|(_, s)| s)
            .map(|s| s.done)
            .sum()
    }

    fn note<T>(&mut self, what: fmt::Arguments<'_>, result: anyhow::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                eprintln!("  failed: {what}: {error:#}");
                self.faults.push(format!("{what}: {error:#}"));
            })
            .ok()
    }
}

/// Measures everything. Fails only where nothing can be measured at all; the rest is told in [`Results::faults`].
pub(crate) fn all(bench: &Bench, rounds: usize, seconds: u64) -> anyhow::Result<Results> {
    let mut results = Results::default();
    {
        let everyone = [&Kind::PROXIES[..], &Kind::FLOOR, &[Kind::Direct]].concat();
        let running: Vec<Contender> =
            everyone.into_iter().map(|kind| bench.start(kind)).collect::<anyhow::Result<_>>()?;
        let mut run = Rounds { bench, running: &running, count: rounds, seconds, results: &mut results };
        let without_direct = [&Kind::PROXIES[..], &Kind::FLOOR].concat();
        for connections in CONNECTIONS {
            run.of(Work::Full(connections), &without_direct);
        }
        let paced = [&[Kind::Direct][..], &Kind::PROXIES, &[Kind::BareRelay]].concat();
        run.of(Work::Low, &paced);
        run.of(Work::Half, &paced);
        run.of(Work::Scraped, &[Kind::Outrigger]);
        let http2 = [Kind::Outrigger, Kind::Haproxy, Kind::Envoy];
        run.of(Work::Http2, &http2);
        run.of(Work::Grpc, &http2);
        run.of(Work::Tcp, &[Kind::Outrigger, Kind::Haproxy, Kind::Envoy]);
    }
    resident(bench, seconds, &mut results);
    Ok(results)
}

/// Memory, of fresh processes: what is resident depends on what was before.
fn resident(bench: &Bench, seconds: u64, results: &mut Results) {
    eprintln!("memory");
    for kind in [&Kind::PROXIES[..], &Kind::FLOOR].concat() {
        let name = kind.name();
        if let Some(bytes) = results.note(format_args!("{name}, idle"), memory::idle(bench, kind)) {
            results.idle.insert(kind, bytes);
        }
        for connections in RESIDENT_AT {
            let bytes = memory::loaded(bench, kind, connections, seconds);
            if let Some(bytes) =
                results.note(format_args!("{name}, memory at {connections} connections"), bytes)
            {
                results.loaded.insert((connections, kind), bytes);
            }
        }
    }
    for kind in Kind::PROXIES {
        let name = kind.name();
        let bytes = memory::idle_connections(bench, kind);
        if let Some(bytes) =
            results.note(format_args!("{name}, {} idle connections", memory::IDLE_CONNECTIONS), bytes)
        {
            results.idle_connections.insert(kind, bytes);
        }
        let bytes = bench.start(kind).and_then(|fresh| bulk::slow_reader(&fresh));
        if let Some(bytes) = results.note(format_args!("{name}, 1 GiB to a slow reader"), bytes) {
            results.slow_reader.insert(kind, bytes);
        }
    }
    eprintln!("soak");
    results.soak = results.note(format_args!("Outrigger, soak"), memory::soak(bench, SOAK.min(seconds * 20)));
}

struct Rounds<'a> {
    bench: &'a Bench,
    running: &'a [Contender],
    count: usize,
    seconds: u64,
    results: &'a mut Results,
}

impl Rounds<'_> {
    /// One kind of work, the contenders taking turns so that what disturbs the machine disturbs all.
    fn of(&mut self, work: Work, kinds: &[Kind]) {
        let start = Instant::now();
        for round in 1..=self.count {
            for to in kinds.iter().filter_map(|kind| self.running.iter().find(|to| to.kind == *kind)) {
                let sample = self.once(work, to);
                let what = format_args!("{}, {work}, round {round}", to.kind.name());
                if let Some(sample) = self.results.note(what, sample) {
                    self.results.samples.entry((work, to.kind)).or_default().push(sample);
                }
            }
        }
        eprintln!("{work}: {} s", start.elapsed().as_secs());
    }

    fn once(&self, work: Work, to: &Contender) -> anyhow::Result<Sample> {
        let (bench, seconds) = (self.bench, self.seconds);
        let (port, in_flight) = match work {
            Work::Full(connections) => ("http", connections),
            // It waits for each answer.
            Work::Low | Work::Half | Work::Scraped => ("http", paced::CONNECTIONS),
            Work::Http2 | Work::Grpc => ("http2", load::CONNECTIONS * load::STREAMS),
            Work::Tcp => return bulk::tcp(to, seconds),
        };
        let before = counted_by(to, port)?;
        let sample = match work {
            Work::Full(connections) => load::http1(bench, to, connections, seconds),
            Work::Low => paced::run(to, "/1k", LOW_RATE, seconds),
            Work::Half => paced::run(to, "/", self.half_rate(to.kind), seconds),
            Work::Scraped => scraped(to, || paced::run(to, "/", self.half_rate(to.kind), seconds)),
            Work::Http2 => load::http2(bench, to, seconds),
            Work::Grpc => load::grpc(bench, to, seconds),
            Work::Tcp => unreachable!("returned above"),
        }?;
        if sample.errors > 0.0 {
            bail!("{} of {} requests failed", sample.errors, sample.done + sample.errors);
        }
        if to.kind == Kind::Outrigger {
            check_count(to, port, before, sample.done, in_flight)?;
        }
        Ok(sample)
    }

    /// Half of HAProxy's full speed, or, of one that is slower, of its own.
    fn half_rate(&self, kind: Kind) -> f64 {
        let speed = |kind| self.results.median(Work::Full(64), kind, Sample::rate);
        // `min` ignores a NaN: the app has no full speed here, and a contender may have failed.
        let rate = speed(Kind::Haproxy).min(speed(kind)) / 2.0;
        if rate.is_nan() { LOW_RATE } else { rate }
    }
}

fn counted_by(to: &Contender, port: &str) -> anyhow::Result<f64> {
    if to.kind == Kind::Outrigger { counted::requests(to.ports.admin, port) } else { Ok(0.0) }
}

/// Every answer that the load got was counted, and no more but those under way when it stopped, or sent to warm up.
fn check_count(to: &Contender, port: &str, before: f64, done: f64, in_flight: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let counted = counted::requests(to.ports.admin, port)? - before;
        if (done..=done + f64::from(in_flight)).contains(&counted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{done} requests were answered, and Outrigger's metrics count {counted}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn scraped(to: &Contender, work: impl FnOnce() -> anyhow::Result<Sample>) -> anyhow::Result<Sample> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| -> anyhow::Result<()> {
            while !over.load(Ordering::Relaxed) {
                counted::requests(to.ports.admin, "http")?;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        let sample = work();
        over.store(true, Ordering::Relaxed);
        scraper.join().ok().context("the scraper panicked")??;
        sample
    })
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(connections) => write!(f, "HTTP/1 at full speed on {connections} connections"),
            Self::Low => write!(f, "HTTP/1 at {LOW_RATE} requests a second"),
            Self::Half => write!(f, "HTTP/1 at half load"),
            Self::Scraped => write!(f, "HTTP/1 at half load, scraped"),
            Self::Http2 => write!(f, "HTTP/2"),
            Self::Grpc => write!(f, "gRPC"),
            Self::Tcp => write!(f, "TCP"),
        }
    }
}
