//! What a proxy has resident: idle, under load, with idle connections, and over time.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::contender::{Bench, Contender, Kind};
use crate::paced::Client;
use crate::{counted, load};

/// Idle keep-alive connections, of each of which one request has come.
pub(crate) const IDLE_CONNECTIONS: usize = 4096;

/// Resident bytes of a fresh process.
pub(crate) fn idle(bench: &Bench, kind: Kind) -> anyhow::Result<u64> {
    let fresh = bench.start(kind)?;
    // What it does at its start has settled when it does nothing for a while.
    let mut cpu = fresh.cpu()?;
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = fresh.cpu()?;
        if now - cpu < 0.02 {
            return fresh.process()?.resident();
        }
        cpu = now;
    }
}

/// Resident bytes of a fresh process under load on so many connections, at the most.
pub(crate) fn loaded(bench: &Bench, kind: Kind, connections: u32, seconds: u64) -> anyhow::Result<u64> {
    let fresh = bench.start(kind)?;
    let over = AtomicBool::new(false);
    let (sample, most) = thread::scope(|scope| {
        let watch = scope.spawn(|| most_resident(&fresh, &over));
        let sample = load::http1(bench, &fresh, connections, seconds);
        over.store(true, Ordering::Relaxed);
        (sample, watch.join())
    });
    if sample?.errors > 0.0 {
        bail!("requests failed");
    }
    most.ok().context("the watch panicked")?
}

fn most_resident(of: &Contender, over: &AtomicBool) -> anyhow::Result<u64> {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(of.process()?.resident()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(most)
}

/// Resident bytes of a fresh process with [`IDLE_CONNECTIONS`].
pub(crate) fn idle_connections(bench: &Bench, kind: Kind) -> anyhow::Result<u64> {
    let fresh = bench.start(kind)?;
    let mut clients = Vec::new();
    for number in 1..=IDLE_CONNECTIONS {
        let mut client = Client::connect(fresh.ports.http)?;
        client.ask(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n").with_context(|| format!("connection {number}"))?;
        clients.push(client);
    }
    thread::sleep(Duration::from_millis(200));
    fresh.process()?.resident()
}

/// What our proxy has resident while it works for a long time.
pub(crate) struct Soak {
    /// Bytes, at even intervals from the first request on.
    pub(crate) resident: Vec<u64>,
    pub(crate) requests: f64,
    pub(crate) seconds: u64,
}

/// Keep-alive traffic, a connection for each request, and ten scrapes a second, all at once and for so long.
pub(crate) fn soak(bench: &Bench, seconds: u64) -> anyhow::Result<Soak> {
    const SAMPLES: u32 = 40;
    let proxy = bench.start(Kind::Outrigger)?;
    thread::scope(|scope| {
        let kept = scope.spawn(|| load::http1(bench, &proxy, 64, seconds));
        let closed = scope.spawn(|| load::http1_closing(bench, &proxy, 8, seconds));
        let start = Instant::now();
        let mut resident = Vec::new();
        for number in 1..=SAMPLES {
            let due = start + Duration::from_secs(seconds) * number / SAMPLES;
            while Instant::now() < due {
                counted::requests(proxy.ports.admin, "http")?;
                thread::sleep(Duration::from_millis(100));
            }
            resident.push(proxy.process()?.resident()?);
        }
        let samples = [kept.join(), closed.join()].map(|joined| joined.ok().context("the load panicked")?);
        let mut requests = 0.0;
        for sample in samples {
            let sample = sample?;
            if sample.errors > 0.0 {
                bail!("{} requests failed in the soak", sample.errors);
            }
            requests += sample.done;
        }
        Ok(Soak { resident, requests, seconds })
    })
}

impl Soak {
    /// The most in the second quarter of the time, and in the last: in the first the process still grows into its work.
    pub(crate) fn quarters(&self) -> (u64, u64) {
        let quarter = self.resident.len() / 4;
        let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
        (most(&self.resident[quarter..2 * quarter]), most(&self.resident[3 * quarter..]))
    }

    /// Whether memory climbs: by more than 2 % and 128 KiB from the second quarter to the last.
    pub(crate) fn climbs(&self) -> bool {
        let (early, late) = self.quarters();
        late > early + early / 50 + 128 * 1024
    }
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (early, late) = self.quarters();
        let word = if self.climbs() { "**climbs**" } else { "does not climb" };
        let [early, late] = [early, late].map(crate::report::mib);
        write!(
            f,
            "{} s, {:.1} million requests: {early} MiB at the most in the second quarter, {late} in the last: {word}",
            self.seconds,
            self.requests / 1e6
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_after_the_first_quarter_is_a_climb() {
        let soak = |resident: Vec<u64>| Soak { resident, requests: 0.0, seconds: 1 };
        assert!(!soak(vec![1 << 20, 8 << 20, 8 << 20, 8 << 20]).climbs());
        assert!(soak(vec![1 << 20, 8 << 20, 9 << 20, 10 << 20]).climbs());
    }
}
