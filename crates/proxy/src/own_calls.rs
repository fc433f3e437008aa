//! The connections that this proxy has made, by which it knows one that comes back to it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpStream;

use crate::redirected::canonical;

/// Both ends of a connection, as it was made: no other of this pod has the same.
type Ends = (SocketAddr, SocketAddr);

/// One for all threads: the kernel gives what one of them has made to any of them.
static CALLS: Mutex<BTreeSet<Ends>> = Mutex::new(BTreeSet::new());

/// A connection made by this proxy, until this is dropped. Boxed, so that the tasks that hold it stay small.
#[derive(Debug)]
pub(crate) struct OwnCall(Option<Box<Ends>>);

impl OwnCall {
    pub(crate) fn of(stream: &TcpStream) -> Self {
        let ends =
            stream.local_addr().and_then(|from| Ok((canonical(from), canonical(stream.peer_addr()?)))).ok();
        if let Some(ends) = ends {
            CALLS.lock().unwrap_or_else(PoisonError::into_inner).insert(ends);
        }
        Self(ends.map(Box::new))
    }
}

impl Drop for OwnCall {
    fn drop(&mut self) {
        if let Some(ends) = &self.0 {
            CALLS.lock().unwrap_or_else(PoisonError::into_inner).remove(&**ends);
        }
    }
}

/// Whether a connection from here that was going there is one of the proxy's own. One that is accepted before its maker knows that it is made is
/// found when it has gone round once more.
pub(crate) fn has(from: SocketAddr, to: SocketAddr) -> bool {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner).contains(&(canonical(from), to))
}
