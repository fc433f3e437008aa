//! The floor: an HTTP/1 relay that knows where messages end and nothing else. No telemetry, no policy, no chunked bodies,
//! no errors: what a proxy on tokio can't cost less than.
//!
//!     bare_relay PORT APP_PORT

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

type Pool = Rc<RefCell<Vec<TcpStream>>>;

const BUFFER: usize = 8 * 1024;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|port| port.parse().expect("two ports"));
    let (port, app): (u16, u16) = arguments.next().zip(arguments.next()).expect("two ports");
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let pool = Pool::default();
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            tokio::task::spawn_local(relay(client, Rc::clone(&pool), app));
        }
    })
}

async fn relay(mut client: TcpStream, pool: Pool, app: u16) -> io::Result<()> {
    let (mut request, mut answer) = (BytesMut::with_capacity(BUFFER), BytesMut::with_capacity(BUFFER));
    loop {
        let length = read_message(&mut client, &mut request, request_length).await?;
        let pooled = pool.borrow_mut().pop();
        let mut upstream = match pooled {
            Some(upstream) => upstream,
            None => connect(app).await?,
        };
        upstream.write_all(&request[..length]).await?;
        request.clear();
        let length = read_message(&mut upstream, &mut answer, answer_length).await?;
        pool.borrow_mut().push(upstream);
        client.write_all(&answer[..length]).await?;
        answer.clear();
    }
}

async fn connect(app: u16) -> io::Result<TcpStream> {
    let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, app)).await?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

/// Reads one whole message and returns its length.
async fn read_message(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    length_of: impl Fn(&[u8]) -> Option<usize>,
) -> io::Result<usize> {
    loop {
        match length_of(buffer) {
            Some(length) if buffer.len() >= length => return Ok(length),
            _ if stream.read_buf(buffer).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

fn request_length(bytes: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let head = request.parse(bytes).ok()?;
    Some(head.is_complete().then(|| head.unwrap())? + body_length(request.headers))
}

fn answer_length(bytes: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let head = answer.parse(bytes).ok()?;
    Some(head.is_complete().then(|| head.unwrap())? + body_length(answer.headers))
}

fn body_length(headers: &[httparse::Header]) -> usize {
    let length = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    length.and_then(|length| str::from_utf8(length.value).ok()?.parse().ok()).unwrap_or(0)
}
