//! The switch from HTTP to another protocol, such as WebSocket: both connections become bytes.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use outrigger_runtime::shutdown::InFlight;

use crate::headers;
use crate::listener::Port;
use crate::tcp::{self, Open};

/// A client's wish to switch.
#[derive(Debug)]
pub(crate) struct Wish {
    protocol: HeaderValue,
    client: OnUpgrade,
}

/// Takes the wish out of a request, if there is one that we pass on. `h2c` we don't, as a server may: what follows the
/// switch would be requests that nobody counts, and the client is content with HTTP/1.
pub(crate) fn wish(request: &mut Request<Incoming>) -> Option<Wish> {
    let protocol = headers::upgrade(request.headers())?;
    let client = hyper::upgrade::on(&mut *request);
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then_some(Wish { protocol, client })
}

impl Wish {
    /// Asks the app the same.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) {
        headers::set_upgrade(headers, self.protocol.clone());
    }

    /// The app has agreed: relays bytes as soon as our own 101 has gone out. `in_flight` keeps a drain waiting for it.
    pub(crate) fn relay(self, response: &mut Response<Incoming>, port: &Rc<Port>, in_flight: InFlight) {
        let app = hyper::upgrade::on(response);
        let port = Rc::clone(port);
        tokio::task::spawn_local(async move {
            match tokio::try_join!(self.client, app) {
                Ok((client, app)) => {
                    let open = Open::count(&port.metrics);
                    tcp::relay(TokioIo::new(client), TokioIo::new(app), open).await;
                }
                Err(error) => tracing::debug!(%error, "switch of protocol given up"),
            }
            drop(in_flight);
        });
    }
}
