//! Names and passwords: RFC 7617.
//!
//! A hash that is worth its name takes tens of milliseconds, so it is made on a thread of its own and once for each credential. What
//! was found good is remembered by a hash of another kind, whose key this process drew: no password is held, and none can be guessed
//! from what is.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::auth::keys::Keys;
use crate::auth::{Denied, KNOWN};

/// One at a time: argon2 takes megabytes each time, and the cores are the app's.
static TURN: Semaphore = Semaphore::const_new(1);
/// Requests that wait for their turn. Who comes beyond that is refused: an attacker's guesses take no more than a core.
const MOST_WAITING: usize = 32;
/// The longest credential that is looked at, in bytes.
const LONGEST: usize = 1024;

/// What was verified, by these keys.
#[derive(Default)]
struct Good {
    keys: Option<Arc<Keys>>,
    credentials: HashSet<[u8; 32]>,
}

/// Verifies names and passwords of one port.
pub(super) struct Verifier {
    key: hmac::Key,
    good: RefCell<Good>,
    waiting: Cell<usize>,
}

/// A request that waits, until this is dropped.
struct Waiting<'a>(&'a Cell<usize>);

impl Verifier {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            key: key.expect("the kernel has random numbers"),
            good: RefCell::default(),
            waiting: Cell::new(0),
        }
    }

    /// The name in a credential that is good.
    pub(super) async fn verify(&self, keys: &Arc<Keys>, encoded: &[u8]) -> Result<String, Denied> {
        let credential = decode(encoded).ok_or(Denied::Invalid("no credential"))?;
        let (name, password) = credential.split_once(':').ok_or(Denied::Invalid("no credential"))?;
        let tag = hmac::sign(&self.key, credential.as_bytes());
        let tag: [u8; 32] = tag.as_ref().try_into().expect("SHA-256 has 32 bytes");
        if self.is_good(keys, &tag) {
            return Ok(name.to_owned());
        }
        let _waiting = self.wait().ok_or(Denied::Busy)?;
        let turn = TURN.acquire().await.map_err(|_| Denied::Busy)?;
        // Somebody else may have come with it meanwhile.
        if self.is_good(keys, &tag) {
            return Ok(name.to_owned());
        }
        let (judge, asked, password) = (Arc::clone(keys), name.to_owned(), password.to_owned());
        let judged = tokio::task::spawn_blocking(move || {
            // Given back when the hash is made, also where nobody waits for it any more.
            let _turn = turn;
            judge.users.has(&asked, password.as_bytes())
        });
        if !judged.await.unwrap_or(false) {
            return Err(Denied::Invalid("no such user and password"));
        }
        self.remember(keys, tag);
        Ok(name.to_owned())
    }

    fn is_good(&self, keys: &Arc<Keys>, tag: &[u8; 32]) -> bool {
        let good = self.good.borrow();
        good.keys.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys)) && good.credentials.contains(tag)
    }

    fn remember(&self, keys: &Arc<Keys>, tag: [u8; 32]) {
        let mut good = self.good.borrow_mut();
        let others = !good.keys.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys));
        if others || good.credentials.len() >= KNOWN {
            *good = Good { keys: Some(Arc::clone(keys)), credentials: HashSet::new() };
        }
        good.credentials.insert(tag);
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        if self.waiting.get() >= MOST_WAITING {
            return None;
        }
        self.waiting.set(self.waiting.get() + 1);
        Some(Waiting(&self.waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// In UTF-8, as our challenge asks for, without control characters (RFC 7617 section 2): to bcrypt, a password, a NUL and the password
/// again are that password.
fn decode(encoded: &[u8]) -> Option<String> {
    if encoded.len() > LONGEST {
        return None;
    }
    let credential = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    (!credential.contains(char::is_control)).then_some(credential)
}
