//! The client: so many requests, not one more or less.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long one look for a server may take. What a node sends to a pod that has just gone gets no answer at all, and it goes on sending
/// what is sent again there: the system's own patience is two minutes, and a new connection is led elsewhere at once.
const LOOK: Duration = Duration::from_secs(2);

/// Sends requests.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to, as `http://host:port/path`.
    url: Uri,
    /// How many requests to send.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// How many connections to send them on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// Requests a second, over all connections. Default: as fast as they are answered.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// The status that each request must get.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// Seconds that one request may take, connecting included.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Seconds to wait, before the first request, for somebody to accept connections: a Service that has just got its
    /// pods refuses for a moment, until the node's kube-proxy has heard of them.
    #[arg(long, default_value_t = 0)]
    wait: u64,
}

/// What came of some requests.
#[derive(Debug, Default)]
struct Tally {
    codes: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    latencies: Vec<Duration>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.url.scheme_str() != Some("http") || args.url.host().is_none() {
        bail!("{} is not a URL that can be fetched: http://host:port/path", args.url);
    }
    if args.wait > 0 {
        wait_for_server(&args).await?;
    }
    let mut connections = JoinSet::new();
    for connection in 0..u64::from(args.concurrency) {
        connections.spawn(fetch_share(args.clone(), connection));
    }
    let mut all = Tally::default();
    while let Some(tally) = connections.join_next().await {
        all.add(tally?);
    }
    for (error, count) in &all.errors {
        eprintln!("{count} x {error}");
    }
    println!("{}", all.summary());
    let as_expected = all.codes.get(&args.expect) == Some(&args.count);
    Ok(if as_expected || args.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Connects and hangs up, so that nothing is sent that somebody might count.
async fn wait_for_server(args: &Args) -> anyhow::Result<()> {
    let address = (args.url.host().unwrap_or_default(), args.url.port_u16().unwrap_or(80));
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let connected = tokio::time::timeout(LOOK, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context("waited in vain for the server");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Sends every request whose number belongs to this connection. A failed request is counted and not sent again: the
/// number sent is exact, so that it can be held against the number counted by a sidecar.
async fn fetch_share(args: Args, connection: u64) -> Tally {
    let mut tally = Tally::default();
    let mut sender = None;
    let start = Instant::now();
    let limit = Duration::from_secs(args.timeout);
    for number in (connection..args.count).step_by(usize::from(args.concurrency)) {
        if let Some(rate) = args.rate {
            let due = start + Duration::from_secs(1).mul_f64(as_f64(number) / f64::from(rate));
            tokio::time::sleep_until(due.into()).await;
        }
        let sent = Instant::now();
        match tokio::time::timeout(limit, fetch_one(&args.url, &mut sender)).await {
            Ok(Ok(code)) => *tally.codes.entry(code).or_default() += 1,
            failed => {
                sender = None;
                let error = match failed {
                    Ok(Err(error)) => format!("{error:#}"),
                    _ => "timeout".to_owned(),
                };
                *tally.errors.entry(error).or_default() += 1;
            }
        }
        tally.latencies.push(sent.elapsed());
    }
    tally
}

async fn fetch_one(url: &Uri, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> anyhow::Result<u16> {
    let authority = url.authority().context("URL without host")?.as_str();
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(HOST, authority).body(Empty::new())?;
    if let Some(sender) = connection.as_mut()
        && sender.ready().await.is_err()
    {
        *connection = None;
    }
    let sender = match connection {
        Some(sender) => sender,
        None => connection.insert(connect(url).await?),
    };
    let mut response = sender.send_request(request).await.context("failed to send request")?;
    while let Some(frame) = response.frame().await {
        frame.context("failed to read answer")?;
    }
    Ok(response.status().as_u16())
}

async fn connect(url: &Uri) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let host = url.host().context("URL without host")?.trim_matches(['[', ']']);
    let stream =
        TcpStream::connect((host, url.port_u16().unwrap_or(80))).await.context("failed to connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^52
fn as_f64(number: u64) -> f64 {
    number as f64
}

impl Tally {
    fn add(&mut self, other: Self) {
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.latencies.extend(other.latencies);
    }

    /// One line, for people and for tests: `sent=10 200=9 503=1 errors=0 p50=1.2ms p99=3.4ms`.
    fn summary(&mut self) -> String {
        self.latencies.sort_unstable();
        let errors: u64 = self.errors.values().sum();
        let mut parts = vec![format!("sent={}", self.latencies.len())];
        parts.extend(self.codes.iter().map(|(code, count)| format!("{code}={count}")));
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        parts.push(format!("errors={errors} p50={p50:.1?} p99={p99:.1?}"));
        parts.join(" ")
    }

    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100).max(1) - 1;
        self.latencies.get(rank).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_has_every_code_and_the_percentiles_by_nearest_rank() {
        let mut tally =
            Tally { latencies: (1..=100).map(Duration::from_millis).collect(), ..Tally::default() };
        tally.codes.insert(503, 1);
        tally.codes.insert(200, 99);
        assert_eq!(tally.summary(), "sent=100 200=99 503=1 errors=0 p50=50.0ms p99=99.0ms");
        assert_eq!(Tally::default().summary(), "sent=0 errors=0 p50=0.0ns p99=0.0ns");
    }
}
