//! The app over TLS, with a certificate that it makes for itself: nobody verifies it, as the kubelet verifies none.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate for `localhost`, whose key nobody keeps.
pub(crate) fn acceptor() -> anyhow::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .context("failed to make a certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves the app for ever.
pub(crate) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, app: Router) {
    loop {
        // What can't be accepted is the client's loss: a demo has no more to do about it.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, app) = (acceptor.clone(), app.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_one(stream, &acceptor, app).await {
                eprintln!("TLS connection ended early: {error:#}");
            }
        });
    }
}

async fn serve_one(stream: TcpStream, acceptor: &TlsAcceptor, app: Router) -> anyhow::Result<()> {
    let stream = TokioIo::new(acceptor.accept(stream).await?);
    Ok(http1::Builder::new().serve_connection(stream, TowerToHyperService::new(app)).await?)
}
