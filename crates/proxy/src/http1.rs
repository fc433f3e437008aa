//! HTTP/1: one connection of a client, and one function for each of its requests.
//!
//! hyper parses and frames for now; a path of our own will replace this file, `forward`, `pool` and `body`.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use outrigger_runtime::shutdown::Drain;
use tokio::net::TcpStream;

use crate::body::{RequestBody, ResponseBody};
use crate::forward::forward;
use crate::headers;
use crate::limits::{MAX_BUFFER, MAX_HEADERS};
use crate::listener::{Listener, Port};
use crate::observe::Exchange;
use crate::reason::Reason;
use crate::upgrade;

/// Serves one client's connection until either side closes it. A stop lets the request under way finish.
pub(crate) async fn serve(stream: TcpStream, listener: &Rc<Listener>, drain: &Drain) {
    let shutdown = listener.stopping();
    // A connection that came during the drain is good for one request.
    let keep_alive = !shutdown.is_requested();
    let service = service_fn(async |request| {
        let port = listener.port();
        let mut response = exchange(request, &port, drain).await?;
        // After the answer, not before: whoever is just sending the next request would lose it.
        if port.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let port = listener.port();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(port.limits.head)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .preserve_header_case(true)
        .auto_date_header(false)
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        // In this order: what the client has sent already counts as a request under way.
        biased;
        result = connection.as_mut() => result,
        () = shutdown.requested(), if keep_alive => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        if let Some(code) = refused_by_hyper(&error) {
            let mut exchange = Exchange::unknown(&port);
            exchange.answered(code);
            exchange.end(Reason::BadRequest);
        }
        tracing::debug!(%error, port = port.metrics.name, "connection of a client ended early");
    }
}

/// The status that hyper has answered a head with that never became a request.
fn refused_by_hyper(error: &hyper::Error) -> Option<u16> {
    if error.is_parse_too_large() {
        Some(431)
    } else if error.is_parse() {
        Some(400)
    } else {
        None
    }
}

/// A request's way through the proxy: forward, then observe. If the client leaves, hyper drops this, and with it the
/// connection to the app: the app learns what we learn.
async fn exchange(
    mut request: Request<Incoming>,
    port: &Rc<Port>,
    drain: &Drain,
) -> Result<Response<ResponseBody>, Infallible> {
    let exchange = Exchange::start(port, request.method());
    if request.method() == Method::CONNECT {
        return Ok(own_answer(exchange, Reason::MethodRefused));
    }
    let wish = upgrade::wish(&mut request);
    headers::remove_connection_headers(request.headers_mut());
    if let Some(wish) = &wish {
        wish.pass_on(request.headers_mut());
    }
    let request = request.map(|inner| RequestBody { inner, port: Rc::clone(port) });
    let (mut response, lease) = match forward(port, request).await {
        Ok(answer) => answer,
        Err(reason) => return Ok(own_answer(exchange, reason)),
    };
    let agreed = headers::upgrade(response.headers());
    headers::remove_connection_headers(response.headers_mut());
    // hyper writes 1.0 to clients that speak it.
    *response.version_mut() = Version::HTTP_11;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(app_answer(response, exchange, lease));
    }
    let (Some(wish), Some(protocol)) = (wish, agreed) else {
        // A switch that nobody asked for.
        return Ok(own_answer(exchange, Reason::ProtocolError));
    };
    headers::set_upgrade(response.headers_mut(), protocol);
    wish.relay(&mut response, port, drain.start());
    Ok(switched(response, exchange))
}

fn app_answer(
    response: Response<Incoming>,
    mut exchange: Exchange,
    lease: crate::pool::Lease,
) -> Response<ResponseBody> {
    exchange.answered(response.status().as_u16());
    response.map(|inner| ResponseBody::app(inner, exchange, lease))
}

/// The request is over with the 101; from there on it is counted as a relayed connection.
fn switched(response: Response<Incoming>, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.answered(response.status().as_u16());
    exchange.end(Reason::None);
    response.map(|_| ResponseBody::empty())
}

/// Our own answer in the app's place.
fn own_answer(mut exchange: Exchange, reason: Reason) -> Response<ResponseBody> {
    let (status, _) = reason.answer();
    // A client that is gone gets no answer: leave the status that says so.
    if reason != Reason::ClientClosed {
        exchange.answered(status.as_u16());
    }
    exchange.end(reason);
    let mut response = Response::new(ResponseBody::Own(Bytes::from(reason.body()).into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let name = HeaderName::from_static(Reason::HEADER);
    headers.insert(name, HeaderValue::from_static(reason.as_str()));
    response
}
