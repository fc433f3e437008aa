//! The floor on hyper: its HTTP/1 server, its client, a stack of idle connections between them, and nothing else.
//!
//!     hyper_relay PORT APP_PORT

use std::cell::RefCell;
use std::error::Error;
use std::net::Ipv4Addr;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|port| port.parse().expect("two ports"));
    let (port, app): (u16, u16) = arguments.next().zip(arguments.next()).expect("two ports");
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let pool = Pool::default();
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let pool = Rc::clone(&pool);
            let service = service_fn(move |request| forward(Rc::clone(&pool), app, request));
            let serve =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service);
            tokio::task::spawn_local(serve);
        }
    })
}

async fn forward(pool: Pool, app: u16, request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
    let pooled = pool.borrow_mut().pop();
    let mut upstream = match pooled {
        Some(upstream) if !upstream.is_closed() => upstream,
        _ => connect(app).await?,
    };
    upstream.ready().await?;
    let answer = upstream.send_request(request).await;
    pool.borrow_mut().push(upstream);
    Ok(answer?)
}

async fn connect(app: u16) -> Result<SendRequest<Incoming>, Failure> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, app)).await?;
    stream.set_nodelay(true)?;
    let (upstream, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(upstream)
}
