//! One request to the app and its answer's head back.

use std::error::Error;
use std::io;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::body::RequestBody;
use crate::connect;
use crate::limits::{MAX_BUFFER, MAX_HEADERS};
use crate::listener::Port;
use crate::pool::{Lease, Sender};
use crate::reason::Reason;

/// Sends the request to the app and waits for its answer to begin. There is no time limit: how long an app may think is
/// the app's and its caller's business, until a profile says otherwise.
///
/// An idle connection that the app has closed in the meantime gives the request back unsent, and it goes to a fresh
/// one. Once a byte was sent it is never sent again, whatever its method: the app may have acted on it (istio#13851).
pub(crate) async fn forward(
    port: &Rc<Port>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Reason> {
    if let Some(idle) = port.pool.take() {
        match send(port, idle, request).await {
            Err(NotAnswered::Unsent(unsent)) => request = *unsent,
            Err(NotAnswered::Failed(reason)) => return Err(reason),
            Ok(answer) => return Ok(answer),
        }
    }
    let fresh = open(port).await?;
    send(port, fresh, request).await.map_err(|not_answered| match not_answered {
        NotAnswered::Unsent(_) => Reason::Reset,
        NotAnswered::Failed(reason) => reason,
    })
}

enum NotAnswered {
    Unsent(Box<Request<RequestBody>>),
    Failed(Reason),
}

async fn send(
    port: &Rc<Port>,
    mut sender: Sender,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), NotAnswered> {
    match sender.try_send_request(request).await {
        Ok(response) => {
            let pool = Rc::clone(&port.pool);
            Ok((response, Lease { pool, sender }))
        }
        Err(mut error) => Err(match error.take_message() {
            Some(unsent) => NotAnswered::Unsent(Box::new(unsent)),
            None => NotAnswered::Failed(reason(error.error())),
        }),
    }
}

async fn open(port: &Port) -> Result<Sender, Reason> {
    let stream = connect::app(port).await?;
    let handshake = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|error| reason(&error))?;
    tokio::task::spawn_local(async move {
        // What goes wrong here reaches the request too, which reports it; on an idle connection it is of no account.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the app ended early");
        }
    });
    Ok(sender)
}

/// What an error between us and the app means.
pub(crate) fn reason(error: &hyper::Error) -> Reason {
    // The request's body is what is ours towards hyper, and it fails when the client does.
    match (error.is_user(), error.is_parse() || is_malformed(error)) {
        (true, true) => Reason::BadRequest,
        (true, false) => Reason::ClientClosed,
        (false, true) => Reason::ProtocolError,
        (false, false) => Reason::Reset,
    }
}

/// Whether a body was framed wrongly, rather than cut off. hyper tells only by the kind of an inner error.
fn is_malformed(error: &hyper::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
    })
}
