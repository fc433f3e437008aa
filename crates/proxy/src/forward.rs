//! A request's first bytes to the app.

use std::io;

use tokio::io::AsyncWriteExt;

use crate::connect::{self, AppStream};
use crate::observe::Exchange;
use crate::port::Port;
use crate::reason::Reason;
use crate::retry::{self, Tried};
use crate::tls::Spoken;

/// A request, or its beginning, that is on its way to the app.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Boxed as long as it is open: a request's task has room for it, and it would be copied from the pool and back.
    pub(crate) app: Box<AppStream>,
    /// How many of its bytes the connection has taken.
    taken: usize,
    /// The connection was an idle one, which the app may have closed before the request came.
    pub(crate) was_idle: bool,
}

/// Sends what there is of a request: on an idle connection, else on one of its own.
pub(crate) async fn send(
    port: &Port,
    exchange: &Exchange,
    request: &[u8],
    again: bool,
) -> Result<Sent, Reason> {
    let Some(mut sent) = on_idle(port, exchange, request, again) else {
        return Box::pin(on_fresh(port, exchange, request)).await;
    };
    if sent.taken < request.len() || sent.app.is_tls() {
        // What fails here shows when the answer is read, if there is none.
        let _ = write(&mut sent.app, &request[sent.taken..]).await;
    }
    Ok(sent)
}

/// Sends what there is of a request on an idle connection; `None` where there is none that works. There is no time limit for
/// the answer: how long an app may think is the app's and its caller's business, until a profile says otherwise.
///
/// `again` says that the app may get it twice. Otherwise, once a byte was taken it is never sent again, whoever closed:
/// the app may have acted on it (istio#13851).
fn on_idle(port: &Port, exchange: &Exchange, request: &[u8], again: bool) -> Option<Sent> {
    let app = loop {
        let app = port.pool.take(!again)?;
        if app.is_current(port) {
            break app;
        }
    };
    // An idle connection takes bytes at once, so this need not wait, and the task of the connection keeps nothing for it.
    let Ok(taken) = app.try_write(request) else {
        exchange.retried();
        return None;
    };
    Some(Sent { app, taken, was_idle: true })
}

/// As [`on_idle`], on a connection of its own. Where none can be made, nothing was sent, and it may be tried again.
pub(crate) async fn on_fresh(port: &Port, exchange: &Exchange, request: &[u8]) -> Result<Sent, Reason> {
    let mut app = loop {
        match connect::app(port, Some(Spoken::Http1)).await {
            Ok(app) => break Box::new(app),
            Err(reason) if retry::again(exchange, Tried::Untouched, reason) => exchange.pause().await,
            Err(reason) => return Err(reason),
        }
    };
    let _ = write(&mut app, request).await;
    Ok(Sent { app, taken: request.len(), was_idle: false })
}

/// As [`on_fresh`], after a pause. Another try is not made on an idle connection: it may lead to where the one before failed.
pub(crate) async fn later(port: &Port, exchange: &Exchange, request: &[u8]) -> Result<Sent, Reason> {
    exchange.pause().await;
    on_fresh(port, exchange, request).await
}

/// With what TLS keeps back.
async fn write(app: &mut AppStream, bytes: &[u8]) -> io::Result<()> {
    app.write_all(bytes).await?;
    app.flush().await
}
