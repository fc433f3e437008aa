//! Load at a fixed rate, for latency: a queue that forms in the proxy is counted in full.
//!
//! Not wrk, which sends the next request only after the last answer and so measures least when it is slowest; not a tool
//! on an asynchronous runtime, whose timers are exact to a millisecond where we look for microseconds; and not a thread
//! for each connection: sixteen of them and the app on one CPU measured how long the scheduler let each wait, some 300 µs
//! behind every proxy. The kernel may be 50 µs late to wake us (its timer slack), so that what is due by then is sent at once;
//! exact timers cost the app so much of the CPU that all waited longer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::contender::Contender;
use crate::sample::{Sample, median};

/// Connections that share the rate.
pub(crate) const CONNECTIONS: u32 = 64;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Sends `rate` requests a second for so long, as evenly as the timers are exact, over keep-alive connections in turn, and takes the time
/// of each: until it is read, which may be after others that have come.
///
/// A request's time starts when it is sent; where its connection was still busy when it was due, it starts when it was due.
pub(crate) fn run(to: &Contender, path: &str, rate: f64, seconds: u64) -> anyhow::Result<Sample> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: app\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(to.ports.http)?;
        client.ask(request.as_bytes())?;
        clients.push(client);
    }
    let (cpu_before, start) = (to.cpu()?, Instant::now() + Duration::from_millis(10));
    let paced = (0..CONNECTIONS).zip(clients);
    let mut paced: Vec<_> =
        paced.map(|(number, client)| Paced::new(client, start + every * number / CONNECTIONS)).collect();
    let (times, errors) =
        all_until(start + Duration::from_secs(seconds), &mut paced, request.as_bytes(), every)?;
    let cpu = to.cpu()? - cpu_before;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "100 to some 10,000")]
    let tenths = times.chunks_exact((rate / 10.0) as usize).map(|tenth| percentile(tenth, 99));
    #[expect(clippy::cast_precision_loss, reason = "at most some 100,000")]
    let requests = times.len() as f64;
    Ok(Sample {
        done: requests,
        errors,
        seconds: start.elapsed().as_secs_f64(),
        cpu,
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
        p99_of_tenths: median(tenths),
    })
}

/// In seconds; NaN of nothing.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() * percent / 100).map_or(f64::NAN, Duration::as_secs_f64)
}

/// The times of all requests that are due before `end`, and how many connections failed; each is left at its first failure.
fn all_until(
    end: Instant,
    clients: &mut Vec<Paced>,
    request: &[u8],
    every: Duration,
) -> anyhow::Result<(Vec<Duration>, f64)> {
    let (mut times, mut errors) = (Vec::new(), 0.0);
    loop {
        clients.retain_mut(|client| {
            let going = client.send_if_due(request, every, end);
            errors += f64::from(u8::from(going.is_err()));
            going.unwrap_or(false)
        });
        if clients.is_empty() {
            return Ok((times, errors));
        }
        let answered = await_answers(clients)?;
        // From the last, so that removing one moves none that is still to come.
        for at in answered.into_iter().rev() {
            if let Ok(time) = clients[at].receive() {
                times.extend(time);
            } else {
                errors += 1.0;
                clients.swap_remove(at);
            }
        }
    }
}

/// Which have something to read, once one has or the next request is due.
fn await_answers(clients: &[Paced]) -> anyhow::Result<Vec<usize>> {
    let under_way: Vec<usize> = (0..clients.len()).filter(|&at| clients[at].sent.is_some()).collect();
    let mut wanted: Vec<_> =
        under_way.iter().map(|&at| PollFd::new(&clients[at].client.stream, PollFlags::IN)).collect();
    let next = clients.iter().filter(|client| client.sent.is_none()).map(|client| client.due).min();
    // An answer that does not come within so long is an error.
    let wait = next.map_or(ANSWER_WITHIN, |due| due.saturating_duration_since(Instant::now()));
    let ready =
        poll(&mut wanted, Some(&Timespec::try_from(wait)?)).context("failed to wait for an answer")?;
    if ready == 0 && next.is_none() {
        bail!("no answer within {} s", ANSWER_WITHIN.as_secs());
    }
    let answered = wanted.iter().zip(&under_way).filter(|(fd, _)| !fd.revents().is_empty());
    Ok(answered.map(|(_, &at)| at).collect())
}

/// A connection whose requests have their times.
struct Paced {
    client: Client,
    /// When the next request is to be sent, also while one is under way.
    due: Instant,
    /// Since when the request under way is timed.
    sent: Option<Instant>,
    /// When the last answer was complete.
    free: Instant,
}

impl Paced {
    fn new(client: Client, due: Instant) -> Self {
        Self { client, due, sent: None, free: Instant::now() }
    }

    /// Whether there is anything left to wait for here.
    fn send_if_due(&mut self, request: &[u8], every: Duration, end: Instant) -> anyhow::Result<bool> {
        if self.sent.is_some() {
            return Ok(true);
        }
        if self.due >= end {
            return Ok(false);
        }
        let now = Instant::now();
        if self.due <= now {
            self.sent = Some(if self.free > self.due { self.due } else { now });
            self.client.send(request)?;
            self.due += every;
        }
        Ok(true)
    }

    /// The time that the request under way took, if its answer is complete now.
    fn receive(&mut self) -> anyhow::Result<Option<Duration>> {
        if !self.client.receive()? {
            return Ok(None);
        }
        self.free = Instant::now();
        Ok(self.sent.take().map(|sent| self.free - sent))
    }
}

/// A keep-alive connection, one request at a time.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the answer is there.
    filled: usize,
}

impl Client {
    pub(crate) fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024], filled: 0 })
    }

    /// Sends a request and reads its answer, which must be a 200 with a Content-Length and small.
    pub(crate) fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.send(request)?;
        while !self.receive()? {}
        Ok(())
    }

    fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.filled = 0;
        Ok(self.stream.write_all(request)?)
    }

    /// Reads once, and tells whether the answer is complete.
    fn receive(&mut self) -> anyhow::Result<bool> {
        let length = self.stream.read(&mut self.buffer[self.filled..])?;
        if length == 0 {
            bail!("closed before the answer was complete, or the answer is too large");
        }
        self.filled += length;
        is_complete(&self.buffer[..self.filled])
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const EVERY: Duration = Duration::from_millis(5);
    const STALL: Duration = Duration::from_millis(60);

    /// Answers so many requests on one connection, and stalls before the fourth answer.
    fn server(requests: usize) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            for number in 0..requests {
                let mut request = [0; 5];
                client.read_exact(&mut request).unwrap();
                if number == 3 {
                    thread::sleep(STALL);
                }
                client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        port
    }

    fn paced(port: u16, start: Instant) -> (Vec<Duration>, f64) {
        let mut clients = vec![Paced::new(Client::connect(port).unwrap(), start)];
        all_until(start + EVERY * 20, &mut clients, b"hello", EVERY).unwrap()
    }

    #[test]
    fn who_waits_behind_a_stall_is_timed_from_when_it_was_due() {
        let (times, errors) = paced(server(20), Instant::now());
        assert_eq!((times.len(), errors.to_bits()), (20, 0f64.to_bits()), "each that was due was sent");
        assert!(times[3] >= STALL);
        // The next eleven were due meanwhile.
        for (number, time) in (1u32..).zip(&times[4..14]) {
            assert!(*time + EVERY * (number + 1) >= STALL, "{number}: {times:?}");
        }
    }

    #[test]
    fn a_connection_that_ends_is_an_error() {
        let (times, errors) = paced(server(2), Instant::now());
        assert_eq!((times.len(), errors.to_bits()), (2, 1f64.to_bits()));
    }
}
