//! A request's first bytes to the app.

use tokio::io::AsyncWriteExt;

use crate::connect::{self, AppStream};
use crate::listener::Port;
use crate::observe::Exchange;
use crate::reason::Reason;

/// A request, or its beginning, that is on its way to the app.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) app: AppStream,
    /// Its bytes, where it may be sent once more: the connection was an idle one, which the app may have closed before the
    /// request came.
    pub(crate) replay: Option<Vec<u8>>,
}

/// Sends what there is of a request: on an idle connection, or on a fresh one. There is no time limit for the answer: how
/// long an app may think is the app's and its caller's business, until a profile says otherwise.
///
/// `again` says that the app may get it twice. Otherwise, once a byte was taken it is never sent again, whoever closed:
/// the app may have acted on it (istio#13851).
pub(crate) async fn send(
    port: &Port,
    exchange: &Exchange,
    request: &[u8],
    again: bool,
) -> Result<Sent, Reason> {
    if let Some(mut idle) = port.pool.take(!again) {
        if let Ok(taken) = idle.write(request).await {
            // What fails from here on shows when the answer is read, if there is none.
            let _ = idle.write_all(&request[taken..]).await;
            return Ok(Sent { app: idle, replay: again.then(|| request.to_vec()) });
        }
        exchange.retried();
    }
    Ok(Sent { app: fresh(port, request).await?, replay: None })
}

/// As [`send`], on a connection of its own.
pub(crate) async fn fresh(port: &Port, request: &[u8]) -> Result<AppStream, Reason> {
    let mut app = connect::app(port).await?;
    let _ = app.write_all(request).await;
    Ok(app)
}
