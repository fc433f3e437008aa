//! Load at a fixed rate, for latency: a queue that forms in the proxy is counted in full.
//!
//! Not wrk, which sends the next request only after the last answer and so measures least when it is slowest; and not a
//! tool on an asynchronous runtime, whose timers are exact to a millisecond where we look for microseconds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::contender::Contender;
use crate::sample::Sample;

/// Connections that share the rate.
pub(crate) const CONNECTIONS: u32 = 16;

/// Sends `rate` requests a second for so long, evenly, over keep-alive connections, and takes the time of each.
///
/// A request's time starts when it is sent; where its connection was still busy when it was due, it starts when it was due.
pub(crate) fn run(to: &Contender, path: &str, rate: f64, seconds: u64) -> anyhow::Result<Sample> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: app\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(to.ports.http)?;
        client.ask(request.as_bytes())?;
        clients.push(client);
    }
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let (cpu_before, start) = (to.cpu()?, Instant::now() + Duration::from_millis(10));
    let end = start + Duration::from_secs(seconds);
    let mut times = Vec::new();
    let mut errors = 0.0;
    thread::scope(|scope| {
        let request = request.as_bytes();
        let workers: Vec<_> = (0..CONNECTIONS)
            .zip(&mut clients)
            .map(|(number, client)| {
                let first = start + every * number / CONNECTIONS;
                scope.spawn(move || client.ask_every(request, first, every, end))
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok((taken, failed)) => {
                    times.extend(taken);
                    errors += f64::from(u8::from(failed));
                }
                Err(_) => errors += 1.0,
            }
        }
    });
    let cpu = to.cpu()? - cpu_before;
    times.sort();
    #[expect(clippy::cast_precision_loss, reason = "at most some 100,000")]
    let requests = times.len() as f64;
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, Duration::as_secs_f64);
    Ok(Sample {
        done: requests,
        errors,
        seconds: start.elapsed().as_secs_f64(),
        cpu,
        p50: at(50),
        p99: at(99),
    })
}

/// A keep-alive connection, one request at a time.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// The times taken until `end`, and whether a request failed, which ends it early.
    fn ask_every(
        &mut self,
        request: &[u8],
        first: Instant,
        every: Duration,
        end: Instant,
    ) -> (Vec<Duration>, bool) {
        let mut times = Vec::new();
        let mut due = first;
        while due < end {
            let wait = due.saturating_duration_since(Instant::now());
            thread::sleep(wait);
            let started = if wait.is_zero() { due } else { Instant::now() };
            if self.ask(request).is_err() {
                return (times, true);
            }
            times.push(started.elapsed());
            due += every;
        }
        (times, false)
    }

    /// Sends a request and reads its answer, which must be a 200 with a Content-Length and small.
    pub(crate) fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            let length = self.stream.read(&mut self.buffer[filled..])?;
            if length == 0 {
                bail!("closed before the answer was complete, or the answer is too large");
            }
            filled += length;
            if is_complete(&self.buffer[..filled])? {
                return Ok(());
            }
        }
    }
}

fn is_complete(answer: &[u8]) -> anyhow::Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(answer)? else { return Ok(false) };
    if head.code != Some(200) {
        bail!("answered with {:?}", head.code);
    }
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(length) = length else { bail!("answered without Content-Length") };
    Ok(answer.len() == head_length + str::from_utf8(length.value)?.parse::<usize>()?)
}
