//! An `httpGet`, with the headers that came from the kubelet.

use std::net::{IpAddr, SocketAddr};

use ::http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, LOCATION};
use ::http::header::{TE, TRANSFER_ENCODING, UPGRADE};
use ::http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use outrigger_api::probe::{HttpProbe, Scheme};
use tokio_rustls::TlsConnector;

use super::redirect::{self, Target};
use super::{Answer, MOST_BODY, ProbeError, connect, connection};

/// What belongs to the kubelet's connection to us, and not to ours to the app (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// Asks, and follows redirects as the kubelet does: as long as they stay at the same host. One that leads elsewhere is
/// passed on, for the kubelet to judge.
pub(super) async fn ask(
    app: IpAddr,
    probe: &HttpProbe,
    headers: &HeaderMap,
    tls: &TlsConnector,
) -> Result<Answer, ProbeError> {
    let mut target = Target {
        scheme: probe.scheme,
        port: probe.port,
        path: redirect::escaped(&probe.path),
        host: probe.host.clone(),
    };
    for _ in 0..=redirect::MOST {
        let address = SocketAddr::from((app, target.port));
        let stream = connect(address).await?;
        let make = |http2| request(app, &target, headers, http2);
        let exchange = |error| ProbeError::Exchange(address, error);
        let read = |answer| read(answer, app, &target);
        let read = match target.scheme {
            Scheme::Http => connection::http1(stream, make(false)?, read).await.map_err(exchange)?,
            Scheme::Https => {
                let stream = connection::open_tls(tls, address, stream).await?;
                if connection::speaks_http2(&stream) {
                    connection::http2(stream, make(true)?, read).await.map_err(exchange)?
                } else {
                    connection::http1(stream, make(false)?, read).await.map_err(exchange)?
                }
            }
        };
        match read {
            Read::Follow(next) => target = next,
            Read::Answer(answer) => return Ok(answer),
        }
    }
    Err(ProbeError::TooManyRedirects)
}

fn request(
    app: IpAddr,
    target: &Target,
    headers: &HeaderMap,
    http2: bool,
) -> Result<Request<Empty<Bytes>>, ProbeError> {
    let authority = target.host.clone().unwrap_or_else(|| SocketAddr::from((app, target.port)).to_string());
    let url = || {
        format!(
            "{}://{authority}{}",
            if target.scheme == Scheme::Https { "https" } else { "http" },
            target.path
        )
    };
    let uri = if http2 { url().parse::<Uri>() } else { target.path.parse::<Uri>() };
    let error = |error: ::http::Error| ProbeError::Request(url(), error);
    let mut request = Request::get(uri.map_err(|e| error(e.into()))?).body(Empty::new()).map_err(error)?;
    *request.headers_mut() = headers.clone();
    for name in HOP_BY_HOP {
        request.headers_mut().remove(name);
    }
    request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    if !http2 {
        let host = HeaderValue::from_str(&authority).map_err(|e| error(e.into()))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request)
}

/// What an answer leads to.
enum Read {
    Follow(Target),
    Answer(Answer),
}

async fn read(answer: Response<Incoming>, app: IpAddr, target: &Target) -> Result<Read, hyper::Error> {
    if let Some(next) = redirect::next(target, app, answer.status(), answer.headers()) {
        return Ok(Read::Follow(next));
    }
    let (head, body) = answer.into_parts();
    let mut passed_on = Response::new(Full::from(beginning(body).await?));
    *passed_on.status_mut() = head.status;
    for name in [CONTENT_TYPE, LOCATION] {
        if let Some(value) = head.headers.get(&name) {
            passed_on.headers_mut().insert(name, value.clone());
        }
    }
    Ok(Read::Answer(passed_on))
}

/// The body, or as much of it as is passed on.
pub(super) async fn beginning(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = MOST_BODY - collected.len();
        collected.extend_from_slice(&data[..data.len().min(room)]);
        if collected.len() == MOST_BODY {
            break;
        }
    }
    Ok(collected.into())
}
