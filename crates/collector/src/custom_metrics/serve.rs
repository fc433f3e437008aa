//! The TLS port: API servers alone come in, by their certificate.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::Query;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use outrigger_runtime::accept;
use outrigger_runtime::readiness::Condition;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::api::{self, Question};
use super::front::{CONFIG_MAP, Caller, Front};
use super::identity::{Identity, Service, provider};
use super::labels::Selector;
use super::rights::{self, Rights};
use crate::shared::Shared;

/// Between two looks at whether API servers trust us, and we them.
const LOOK: Duration = Duration::from_secs(10);
/// Of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longer than the 90 s after which Go closes an idle connection itself.
const IDLE: Duration = Duration::from_mins(2);
/// At a time. API servers keep a few open each.
const CONNECTIONS: usize = 64;

/// By what a connection is taken, as it stands now; none before the first look.
type Keys = Option<Arc<(TlsAcceptor, Front)>>;

/// What every request needs.
struct Desk {
    client: Client,
    mesh: Shared,
    rights: Mutex<Rights>,
}

/// Serves for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    client: Client,
    mesh: Shared,
    service: Service,
    ready: Condition,
) {
    let (tell, mut keys) = watch::channel(None);
    let desk = Arc::new(Desk { client: client.clone(), mesh, rights: Mutex::default() });
    let accepting = async {
        if keys.wait_for(Option::is_some).await.is_err() {
            return;
        }
        ready.set(true);
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let (stream, _, permit) = accept::with_permit(&listener, &permits).await;
            let (keys, desk) = (keys.borrow().clone(), Arc::clone(&desk));
            tokio::spawn(async move {
                if let Some(keys) = keys {
                    connection(stream, keys, desk).await;
                }
                drop(permit);
            });
        }
    };
    tokio::join!(accepting, keep(client, service, tell));
}

/// Keeps certificate and authorities in order. What fails is in the log, once until it changes, and tried again.
async fn keep(client: Client, service: Service, tell: watch::Sender<Keys>) {
    let (mut identity, mut known, mut complained) = (None, None, String::new());
    loop {
        match look(&client, &service, &mut identity).await {
            Ok(front) => {
                complained.clear();
                if known.as_ref() != Some(&front) {
                    match identity.as_ref().map(|identity| acceptor(identity, &front)) {
                        Some(Ok(acceptor)) => {
                            tell.send_replace(Some(Arc::new((acceptor, front.clone()))));
                        }
                        Some(Err(error)) => {
                            tracing::warn!(error, "failed to use the authority of API servers");
                        }
                        None => {}
                    }
                    known = Some(front);
                }
            }
            Err(error) if error != complained => {
                tracing::warn!(error, "custom metrics are not in order");
                complained = error;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
        if identity.as_ref().is_some_and(Identity::is_old) {
            // With another certificate, what is known has to be told again.
            (identity, known) = (None, None);
        }
    }
}

async fn look(client: &Client, service: &Service, identity: &mut Option<Identity>) -> Result<Front, String> {
    if identity.is_none() {
        *identity = Some(Identity::create(service).map_err(|error| error.to_string())?);
    }
    if let Some(identity) = identity {
        identity.register(client, service).await.map_err(|error| error.to_string())?;
    }
    let request = Request::get(CONFIG_MAP).body(Vec::new()).map_err(|error| error.to_string())?;
    let found: Value =
        client.request(request).await.map_err(|error| format!("failed to read {CONFIG_MAP}: {error}"))?;
    Front::parse(&found).ok_or_else(|| {
        format!("{CONFIG_MAP} names no requestheader-client-ca-file: the cluster has no aggregation layer")
    })
}

fn acceptor(identity: &Identity, front: &Front) -> Result<TlsAcceptor, String> {
    let mut roots = RootCertStore::empty();
    let authorities = CertificateDer::pem_slice_iter(front.authority.as_bytes());
    roots.add_parsable_certificates(authorities.filter_map(Result::ok));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let builder =
        rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = builder
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .map_err(|error| error.to_string())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, keys: Arc<(TlsAcceptor, Front)>, desk: Arc<Desk>) {
    let _ = stream.set_nodelay(true);
    let (acceptor, front) = &*keys;
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let known = certificate.is_some_and(|certificate| front.is_api_server(certificate));
    let service = service_fn(|request: Request<Incoming>| {
        let caller = known.then(|| front.caller(request.headers())).flatten();
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(caller, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection of an API server ended early");
    }
}

/// What the query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    label_selector: String,
    metric_label_selector: String,
}

impl Desk {
    async fn answer<Body>(&self, caller: Option<Caller>, request: &Request<Body>) -> Response {
        self.judge(caller, request).await.map_or_else(
            |(status, why)| (status, Json(api::failure(status, &why))).into_response(),
            |found| ([(CONTENT_TYPE, "application/json")], found).into_response(),
        )
    }

    async fn judge<Body>(
        &self,
        caller: Option<Caller>,
        request: &Request<Body>,
    ) -> Result<String, (StatusCode, String)> {
        let fault = |status, why: &str| Err((status, why.to_owned()));
        let Some(caller) = caller else {
            return fault(StatusCode::UNAUTHORIZED, "API servers alone may ask, and in somebody's name");
        };
        if request.method() != Method::GET {
            return fault(StatusCode::METHOD_NOT_ALLOWED, "there is nothing to write here");
        }
        let (namespace, pod, metric) = match Question::parse(request.uri().path()) {
            Some(Question::Discovery) => return Ok(api::discovery().to_string()),
            Some(Question::Metric { namespace, pod, metric }) => (namespace, pod, metric),
            None => {
                return fault(
                    StatusCode::NOT_FOUND,
                    "there are metrics of pods alone: namespaces/NAMESPACE/pods/POD/METRIC",
                );
            }
        };
        let asked = Query::<Asked>::try_from_uri(request.uri()).map(|query| query.0).unwrap_or_default();
        if !asked.metric_label_selector.is_empty() {
            return fault(StatusCode::BAD_REQUEST, "the metrics have no labels: leave metric.selector out");
        }
        let Some(selector) = Selector::parse(&asked.label_selector) else {
            return fault(StatusCode::BAD_REQUEST, "labelSelector is none");
        };
        if !self.may(&caller, &namespace, &metric).await? {
            let why = format!(
                "pods.{} \"{pod}\" is forbidden: User \"{}\" cannot get resource \"pods/{metric}\" in the namespace \"{namespace}\"",
                super::GROUP,
                caller.user
            );
            return fault(StatusCode::FORBIDDEN, &why);
        }
        self.mesh.look(|mesh| api::values(mesh, (&namespace, &pod, &metric), &selector, Instant::now()))
    }

    async fn may(
        &self,
        caller: &Caller,
        namespace: &str,
        metric: &str,
    ) -> Result<bool, (StatusCode, String)> {
        let wish = (caller.clone(), namespace.to_owned(), metric.to_owned());
        if let Some(allowed) = self.rights().known(&wish, Instant::now()) {
            return Ok(allowed);
        }
        let allowed = rights::review(&self.client, &wish).await.map_err(|error| {
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("failed to ask the API server for the caller's rights: {error}"),
            )
        })?;
        self.rights().learn(wish, allowed, Instant::now());
        Ok(allowed)
    }

    fn rights(&self) -> std::sync::MutexGuard<'_, Rights> {
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
