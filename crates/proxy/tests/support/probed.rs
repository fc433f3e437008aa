//! Apps that only a probe speaks to: over TLS, and gRPC.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Serves every connection on one thread; returns the port.
fn serve<Serving>(handle: impl Fn(TcpStream) -> Serving + Send + 'static) -> u16
where
    Serving: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(handle(stream));
            }
        });
    });
    port
}

/// Over TLS, with a certificate that nobody has signed; tells the HTTP version and the `Host` that it was asked for.
pub fn https(alpn: &'static [u8]) -> u16 {
    let signed = rcgen::generate_simple_self_signed(["nobody.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let service = service_fn(async |request: Request<Incoming>| {
                let host = request.headers().get("host").map_or("", |host| host.to_str().unwrap());
                let authority = request.uri().authority().map_or(host, |authority| authority.as_str());
                let text = format!("{:?} {authority} {}", request.version(), request.uri().path());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            let _ = if alpn == b"h2" {
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
            } else {
                http1::Builder::new().serve_connection(stream, service).await
            };
        }
    })
}

/// `grpc.health.v1.Health`: the server as a whole and `up` are serving, `down` is not, others it does not know.
pub fn grpc() -> u16 {
    serve(async |stream| {
        let service = service_fn(async |request: Request<Incoming>| {
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let known = request.uri().path() == "/grpc.health.v1.Health/Check";
            let message = request.into_body().collect().await.unwrap().to_bytes();
            let (message, status): (&[u8], _) = match &message[5..] {
                _ if !known => (b"", "12"),
                b"" | [0x0a, 2, b'u', b'p'] => (&[0, 0, 0, 0, 2, 8, 1], "0"),
                [0x0a, 4, b'd', b'o', b'w', b'n'] => (&[0, 0, 0, 0, 2, 8, 2], "0"),
                _ => (b"", "5"),
            };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            let frames = [Frame::data(Bytes::copy_from_slice(message)), Frame::trailers(trailers)];
            let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
            Ok::<_, Infallible>(
                Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
            )
        });
        let served =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        let _ = served.await;
    })
}
