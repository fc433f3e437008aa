//! One client's connection: its streams, each a task of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use h2::server::{self, Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{HeaderValue, Request};

use crate::buffer::Held;
use crate::http2::app::App;
use crate::http2::exchange::exchange;
use crate::http2::guard::Guarded;
use crate::http2::piece::Piece;
use crate::http2::watch::Watch;
use crate::http2::{
    CONNECTION_SIZE, CONNECTION_WINDOW, Ended, MAX_STREAMS, PLACE_SIZE, STREAM_SIZE, STREAM_WINDOW,
};
use crate::limits::MAX_BUFFER;
use crate::listener::Listener;
use crate::own_time::Clock;
use crate::port::Port;
use crate::seat::{Called, Seat};
use crate::stream;

/// How long we try to tell a client why its connection ends.
const PARTING: Duration = Duration::from_secs(1);

/// What the streams of a connection share.
pub(crate) struct Client {
    pub(crate) listener: Rc<Listener>,
    pub(crate) app: App,
    pub(crate) watch: Rc<Watch>,
    address: IpAddr,
    pub(crate) is_tls: bool,
    /// That of its certificate.
    pub(crate) subject: Option<HeaderValue>,
    /// Streams under way.
    streams: Cell<usize>,
    /// As many as there ever were at a time have places.
    places: Cell<usize>,
    held: RefCell<Held>,
    /// When the last one ended.
    quiet_since: Cell<Instant>,
}

/// A stream that is counted as under way, until this is dropped.
pub(crate) struct Stream {
    pub(crate) client: Rc<Client>,
    /// The client has no other under way.
    pub(crate) alone: bool,
    /// There are as many as there may be.
    pub(crate) crowded: bool,
    _held: Held,
}

impl Stream {
    fn start(client: &Rc<Client>) -> Self {
        let (own, all) = (client.streams.get(), client.listener.streams.get());
        client.streams.set(own + 1);
        client.listener.streams.set(all + 1);
        // As many as connections: each costs about as much.
        let crowded = all >= client.listener.port().limits.connections;
        if own == client.places.get() {
            client.places.set(own + 1);
            client.held.replace(Held::new((own + 1) * PLACE_SIZE));
        }
        Self { client: Rc::clone(client), alone: own == 0, crowded, _held: Held::new(STREAM_SIZE) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let client = &self.client;
        client.streams.set(client.streams.get() - 1);
        client.listener.streams.set(client.listener.streams.get() - 1);
        client.quiet_since.set(Instant::now());
    }
}

/// Serves one client's connection until either side ends it. When the listener stops, the streams under way finish, and the
/// client is told to open no more.
pub(crate) async fn serve(stream: stream::Stream, address: IpAddr, listener: &Rc<Listener>, seat: &Seat) {
    let port = listener.port();
    port.metrics.http2.opened.add(1);
    let ended = serve_until_end(stream, address, listener, &port, seat).await;
    tracing::debug!(reason = ended.as_str(), "HTTP/2 connection ended");
    port.metrics.http2.close(ended);
}

async fn serve_until_end(
    stream: stream::Stream,
    address: IpAddr,
    listener: &Rc<Listener>,
    port: &Port,
    seat: &Seat,
) -> Ended {
    let _held = Held::new(CONNECTION_SIZE);
    let watch = Rc::new(Watch::new());
    let (is_tls, subject) = (stream.is_tls(), stream.subject().cloned());
    let mut handshake = pin!(
        server::Builder::new()
            .max_concurrent_streams(MAX_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(STREAM_WINDOW as usize)
            // Twice what we pass on, so that what exceeds that is answered, and counted, by us.
            .max_header_list_size(u32::try_from(2 * MAX_BUFFER).unwrap_or(u32::MAX))
            .handshake::<_, Piece>(Guarded::new(stream, Rc::clone(&watch)))
    );
    let handshake = |context: &mut Context<'_>| handshake.as_mut().poll(context);
    let connection = match seat.wait(seat.deadline(port.limits.head), false, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return watch.ended_by(&error),
        Err(_) => return Ended::ClientClosed,
    };
    watch.may_end.set(false);
    let client = Rc::new(Client {
        listener: Rc::clone(listener),
        app: App::default(),
        watch,
        address,
        is_tls,
        subject,
        streams: Cell::new(0),
        places: Cell::new(0),
        held: RefCell::new(Held::new(0)),
        quiet_since: Cell::new(Instant::now()),
    });
    Serving { connection, client, pings: None, leaving: false, head_began: None }.run(seat).await
}

struct Serving {
    connection: Connection<Guarded, Piece>,
    client: Rc<Client>,
    /// Made with the first PING.
    pings: Option<PingPong>,
    /// The client was told to open no more streams.
    leaving: bool,
    /// When the head began that is waited for.
    head_began: Option<Instant>,
}

/// What a connection has to do next.
#[allow(clippy::large_enum_variant)] // it is on the stack, once a request; a box would be an allocation
enum Event {
    Request(Request<RecvStream>, SendResponse<Piece>),
    Flood(Ended),
    /// A head has begun of which more is to come, or its rest has.
    Head,
    /// The app has ended its connection.
    AppLeft,
    End(Ended),
}

impl Serving {
    async fn run(mut self, seat: &Seat) -> Ended {
        let limits = self.client.listener.port().limits;
        // Opened during the drain, it gets one request served.
        let late = self.client.listener.is_stopping();
        let idle = if late { PARTING } else { limits.idle };
        let (mut read, mut asked) = (0, false);
        loop {
            let is_idle = self.client.streams.get() == 0;
            let deadline = match (is_idle, self.leaving) {
                (true, false) => self.client.quiet_since.get() + idle,
                (true, true) => Instant::now() + PARTING,
                (false, _) => Instant::now() + limits.ping,
            };
            self.head_began = self.client.watch.head_began();
            let head_deadline = self.head_began.map(|began| began + limits.head);
            let deadline = head_deadline.map_or(deadline, |head| deadline.min(head));
            let heeds_stop = !late && !self.leaving;
            match seat.wait(deadline, heeds_stop, |context| self.poll(context)).await {
                Ok(Event::Request(request, respond)) => {
                    self.start(request, respond);
                    if late || self.client.listener.port().is_leaving() {
                        self.leave();
                    }
                }
                Ok(Event::Head) => {}
                Ok(Event::AppLeft) | Err(Called::Stop) => self.leave(),
                Ok(Event::Flood(flood)) => return self.cut(Reason::ENHANCE_YOUR_CALM, flood).await,
                Ok(Event::End(ended)) => return ended,
                Err(Called::Late) if head_deadline.is_some_and(|head| head <= Instant::now()) => {
                    return self.cut(Reason::ENHANCE_YOUR_CALM, Ended::HeadTimeout).await;
                }
                Err(Called::Late) if self.client.streams.get() > 0 => {
                    let before = std::mem::replace(&mut read, self.client.watch.read.get());
                    let silent = read == before;
                    if silent && asked {
                        return self.cut(Reason::NO_ERROR, Ended::PingTimeout).await;
                    }
                    asked = silent && self.ask();
                }
                // A stream ended meanwhile: its client has some time left for the next.
                Err(Called::Late) if !is_idle => {}
                Err(Called::Late) if self.leaving => return Ended::Orderly,
                Err(Called::Late) => {
                    self.client.listener.port().metrics.idle_closed.add(1);
                    self.leave();
                }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let watch = &self.client.watch;
        let mut accepted = self.connection.poll_accept(context);
        if accepted.is_pending() && watch.ended.get() {
            watch.may_end.set(true);
            accepted = self.connection.poll_accept(context);
        }
        if let Some(flood) = watch.flood() {
            return Poll::Ready(Event::Flood(flood));
        }
        match accepted {
            Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Event::Request(request, respond)),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "HTTP/2 connection failed");
                Poll::Ready(Event::End(watch.ended_by(&error)))
            }
            Poll::Ready(None) => Poll::Ready(Event::End(Ended::Orderly)),
            Poll::Pending if watch.lacks_room() => Poll::Ready(Event::Flood(Ended::OutOfBuffers)),
            Poll::Pending if watch.head_began() != self.head_began => Poll::Ready(Event::Head),
            Poll::Pending if !self.leaving && self.client.app.has_left() => Poll::Ready(Event::AppLeft),
            Poll::Pending => Poll::Pending,
        }
    }

    fn start(&self, request: Request<RecvStream>, respond: SendResponse<Piece>) {
        let stream = Stream::start(&self.client);
        tokio::task::spawn_local(async move {
            let clock = Rc::new(Clock::of(stream.client.address));
            clock.watch(pin!(exchange(request, respond, &stream, &clock))).await;
        });
    }

    /// Tells the client to open no more streams: GOAWAY, which leaves those that are on their way their place.
    fn leave(&mut self) {
        self.leaving = true;
        self.connection.graceful_shutdown();
    }

    /// Asks by PING whether the client is still there.
    fn ask(&mut self) -> bool {
        self.pings = self.pings.take().or_else(|| self.connection.ping_pong());
        let Some(pings) = &mut self.pings else { return false };
        // The answer to the last one, if there was one: only one can be under way.
        let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
        pings.send_ping(Ping::opaque()).is_ok()
    }

    async fn cut(mut self, told: Reason, ended: Ended) -> Ended {
        self.connection.abrupt_shutdown(told);
        let _ = tokio::time::timeout(PARTING, poll_fn(|context| self.connection.poll_closed(context))).await;
        ended
    }
}
