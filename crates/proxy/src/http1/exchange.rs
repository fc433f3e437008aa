//! One request and its answer: the way from top to bottom.

use std::pin::{Pin, pin};
use std::rc::Rc;

use crate::answer::OwnAnswer;
use crate::buffer::{self, Buffer, Stored};
use crate::connect::AppStream;
use crate::forward::{self, Sent};
use crate::http1::answer;
use crate::http1::connection::Client;
use crate::http1::edit;
use crate::http1::framing::{BadFraming, Body, Framing};
use crate::http1::head::RequestHead;
use crate::http1::request_body::{self, Unsent};
use crate::http1::response::{self, Answered, Asked, Stage, Upload};
use crate::listener::Listener;
use crate::method::Method;
use crate::observe::Exchange;
use crate::own_time;
use crate::policy;
use crate::port::Port;
use crate::reason::Reason;
use crate::retry::{self, Tried};
use crate::stall;

/// How a client's connection goes on.
#[derive(Debug)]
pub(crate) enum Next {
    Request,
    Close,
    /// Close, and read what the client still sends.
    Linger,
    /// Let the client see that it is broken.
    Reset,
    /// Both sides speak another protocol; the app has said this already.
    Relay(Box<AppStream>, Vec<u8>),
}

impl Next {
    fn after_answer(client_persists: bool, body_sent: bool) -> Self {
        match (client_persists, body_sent) {
            (true, true) => Self::Request,
            (false, true) => Self::Close,
            (_, false) => Self::Linger,
        }
    }
}

/// What the client is answered instead of by the app, and whether its connection is kept.
struct Instead {
    answer: OwnAnswer,
    keep: bool,
}

impl Instead {
    fn of(reason: Reason, exchange: &Exchange, keep: bool) -> Self {
        Self { answer: exchange.own(reason), keep }
    }
}

/// A request and its answer. `message` begins with the request's head.
pub(crate) fn exchange(
    client: &mut Client,
    message: &mut Buffer,
    head: &RequestHead,
    listener: &Listener,
    port: &Rc<Port>,
) -> impl Future<Output = Next> {
    async move {
        let exchange = Exchange::start(port, &client.clock, &head.request(message));
        let instead = match pass(client, message, head, listener, &exchange).await {
            Ok(next) => return next,
            Err(instead) => instead,
        };
        // What it takes to tell it is no part of the request any more, which has been counted.
        own_time::apart(own_answer(client, exchange, head.method, instead)).await
    }
}

/// A request's way through the proxy: judge, forward, answer, observe.
fn pass(
    client: &mut Client,
    message: &mut Buffer,
    head: &RequestHead,
    listener: &Listener,
    exchange: &Exchange,
) -> impl Future<Output = Result<Next, Instead>> {
    async move {
        let port = &*exchange.port;
        let mut body = begin_body(client, message, head, exchange)
            .map_err(|BadFraming| Instead::of(Reason::BadRequest, exchange, false))?;
        if buffer::is_too_much(client.unread.len()) {
            return Err(Instead::of(Reason::OutOfBuffers, exchange, false));
        }
        let may_resend = port.retries.is_some() && body.is_ended() && !buffer::is_too_much(message.len());
        let asked = Asked::of(head, &body, may_resend);
        let refused = if policy::judges_at_once(port) {
            refusal(client, message, head, exchange)
        } else {
            // Boxed, so that the tasks of the others have no room for it.
            Box::pin(refusal_in_time(client, message, head, exchange)).await
        };
        // Not by `if let`, for which the task would have room until the end.
        refused.map_or(Ok(()), |answer| {
            let keep = asked.method != Method::Connect && body.is_ended() && asked.keeps(exchange, listener);
            Err(Instead { answer, keep })
        })?;

        let start = edit::request(message, head, exchange, client.stream.subject());
        let again = head.method.is_safe() && head.framing == Framing::None;
        let sent = forward::send(port, exchange, &message[start..], again).await;
        let Sent { mut app, was_idle, .. } = sent.map_err(|reason| {
            Instead::of(reason, exchange, body.is_ended() && asked.keeps(exchange, listener))
        })?;
        let may_be_stale = again && was_idle && !buffer::is_too_much(message.len() - start);
        let kept = if may_resend || may_be_stale { Some(Stored::of(&message[start..])) } else { None };
        message.give_back();

        let mut way = Way { client, body: &mut body, asked: &asked, listener, exchange };
        let mut outcome = answer(&mut way, &mut app).await;
        if let (Err(reason), Some(request)) = (&outcome, kept) {
            outcome = Box::pin(once_more(&mut way, &mut app, *reason, request, may_be_stale)).await;
        }
        conclude(outcome, app, &asked, exchange).map_err(|reason| {
            let body_sent = asked.upload.get() == Upload::Done;
            Instead::of(reason, exchange, body_sent && asked.keeps(exchange, listener))
        })
    }
}

/// Counts what has ended, and says how the client's connection goes on. An error is a reason for an answer of our own.
fn conclude(
    outcome: Result<Answered, Reason>,
    app: Box<AppStream>,
    asked: &Asked,
    exchange: &Exchange,
) -> Result<Next, Reason> {
    let body_sent = asked.upload.get() == Upload::Done;
    match outcome {
        Ok(Answered::Whole { app: app_persists, client: client_persists }) => {
            exchange.end(Reason::None);
            if app_persists && body_sent {
                exchange.port.pool.put(app);
            }
            Ok(Next::after_answer(client_persists, body_sent))
        }
        Ok(Answered::Switched { from_app }) => Ok(ended(exchange, Reason::None, Next::Relay(app, from_app))),
        Err(reason) => match asked.stage.get() {
            Stage::Silent | Stage::Head | Stage::Unwanted => Err(reason),
            // What it did not take would stay with the kernel.
            _ if reason == Reason::BodyTimeout => Ok(ended(exchange, reason, Next::Reset)),
            Stage::Body => Ok(ended(exchange, reason, Next::Close)),
            Stage::UntilClose => Ok(ended(exchange, reason, Next::Reset)),
        },
    }
}

/// Sends a request that failed once more, as long as it may be and fails. Boxed, so that the tasks of others have no room for it.
async fn once_more(
    way: &mut Way<'_>,
    app: &mut Box<AppStream>,
    mut reason: Reason,
    request: Stored,
    may_be_stale: bool,
) -> Result<Answered, Reason> {
    let (asked, exchange) = (way.asked, way.exchange);
    // The app had closed its idle connection when the request came.
    let mut resent = may_be_stale && reason == Reason::Reset && asked.stage.get() == Stage::Silent;
    if resent {
        exchange.retried();
    }
    while std::mem::take(&mut resent) || is_resent(reason, asked, exchange) {
        asked.stage.set(Stage::Silent);
        let outcome = match forward::later(&exchange.port, exchange, &request).await {
            Ok(fresh) => {
                *app = fresh.app;
                answer(way, app).await
            }
            Err(reason) => Err(reason),
        };
        match outcome {
            Err(failed) => reason = failed,
            answered => return answered,
        }
    }
    Err(reason)
}

/// Whether a request that failed so, and is kept, is sent once more.
fn is_resent(reason: Reason, asked: &Asked, exchange: &Exchange) -> bool {
    match (reason, asked.stage.get()) {
        (_, Stage::Unwanted) => true,
        (Reason::Reset, Stage::Silent | Stage::Head) => retry::again(exchange, Tried::Cut, reason),
        _ => false,
    }
}

/// What a request is answered that does not reach the app.
fn refusal(client: &Client, message: &[u8], head: &RequestHead, exchange: &Exchange) -> Option<OwnAnswer> {
    if head.method == Method::Connect {
        return Some(exchange.own(Reason::MethodRefused));
    }
    policy::refusal(&head.request(message), client.stream.is_tls(), exchange)
}

/// As [`refusal`], where that takes time.
async fn refusal_in_time(
    client: &Client,
    message: &[u8],
    head: &RequestHead,
    exchange: &Exchange,
) -> Option<OwnAnswer> {
    if head.method == Method::Connect {
        return Some(exchange.own(Reason::MethodRefused));
    }
    policy::refusal_in_time(&head.request(message), client.stream.is_tls(), exchange).await
}

/// What came of the body with the head. What came beyond it is the next request's.
fn begin_body(
    client: &mut Client,
    message: &mut Buffer,
    head: &RequestHead,
    exchange: &Exchange,
) -> Result<Body, BadFraming> {
    let (mut body, mut data) = (Body::new(head.framing), 0);
    let keeps_trailers_back = exchange.port.keeps_trailers_back;
    let come = &message[head.length..];
    let (taken, passed, end) =
        request_body::take(&mut body, come, keeps_trailers_back, |content| data += content)?;
    exchange.received(data);
    client.unread.add(&come[taken..]);
    message.truncate(head.length + passed);
    message.extend_from_slice(end);
    Ok(body)
}

/// What is under way: the client's side of it.
struct Way<'a> {
    client: &'a mut Client,
    body: &'a mut Body,
    asked: &'a Asked,
    listener: &'a Listener,
    exchange: &'a Exchange,
}

/// Passes on the answer.
fn answer(way: &mut Way<'_>, app: &mut AppStream) -> impl Future<Output = Result<Answered, Reason>> {
    async move {
        // Most requests have no body, or it came with the head.
        if way.asked.upload.get() == Upload::Running {
            return Box::pin(answer_beside_body(way, app)).await;
        }
        let (_, client_write) = way.client.stream.split();
        let (mut app_read, _) = app.split();
        let begun = response::begin(&mut app_read, &client_write, way.asked, way.exchange).await?;
        response::pass(begun, app_read, client_write, way.asked, way.listener, way.exchange)?.whole().await
    }
}

/// Passes on the answer while what is left of the request's body still goes up: an app may answer before it has read all,
/// or while.
async fn answer_beside_body(way: &mut Way<'_>, app: &mut AppStream) -> Result<Answered, Reason> {
    let Way { client, body, asked, listener, exchange } = way;
    let (client_read, client_write) = client.stream.split();
    let (mut app_read, app_write) = app.split();
    let mut upload =
        pin!(request_body::pass(client_read, app_write, body, &mut client.unread, asked, exchange));
    let mut answer = pin!(async {
        let begun = response::begin(&mut app_read, &client_write, asked, exchange).await?;
        response::pass(begun, app_read, client_write, asked, listener, exchange)?.whole().await
    });
    loop {
        tokio::select! {
            biased;
            answered = answer.as_mut() => return answered,
            sent = upload.as_mut(), if asked.upload.get() == Upload::Running => match sent {
                Ok(()) => asked.upload.set(Upload::Done),
                Err(Unsent::App) => asked.upload.set(Upload::Broken),
                Err(Unsent::Client(reason)) => return Err(reason),
            },
        }
    }
}

fn ended(exchange: &Exchange, reason: Reason, next: Next) -> Next {
    exchange.end(reason);
    next
}

/// Answers in the app's place. Boxed, so that the tasks of those who get the app's answer have no room for it.
fn own_answer(
    client: &mut Client,
    exchange: Exchange,
    method: Method,
    Instead { mut answer, keep }: Instead,
) -> Pin<Box<impl Future<Output = Next>>> {
    Box::pin(async move {
        // A client that is gone gets no answer: leave the status that says so.
        if answer.reason == Reason::ClientClosed {
            exchange.end(answer.reason);
            return Next::Close;
        }
        exchange.answered(answer.status.as_u16());
        exchange.end(answer.reason);
        answer.tell(exchange.to_client());
        let bytes = answer::of(&answer, method != Method::Head, !keep);
        match (stall::write(&client.stream.split().1, &bytes, exchange.port.limits.body).await, keep) {
            (Err(_), _) => Next::Close,
            (Ok(()), true) => Next::Request,
            (Ok(()), false) => Next::Linger,
        }
    })
}
