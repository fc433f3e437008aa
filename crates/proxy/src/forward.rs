//! A request's first bytes to the app.

use tokio::io::AsyncWriteExt;

use crate::connect::{self, AppStream};
use crate::observe::Exchange;
use crate::port::Port;
use crate::reason::Reason;

/// A request, or its beginning, that is on its way to the app.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) app: AppStream,
    /// How many of its bytes the connection has taken.
    taken: usize,
    /// Its bytes, where it may be sent once more: the connection was an idle one, which the app may have closed before the
    /// request came.
    pub(crate) replay: Option<Vec<u8>>,
}

/// Sends what there is of a request: on an idle connection, else on one of its own.
pub(crate) async fn send(
    port: &Port,
    exchange: &Exchange,
    request: &[u8],
    again: bool,
) -> Result<Sent, Reason> {
    let Some(mut sent) = on_idle(port, exchange, request, again) else {
        return Box::pin(on_fresh(port, request)).await;
    };
    if sent.taken < request.len() {
        // What fails here shows when the answer is read, if there is none.
        let _ = sent.app.write_all(&request[sent.taken..]).await;
    }
    Ok(sent)
}

/// Sends what there is of a request on an idle connection; `None` where there is none that works. There is no time limit for
/// the answer: how long an app may think is the app's and its caller's business, until a profile says otherwise.
///
/// `again` says that the app may get it twice. Otherwise, once a byte was taken it is never sent again, whoever closed:
/// the app may have acted on it (istio#13851).
fn on_idle(port: &Port, exchange: &Exchange, request: &[u8], again: bool) -> Option<Sent> {
    let app = port.pool.take(!again)?;
    // An idle connection takes bytes at once, so this need not wait, and the task of the connection keeps nothing for it.
    let Ok(taken) = app.try_write(request) else {
        exchange.retried();
        return None;
    };
    Some(Sent { app, taken, replay: again.then(|| request.to_vec()) })
}

/// As [`on_idle`], on a connection of its own.
pub(crate) async fn on_fresh(port: &Port, request: &[u8]) -> Result<Sent, Reason> {
    let mut app = connect::app(port).await?;
    let _ = app.write_all(request).await;
    Ok(Sent { app, taken: request.len(), replay: None })
}
