//! Names and passwords: RFC 7617.
//!
//! A hash that is worth its name takes tens of milliseconds, so it is made on a thread of its own and once for each credential. What
//! was found good is remembered by a hash of another kind, whose key this process drew: no password is held, and none can be guessed
//! from what is.

use std::cell::RefCell;
use std::sync::{Arc, Once};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;

use crate::auth::Denied;
use crate::auth::keys::Keys;
use crate::auth::line::{Client, Line};
use crate::auth::remembered::{Remembered, Tag};
use crate::buffer::Held;

/// One at a time: argon2 takes megabytes each time, and the cores are the app's.
static TURN: Semaphore = Semaphore::const_new(1);
/// Says once that there is no memory for a hash: it may be so for each.
static NO_ROOM: Once = Once::new();
/// The longest credential that is looked at, in bytes.
const LONGEST: usize = 1024;

/// Verifies names and passwords of one port.
pub(super) struct Verifier {
    key: hmac::Key,
    good: RefCell<Remembered>,
    line: RefCell<Line>,
}

/// A request that waits, until this is dropped.
struct Waiting<'a>(&'a RefCell<Line>, Client);

impl Verifier {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self {
            key: key.expect("the kernel has random numbers"),
            good: RefCell::default(),
            line: RefCell::default(),
        }
    }

    /// The name in a credential that is good, and came from this client.
    pub(super) async fn verify(
        &self,
        keys: &Arc<Keys>,
        encoded: &[u8],
        client: Client,
    ) -> Result<String, Denied> {
        let credential = decode(encoded).ok_or(Denied::Invalid("no credential"))?;
        let (name, password) = credential.split_once(':').ok_or(Denied::Invalid("no credential"))?;
        let tag = self.tag(keys, name, &credential);
        if self.good.borrow_mut().has(&tag) {
            return Ok(name.to_owned());
        }
        let _waiting = self.wait(client).ok_or(Denied::Busy)?;
        let turn = TURN.acquire().await.map_err(|_| Denied::Busy)?;
        // Somebody else may have come with it meanwhile.
        if self.good.borrow_mut().has(&tag) {
            return Ok(name.to_owned());
        }
        let memory = keys.users.memory();
        let Some(held) = Held::if_it_fits(memory) else {
            NO_ROOM.call_once(|| {
                let mebibytes = memory >> 20;
                tracing::warn!(
                    mebibytes,
                    "no memory for a password's hash: it takes a higher memory limit, or cheaper hashes"
                );
            });
            return Err(Denied::Busy);
        };
        let (judge, asked, password) = (Arc::clone(keys), name.to_owned(), password.to_owned());
        let judged = tokio::task::spawn_blocking(move || {
            // Given back when the hash is made, also where nobody waits for it any more.
            let _turn = turn;
            judge.users.has(&asked, password.as_bytes())
        });
        // On this thread, which counts it, and to the hash's end, as the turn.
        let judged = tokio::task::spawn_local(async move {
            let _held = held;
            judged.await.unwrap_or(false)
        });
        if !judged.await.unwrap_or(false) {
            return Err(Denied::Invalid("no such user and password"));
        }
        self.good.borrow_mut().insert(tag);
        Ok(name.to_owned())
    }

    /// What stands for a credential as these keys judge it: with another hash in the file it is another, and a line of somebody else's that
    /// changes makes nobody wait for a hash again.
    fn tag(&self, keys: &Keys, name: &str, credential: &str) -> Tag {
        let mut tag = hmac::Context::with_key(&self.key);
        // Neither has a NUL.
        for part in [keys.users.hash(name).unwrap_or_default(), "\0", credential] {
            tag.update(part.as_bytes());
        }
        tag.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn wait(&self, client: Client) -> Option<Waiting<'_>> {
        self.line.borrow_mut().enter(client).then(|| Waiting(&self.line, client))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().leave(self.1);
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

#[cfg(test)]
mod tests {
    use outrigger_api::auth::AuthSpec;

    use super::*;

    /// Any change of the file had everybody wait for a hash again.
    #[tokio::test(flavor = "local")]
    async fn who_was_good_is_remembered_as_long_as_the_own_line_is_the_same() {
        const FILE: &str = include_str!("users.htpasswd");
        let spec: AuthSpec =
            serde_json::from_value(serde_json::json!({"basic": {"secretName": "s"}})).unwrap();
        let secrets = std::env::temp_dir().join(format!("outrigger-basic-{}", std::process::id()));
        std::fs::create_dir_all(secrets.join("s")).unwrap();
        let keys = |file: &str| {
            std::fs::write(secrets.join("s").join("htpasswd"), file).unwrap();
            Arc::new(Keys::read(&spec, &secrets).unwrap())
        };
        let (before, verifier) = (keys(FILE), Verifier::new());
        let encoded = STANDARD.encode("ada:secret");
        verifier.verify(&before, encoded.as_bytes(), None).await.unwrap();
        for (file, wanted) in [
            (FILE.replace("bob", "cid"), true),
            (FILE.replace("IrW", "IrX"), false),
            (FILE.replace("ada", "eve"), false),
            (FILE.to_owned(), true),
        ] {
            let tag = verifier.tag(&keys(&file), "ada", "ada:secret");
            assert_eq!(verifier.good.borrow_mut().has(&tag), wanted, "{file}");
        }
        std::fs::remove_dir_all(secrets).unwrap();
    }
}
