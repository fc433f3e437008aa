//! Connections to the app.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::buffer::{self, Held};
use crate::labels::Direction;
use crate::limits::KEEPALIVE;
use crate::metrics::PortMetrics;
use crate::own_calls::OwnCall;
use crate::port::Port;
use crate::reason::Reason;
use crate::stream::Stream;
use crate::target::Target;
use crate::tls::{self, Originator, Spoken};

/// A connection to the app, or an upstream, counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct AppStream {
    stream: Stream,
    open: OpenToApp,
    made: Instant,
    by: Option<Arc<Originator>>,
}

/// Counts a connection to the app as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenToApp {
    metrics: Arc<PortMetrics>,
    _own: Option<OwnCall>,
    _held: Held,
}

/// What one takes, in bytes, while nothing moves: 4 KiB in the kernel, whose sockets count for the container, and half of one here. Clients
/// make the proxy open as many as they have requests in flight: 4,500 of them took 18 MiB that nobody had counted.
const SIZE: usize = 4608;

/// Connects to the first of the app's addresses that accepts.
///
/// In a pod these are the pod's own. Loopback would open to the cluster what apps open only to themselves: what is bound
/// there on purpose, and what trusts a peer from there, as the postgres image does. Istio left it in 1.10 for the same
/// reason.
///
/// By TLS where the profile says so, unless the app speaks its own: `spoken` is `None`.
pub(crate) async fn app(port: &Port, spoken: Option<Spoken>) -> Result<AppStream, Reason> {
    if buffer::is_full() {
        return Err(Reason::OutOfBuffers);
    }
    let started = Instant::now();
    let originator = spoken.and_then(|spoken| Some((port.originator()?, spoken)));
    let connected = tokio::time::timeout(port.limits.connect, first_that_accepts(&port.target)).await;
    let stream = match connected.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Err(error) => Err((why(&error, port), error)),
        Ok(stream) => {
            prepare(&stream);
            // To the app it does not pass the rules.
            let own = (port.direction() == Direction::Outbound).then(|| OwnCall::of(&stream));
            let open = OpenToApp { metrics: Arc::clone(&port.metrics), _own: own, _held: Held::new(SIZE) };
            let stream = match originator {
                None => Ok((Stream::Plain(stream), None)),
                // Boxed, so that connections without TLS have no room for it.
                Some((by, spoken)) => {
                    let session = Box::pin(tls::originate(stream, &by, spoken, port)).await;
                    session.map(|session| (Stream::Tls(session), Some(by)))
                }
            };
            stream.map(|(stream, by)| (stream, by, open))
        }
    };
    let (reason, error) = match stream {
        Ok((stream, by, open)) => {
            port.metrics.upstream.connects.observe(started.elapsed());
            return Ok(AppStream { stream, open, made: started, by });
        }
        Err(failed) => failed,
    };
    port.metrics.upstream.failed.add(reason);
    if port.may_warn(reason) {
        let (port, to, why) = (port.metrics.labels.name(), &port.target, reason.sentence(port.direction()));
        tracing::warn!(%error, port, %to, reason = reason.as_str(), "{why}");
    }
    Err(reason)
}

fn why(error: &io::Error, port: &Port) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ if matches!(&port.target, Target::Name(name) if name.is_unknown()) => Reason::UnknownHost,
        _ => Reason::ConnectFailed,
    }
}

/// The app's are this machine's, so a refusal is immediate and another try costs nothing; of a host with many, another may be up.
pub(crate) async fn first_that_accepts(target: &Target) -> io::Result<TcpStream> {
    let mut failure = None;
    for address in &*target.addresses().await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            // The first one counts: it is that of the pod's first family, and a second that is not there says nothing.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

impl Deref for AppStream {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl DerefMut for AppStream {
    fn deref_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

impl AppStream {
    /// Since it was asked for.
    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Whether one that is made now would be made by the same certificates.
    pub(crate) fn is_current(&self, port: &Port) -> bool {
        is_current(self.by.as_ref(), port)
    }

    /// For whoever wants the connection itself, and keeps its count, and what it was made by, beside it.
    pub(crate) fn into_parts(self) -> (Stream, OpenToApp, Option<Arc<Originator>>) {
        (self.stream, self.open, self.by)
    }
}

/// Whether what a connection was made by is what the port goes by now.
pub(crate) fn is_current(by: Option<&Arc<Originator>>, port: &Port) -> bool {
    by.is_none_or(|by| port.originator().is_some_and(|now| Arc::ptr_eq(by, &now)))
}

impl Drop for OpenToApp {
    fn drop(&mut self) {
        self.metrics.upstream.closed.add(1);
    }
}

/// Lets the client see, when its connection is dropped, what it would have seen without us: a reset, not an orderly end.
pub(crate) fn reset(client: &TcpStream) {
    let _ = SockRef::from(client).set_linger(Some(Duration::ZERO));
}

/// Sets what every connection has. A failure leaves a connection that works less well, so it is not one of ours.
pub(crate) fn prepare(stream: &TcpStream) {
    // We write whole heads and chunks; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // A peer whose node died never closes: without this its relay would stay for ever (linkerd2#8033).
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
}
