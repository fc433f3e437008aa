//! One question on a connection of its own, as the kubelet's are.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use ::http::{Request, Response};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ProbeError;

/// Asks over HTTP/1.1 and reads the answer. One future does both, so that a caller who gives up leaves nothing behind.
pub(crate) async fn http1<B, T, Reading>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<B>,
    read: impl FnOnce(Response<Incoming>) -> Reading,
) -> Result<T, hyper::Error>
where
    B: Body<Data = Bytes, Error = std::convert::Infallible> + 'static,
    Reading: Future<Output = Result<T, hyper::Error>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move { read(sender.send_request(request).await?).await };
    drive(exchange, connection).await
}

/// The same over HTTP/2.
pub(super) async fn http2<B, T, Reading>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<B>,
    read: impl FnOnce(Response<Incoming>) -> Reading,
) -> Result<T, hyper::Error>
where
    B: Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
    Reading: Future<Output = Result<T, hyper::Error>>,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let exchange = async move { read(sender.send_request(request).await?).await };
    drive(exchange, connection).await
}

/// Runs an exchange and the connection under it, until the exchange is done.
async fn drive<T>(
    exchange: impl Future<Output = Result<T, hyper::Error>>,
    connection: impl Future<Output = Result<(), hyper::Error>>,
) -> Result<T, hyper::Error> {
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        // What has been read is still to be had, and what has not is the exchange's own error.
        _ = &mut connection => exchange.await,
    }
}

/// Opens TLS to an address, which is also the name; no name is sent then, as the kubelet sends none.
pub(super) async fn open_tls(
    tls: &TlsConnector,
    address: SocketAddr,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, ProbeError> {
    let name = ServerName::IpAddress(address.ip().into());
    tls.connect(name, stream).await.map_err(|error| ProbeError::Tls(address, error))
}

pub(super) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// TLS that believes every certificate, as the kubelet's probes do: they ask whether the app answers, not who it is.
pub(super) fn tls() -> TlsConnector {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the library has the suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
