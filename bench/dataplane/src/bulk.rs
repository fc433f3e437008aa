//! Many bytes: TCP as fast as it goes, and a body to a client that reads slowly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::contender::Contender;
use crate::sample::Sample;

/// TCP connections at a time.
pub(crate) const CONNECTIONS: usize = 4;
/// Length of the large body.
pub(crate) const BODY: u64 = 1 << 30;
/// How long the slow reader reads nothing at all, and how much it then reads a second.
pub(crate) const STALL: Duration = Duration::from_secs(2);
pub(crate) const SLOW_RATE: f64 = 300e6;

const BUFFER: usize = 256 * 1024;

/// An app that sends zeros to whoever connects, for as long as the bench runs.
pub(crate) fn start_source(port: u16) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("failed to listen as the TCP app")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || send_zeros(stream));
        }
    });
    Ok(())
}

fn send_zeros(mut stream: TcpStream) {
    let zeros = vec![0; BUFFER];
    while stream.write_all(&zeros).is_ok() {}
}

/// Reads for so long on several connections.
pub(crate) fn tcp(through: &Contender, seconds: u64) -> anyhow::Result<Sample> {
    let streams: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, through.ports.tcp)))
        .collect::<Result<_, _>>()
        .context("failed to connect by TCP")?;
    let (before, start) = (through.cpu()?, Instant::now());
    let end = start + Duration::from_secs(seconds);
    let workers: Vec<_> =
        streams.into_iter().map(|stream| thread::spawn(move || read_until(stream, end))).collect();
    let mut done = 0.0;
    for worker in workers {
        done += worker.join().ok().context("a reader panicked")??;
    }
    let cpu = through.cpu()? - before;
    Ok(Sample { done, seconds: start.elapsed().as_secs_f64(), cpu, ..Sample::default() })
}

fn read_until(mut stream: TcpStream, end: Instant) -> anyhow::Result<f64> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = vec![0; BUFFER];
    let mut bytes = 0.0;
    while Instant::now() < end {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            bail!("the proxy closed a TCP connection on which the app goes on sending");
        }
        bytes += f64::from(u32::try_from(length)?);
    }
    Ok(bytes)
}

/// Takes the large body as a client that stalls and then reads slowly; returns how much the proxy then had resident at
/// the most, in bytes.
pub(crate) fn slow_reader(through: &Contender) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, through.ports.http))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")?;
    thread::sleep(STALL);
    let start = Instant::now();
    let mut buffer = vec![0; BUFFER];
    let (mut received, mut head_length) = (0, None);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        if head_length.is_none() {
            head_length = Some(length_of_head(&buffer[..length])?);
        }
        received += length as u64;
        #[expect(clippy::cast_precision_loss, reason = "a GiB, exact enough for a pace")]
        let due = start + Duration::from_secs_f64(received as f64 / SLOW_RATE);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let body = received - head_length.unwrap_or(0);
    if body != BODY {
        bail!("{body} of {BODY} bytes of the body came");
    }
    through.process()?.peak()
}

/// The head came in one piece: it is the first thing on an empty connection, and small.
fn length_of_head(answer: &[u8]) -> anyhow::Result<u64> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(answer)? {
        httparse::Status::Complete(length) if head.code == Some(200) => Ok(length as u64),
        _ => bail!(
            "the answer to /big is no 200: {}",
            String::from_utf8_lossy(&answer[..answer.len().min(200)])
        ),
    }
}
