//! TLS that ends or begins at the proxy, by `rustls`.
//!
//! `secret` reads what a Secret holds, `terminator` is what one port makes of it, `accept` one client's handshake and `session` the
//! connection from then on, `offer` which versions of HTTP they may choose from, `originator` and `originate` the same towards upstreams, `subject` the name in a client's certificate.

mod accept;
mod offer;
mod originate;
mod originator;
mod secret;
mod session;
mod subject;
mod terminator;

pub(crate) use accept::{Handshake, accept};
pub(crate) use offer::Offer;
pub(crate) use originate::{Spoken, originate};
pub(crate) use originator::Originator;
pub(crate) use secret::TlsError;
pub(crate) use session::Session;
pub(crate) use terminator::Terminator;
