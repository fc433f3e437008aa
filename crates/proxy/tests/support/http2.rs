//! Apps and clients that speak HTTP/2, by `h2` where they behave and by raw frames where they do not.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::rc::Rc;
use std::thread;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::PATIENCE;

/// A stream as the app has it.
pub struct Call {
    pub head: http::request::Parts,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
    /// Number of its connection, from 0.
    pub connection: usize,
}

pub fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap()
}

/// Serves each stream by a task of its own; returns the port.
pub fn serve<Served>(handle: impl Fn(Call) -> Served + Copy + Send + 'static) -> u16
where
    Served: Future<Output = ()> + 'static,
{
    serve_by(h2::server::Builder::new(), handle)
}

pub fn serve_by<Served>(
    builder: h2::server::Builder,
    handle: impl Fn(Call) -> Served + Copy + Send + 'static,
) -> u16
where
    Served: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            for connection in 0.. {
                let stream = listener.accept().await.unwrap().0;
                stream.set_nodelay(true).unwrap();
                let builder = builder.clone();
                tokio::task::spawn_local(async move {
                    let mut streams = builder.handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = streams.accept().await {
                        let (head, body) = request.into_parts();
                        let leaves = head.uri.path() == "/leave";
                        tokio::task::spawn_local(handle(Call { head, body, respond, connection }));
                        if leaves {
                            streams.graceful_shutdown();
                        }
                    }
                });
            }
        });
    });
    port
}

impl Call {
    /// Answers with a 200 and this body. A client that is gone is no fault of the app's.
    pub fn answer(mut self, body: impl Into<Bytes>) {
        if let Ok(mut stream) = self.respond.send_response(Response::new(()), false) {
            let _ = stream.send_data(body.into(), true);
        }
    }

    /// Reads the body to its end, and its trailers.
    pub async fn read(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        read(&mut self.body).await
    }
}

pub async fn read(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, body.trailers().await.unwrap())
}

/// Sends as there is room.
pub async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match stream.capacity() {
            0 => poll_fn(|context| stream.poll_capacity(context)).await.expect("a stream that is open")?,
            room => room,
        };
        stream.send_data(bytes.split_to(room.min(bytes.len())), false)?;
    }
    Ok(())
}

/// A client on one connection, within a [`runtime`].
#[derive(Clone)]
pub struct Client(SendRequest<Bytes>, Rc<Cell<bool>>);

pub async fn connect(port: u16) -> Client {
    let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    over(stream).await
}

/// A client on a connection that is there.
pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Client {
    let mut builder = h2::client::Builder::new();
    // So that a stream that is not read is in no other's way here.
    builder.initial_connection_window_size(1024 * 1024);
    let (requests, connection) = builder.handshake(stream).await.unwrap();
    let ended = Rc::<Cell<bool>>::default();
    let tell = Rc::clone(&ended);
    tokio::task::spawn_local(async move {
        let _ = connection.await;
        tell.set(true);
    });
    Client(requests, ended)
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://shop{path}"))
}

/// A call by gRPC.
pub fn call() -> Request<()> {
    let request = request("POST", "/shop.Shop/Buy").header("te", "trailers");
    request.header("content-type", "application/grpc").body(()).unwrap()
}

impl Client {
    pub async fn send(&self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.0.clone().ready().await.unwrap();
        requests.send_request(request, end).unwrap()
    }

    pub async fn get(&self, path: &str) -> (http::response::Parts, Vec<u8>) {
        let answer = self.send(request("GET", path).body(()).unwrap(), true).await.0.await.unwrap();
        let (head, mut body) = answer.into_parts();
        (head, read(&mut body).await.0)
    }

    /// A call by gRPC with one message: the answer's head and trailers.
    pub async fn call(&self) -> (HeaderMap, Option<HeaderMap>) {
        let (answer, mut stream) = self.send(call(), false).await;
        stream.send_data(Bytes::from_static(b"message"), true).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        (head.headers, read(&mut body).await.1)
    }

    /// Whether the other side takes no more requests.
    pub async fn is_told_to_leave(&self) -> bool {
        self.1.get() || self.0.clone().ready().await.is_err()
    }
}

/// Runs a test within a runtime, but not for ever.
pub fn run(test: impl Future<Output = ()>) {
    runtime().block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("too long") });
}

/// A client that sends frames as given.
pub struct Raw(pub TcpStream);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// `:method: GET`, `:scheme: http`, `:path: /` of HPACK's static table, and `:authority: a`.
pub const GET: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'a'];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl Raw {
    pub fn connect(port: u16) -> Self {
        let mut raw = Self(super::open(port));
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(&frame(SETTINGS, 0, 0, &[]));
        raw
    }

    /// A proxy that has enough of us may have closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame: kind, flags and payload; `None` at the end.
    pub fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], head[4], payload))
    }

    /// The error code of the GOAWAY that ends the connection.
    pub fn goaway(&mut self) -> Option<u32> {
        loop {
            if let (GOAWAY, _, payload) = self.frame()? {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
    }
}
