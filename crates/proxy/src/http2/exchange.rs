//! One request and its answer: the way from top to bottom.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::uri::Scheme;
use http::{Request, Response, Uri};

use crate::answer::OwnAnswer;
use crate::buffer::{self, Held};
use crate::grpc::Code;
use crate::http2::answer::{self, Asked};
use crate::http2::app::Sent;
use crate::http2::authority;
use crate::http2::body::{self, Broken, End};
use crate::http2::connection::{Client, Stream};
use crate::http2::kept::Kept;
use crate::http2::piece::Piece;
use crate::limits::{MAX_BUFFER, MAX_HEADERS};
use crate::method::Method;
use crate::observe::Exchange;
use crate::own_time::Clock;
use crate::policy;
use crate::port::Port;
use crate::reason::Reason;
use crate::request::{self, Headers, Version};
use crate::request_target;
use crate::retry::{self, Tried};

/// An app may take its time over a body, as over an answer.
const NO_LIMIT: Duration = Duration::MAX;

/// A request's way through the proxy: forward, then observe.
pub(crate) async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Piece>,
    stream: &Stream,
    clock: &Rc<Clock>,
) {
    let client = &stream.client;
    let (parts, mut from_client) = request.into_parts();
    let mut head = Request::from_parts(parts, ());
    if let Some(uri) = authority::copied(head.uri()) {
        *head.uri_mut() = uri;
    }
    let is_named = authority::settle(&mut head, client.is_tls);
    let port = client.listener.port_for(|| view(&head).host());
    readdress(head.uri_mut(), &port);
    let view = view(&head);
    let exchange = Exchange::start(&port, clock, &view);
    let asked = Asked::by(&view);
    let size = size(&head);
    let _held = Held::new(in_memory(size, head.headers().len()));
    if let Some(answer) = refusal(&head, is_named, size, stream, &exchange).await {
        return own_answer(&mut respond, &exchange, asked, answer);
    }
    if let Some(edits) = exchange.request_edits(client.subject.as_ref()) {
        edits.apply(head.headers_mut());
    }

    let whole = from_client.is_end_stream();
    let kept = Kept::new(port.retries.is_some() && !whole);
    let mut may_be_stale = whole;
    let mut next = Some(head);
    while let Some(head) = next.take() {
        // A body that has begun to pass is gone, unless it is kept.
        let again = (whole || port.retries.is_some()).then(|| head.clone());
        let mut sent = match client.app.send(&port, head, whole, stream.alone).await {
            Ok(sent) => sent,
            Err(reason) => {
                if retry::again(&exchange, Tried::Untouched, reason) {
                    exchange.pause().await;
                    next = again;
                    continue;
                }
                let answer = OwnAnswer::of(reason, port.direction());
                return own_answer(&mut respond, &exchange, asked, answer);
            }
        };
        if kept.is_whole() {
            // What fails here shows when the answer is read.
            let _ = kept.send(&mut sent.body);
        }
        may_be_stale &= sent.reused;
        let passing = Passing { from_client: &mut from_client, respond: &mut respond, kept: &kept };
        let Some(failed) = pass(sent, passing, &exchange, client).await else {
            return;
        };
        let is_stale = failed.tried == Some(Tried::Untouched) || exchange.method.is_safe() && failed.silent;
        if std::mem::take(&mut may_be_stale) && is_stale {
            exchange.retried();
            next = again;
        } else if (whole || kept.is_whole()) && failed.is_resent(&exchange) {
            exchange.pause().await;
            next = again;
        } else {
            return failed.end(&mut respond, &exchange, asked);
        }
    }
}

/// Gives it the name and the scheme that the upstream is asked by, where the app's are not.
fn readdress(uri: &mut Uri, port: &Port) {
    if let Some(named) = port.local_host.as_ref().and_then(|local| local.uri(uri)) {
        *uri = named;
    }
    if !port.originates {
        return;
    }
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    if let Ok(https) = Uri::from_parts(parts) {
        *uri = https;
    }
}

/// Why a request can't be passed on.
async fn refusal(
    head: &Request<()>,
    is_named: bool,
    size: usize,
    stream: &Stream,
    exchange: &Exchange,
) -> Option<OwnAnswer> {
    if stream.crowded {
        return Some(exchange.own(Reason::TooManyConnections));
    }
    let is_stuck = buffer::is_scarce() && stream.client.watch.blocked.get();
    if buffer::is_full() || buffer::is_too_much(size) || is_stuck {
        return Some(exchange.own(Reason::OutOfBuffers));
    }
    if head.headers().len() > MAX_HEADERS || size > MAX_BUFFER {
        return Some(exchange.own(Reason::HeadTooLarge));
    }
    if head.method() == http::Method::CONNECT {
        return Some(exchange.own(Reason::MethodRefused));
    }
    let view = view(head);
    if !is_named || !request_target::is_valid(view.method, view.target) {
        return Some(exchange.own(Reason::BadRequest));
    }
    let is_tls = stream.client.is_tls;
    policy::refusal_in_time(&view, is_tls, exchange).await
}

/// Of what a head says, in bytes.
fn size(head: &Request<()>) -> usize {
    let fields: usize = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    fields + head.uri().path_and_query().map_or(0, |target| target.as_str().len())
}

/// What a request with such a head takes, in bytes: `h2` reads it into more room than it needs, and there is a copy for another try and one
/// on its way to the app; each with a table, of a hundred bytes for a field.
fn in_memory(size: usize, fields: usize) -> usize {
    3 * (size + 100 * fields)
}

fn view(head: &Request<()>) -> request::Request<'_> {
    request::Request {
        version: Version::Http2,
        method: Method::of(head.method().as_str()),
        method_name: head.method().as_str().as_bytes(),
        target: head.uri().path_and_query().map_or(&[], |target| target.as_str().as_bytes()),
        authority: head.uri().authority().map(|authority| authority.as_str().as_bytes()),
        headers: Headers::Map(head.headers()),
    }
}

/// Answers in the app's place.
fn own_answer(respond: &mut SendResponse<Piece>, exchange: &Exchange, asked: Asked, mut answer: OwnAnswer) {
    let reason = answer.reason;
    answer.tell(exchange.to_client());
    match answer::send(respond, asked, &answer) {
        Ok((status, code)) => {
            exchange.answered(status.as_u16());
            if let Some(code) = code {
                exchange.grpc(code);
            }
            exchange.end(reason);
        }
        Err(_) => exchange.end(Reason::ClientClosed),
    }
}

/// A request that did not get its whole answer.
#[derive(Debug)]
struct Failed {
    reason: Reason,
    /// What the client's stream is reset with; without it, the client can be given another answer.
    reset: Option<h2::Reason>,
    /// How far it came, where that is of interest to another try. Untouched is what the app has said that it did nothing with, RFC 9113 8.7.
    tried: Option<Tried>,
    /// Nothing came from the app, which may have closed the connection before the request.
    silent: bool,
}

impl Failed {
    /// Whether the request is sent once more. Of one that was answered that is asked before the client gets its answer.
    fn is_resent(&self, exchange: &Exchange) -> bool {
        match self.tried {
            None => false,
            Some(Tried::Answered(..)) => true,
            Some(tried) => retry::again(exchange, tried, self.reason),
        }
    }

    fn end(self, respond: &mut SendResponse<Piece>, exchange: &Exchange, asked: Asked) {
        let Some(reset) = self.reset else {
            let answer = OwnAnswer::of(self.reason, exchange.port.direction());
            return own_answer(respond, exchange, asked, answer);
        };
        respond.send_reset(reset);
        exchange.was_reset(Code::of_reset(reset));
        exchange.end(self.reason);
    }

    /// The answer's head did not come in time.
    fn late() -> Self {
        Self { reason: Reason::RequestTimeout, reset: None, tried: None, silent: false }
    }

    /// An answer that is not wanted.
    fn unwanted(tried: Tried) -> Self {
        Self { reason: Reason::Reset, reset: None, tried: Some(tried), silent: false }
    }

    /// Before the answer's head.
    fn unanswered(error: &h2::Error) -> Self {
        let failed = |reason, reset, tried| Self { reason, reset, tried, silent: error.is_io() };
        match error.reason() {
            Some(reset) if error.is_reset() && error.is_remote() => {
                let refused = reset == h2::Reason::REFUSED_STREAM;
                failed(Reason::Reset, Some(reset), Some(if refused { Tried::Untouched } else { Tried::Cut }))
            }
            // Only streams that came after the last one that it serves get this.
            Some(_) if error.is_go_away() && error.is_remote() => {
                failed(Reason::Reset, Some(h2::Reason::REFUSED_STREAM), Some(Tried::Untouched))
            }
            _ if error.is_io() => failed(Reason::Reset, None, Some(Tried::Cut)),
            _ => failed(Reason::ProtocolError, None, None),
        }
    }

    fn within_body(broken: &Broken) -> Self {
        let (reason, reset) = match broken {
            Broken::Sender(error) if error.is_library() => {
                (Reason::ProtocolError, h2::Reason::INTERNAL_ERROR)
            }
            Broken::Sender(error) => {
                let reset = error.reason().filter(|_| error.is_reset());
                (Reason::Reset, reset.unwrap_or(h2::Reason::INTERNAL_ERROR))
            }
            Broken::Receiver(_) => (Reason::ClientClosed, h2::Reason::CANCEL),
            Broken::Stalled => (Reason::BodyTimeout, h2::Reason::CANCEL),
            Broken::OutOfBuffers => (Reason::OutOfBuffers, h2::Reason::ENHANCE_YOUR_CALM),
        };
        Self { reason, reset: Some(reset), tried: None, silent: false }
    }
}

/// The client's side of a request on its way.
struct Passing<'a> {
    from_client: &'a mut RecvStream,
    respond: &'a mut SendResponse<Piece>,
    kept: &'a Kept,
}

/// Passes on the answer while the request's body still goes up: an app may answer before it has read all, or while. `None`
/// where all is done, and counted.
async fn pass(sent: Sent, passing: Passing<'_>, exchange: &Exchange, client: &Client) -> Option<Failed> {
    let Passing { from_client, respond, kept } = passing;
    let Sent { answer, body: mut to_app, .. } = sent;
    let whole = from_client.is_end_stream();
    let may_resend = || whole || kept.is_whole();
    let mut uploading = !whole;
    let mut gone = None;
    {
        let received = |piece: &Bytes| {
            exchange.received(piece.len());
            kept.keep(piece);
        };
        let keeps_back = exchange.port.keeps_trailers_back;
        let upload = body::pass(from_client, &mut to_app, NO_LIMIT, keeps_back, || false, received);
        let mut upload = pin!(upload);
        let mut answer = pin!(pass_answer(answer, respond, exchange, client, &may_resend));
        while gone.is_none() {
            tokio::select! {
                biased;
                answered = answer.as_mut() => match answered {
                    Ok(()) => {
                        // The app may still want the rest: who no longer does resets the stream.
                        if uploading {
                            let _ = upload.await;
                        }
                        return None;
                    }
                    Err(Unpassed::App(failed)) => return Some(failed),
                    Err(Unpassed::Client(reset)) => gone = Some(reset),
                },
                sent = upload.as_mut(), if uploading => {
                    uploading = false;
                    match sent {
                        Ok(End::Data) => kept.end(),
                        Ok(End::Trailers(_)) => kept.give_up(),
                        Err(broken @ Broken::OutOfBuffers) => return Some(Failed::within_body(&broken)),
                        Err(Broken::Sender(error)) => gone = Some(error.reason().unwrap_or(h2::Reason::CANCEL)),
                        Err(_) => {}
                    }
                },
            }
        }
    }
    client.watch.reset();
    to_app.send_reset(gone.unwrap_or(h2::Reason::CANCEL));
    exchange.end(Reason::ClientClosed);
    None
}

/// Why an answer was not passed on.
enum Unpassed {
    /// The client does not wait for it any more.
    Client(h2::Reason),
    App(Failed),
}

async fn pass_answer(
    mut answer: ResponseFuture,
    respond: &mut SendResponse<Piece>,
    exchange: &Exchange,
    client: &Client,
    may_resend: &dyn Fn() -> bool,
) -> Result<(), Unpassed> {
    let answered = match exchange.time_left() {
        None => head(&mut answer, respond).await,
        Some(limit) => match tokio::time::timeout(limit, head(&mut answer, respond)).await {
            Ok(answered) => answered,
            Err(_) => return Err(Unpassed::App(Failed::late())),
        },
    };
    let answer = match answered {
        Ok(answer) => answer,
        Err(Ok(reset)) => return Err(Unpassed::Client(reset)),
        Err(Err(error)) => return Err(Unpassed::App(Failed::unanswered(&error))),
    };
    client.watch.answered();
    let (mut head, mut from_app) = answer.into_parts();
    exchange.app_answered(head.status.as_u16(), Headers::Map(&head.headers));
    let whole = from_app.is_end_stream();
    let code = whole.then(|| Code::told(&head.headers)).flatten();
    if may_resend() {
        let tried = Tried::Answered(head.status.as_u16(), code);
        if retry::again(exchange, tried, Reason::None) {
            return Err(Unpassed::App(Failed::unwanted(tried)));
        }
    }
    if !exchange.is_grpc() {
        exchange.answer_passes();
    }
    if let Some(change) = exchange.change(head.status.as_u16()) {
        change.headers.apply(&mut head.headers);
        head.status = change.status.unwrap_or(head.status);
        if let Some(body) = &change.body {
            return send_whole(respond, head, body.clone(), exchange);
        }
    }
    if let Some(code) = code {
        exchange.grpc(code);
    }
    let mut to_client: SendStream<Piece> = respond
        .send_response(Response::from_parts(head, ()), whole)
        .map_err(|error| Unpassed::Client(error.reason().unwrap_or(h2::Reason::CANCEL)))?;
    if whole {
        exchange.end(Reason::None);
        return Ok(());
    }
    let stalled = exchange.port.limits.body;
    let (is_stuck, passed) = (|| client.watch.blocked.get(), |piece: &Bytes| exchange.passed(piece.len()));
    match body::pass(&mut from_app, &mut to_client, stalled, false, is_stuck, passed).await {
        Ok(end) => {
            if let End::Trailers(Some(code)) = end {
                exchange.grpc(code);
            }
            exchange.end(Reason::None);
            Ok(())
        }
        Err(Broken::Receiver(error)) => Err(Unpassed::Client(error.reason().unwrap_or(h2::Reason::CANCEL))),
        Err(broken) => Err(Unpassed::App(Failed::within_body(&broken))),
    }
}

/// Gives the client an answer of which all is there.
fn send_whole(
    respond: &mut SendResponse<Piece>,
    head: http::response::Parts,
    body: Bytes,
    exchange: &Exchange,
) -> Result<(), Unpassed> {
    let gone = |error: h2::Error| Unpassed::Client(error.reason().unwrap_or(h2::Reason::CANCEL));
    let only_head = exchange.method == Method::Head;
    let mut stream = respond.send_response(Response::from_parts(head, ()), only_head).map_err(gone)?;
    if !only_head {
        stream.send_data(body.into(), true).map_err(gone)?;
    }
    exchange.end(Reason::None);
    Ok(())
}

/// The answer's head. Interim ones before it (1xx) are passed on at once. An error is the client's reset, or the app's.
async fn head(
    answer: &mut ResponseFuture,
    respond: &mut SendResponse<Piece>,
) -> Result<Response<RecvStream>, Result<h2::Reason, h2::Error>> {
    poll_fn(|context| {
        while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(context) {
            // A client that is gone is noticed below.
            let _ = respond.send_informational(interim);
        }
        if let Poll::Ready(answer) = Future::poll(std::pin::Pin::new(&mut *answer), context) {
            return Poll::Ready(answer.map_err(Err));
        }
        respond.poll_reset(context).map(|reset| Err(Ok(reset.unwrap_or(h2::Reason::CANCEL))))
    })
    .await
}
