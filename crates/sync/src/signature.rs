//! Tags that are signed by ssh keys: `git tag -s` with `gpg.format=ssh`.
//!
//! `OpenPGP` is refused: its one well-kept library is larger than all of this program.

use gix_hash::ObjectId;
use gix_object::tag::ref_iter::Token;
use gix_object::{FindExt, TagRefIter};
use outrigger_api::sync_path::{SHOWN, beginning};
use russh::keys::PublicKey;
use russh::keys::ssh_key::SshSig;

use crate::source::{Objects, Reference};

/// Why a tag is not trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A tag without an object of its own can't be signed.
    #[error("tag {0} is not signed: it takes `git tag -s`")]
    Unsigned(String),
    /// Of another kind, or damaged.
    #[error("tag {tag} has a signature that is not understood: {why}")]
    Unknown {
        /// The tag.
        tag: String,
        /// Why.
        why: String,
    },
    /// By a key that is not in the profile, or of something else.
    #[error("tag {0} is not signed by a key of git.signedBy")]
    NotAllowed(String),
    /// The signed object is of another tag.
    #[error("tag {tag} has the signed object of tag {of}")]
    OfAnotherTag {
        /// The tag.
        tag: String,
        /// What it was made for.
        of: String,
    },
    /// A key of the profile that is none.
    #[error("git.signedBy has a key that is none: {0}")]
    Key(String),
}

/// What git signs for: a signature for something else is none of a tag.
const NAMESPACE: &str = "git";

/// Verifies that one of `keys` has signed the tag, under its own name and for its commit.
pub fn verify(objects: &Objects, reference: &Reference, keys: &[String]) -> Result<(), SignatureError> {
    if keys.is_empty() {
        return Ok(());
    }
    let tag = || reference.name.clone();
    let unknown = |why: String| SignatureError::Unknown { tag: tag(), why };
    let mut buffer = Vec::new();
    let object = objects.find(&reference.object, &mut buffer).map_err(|error| unknown(error.to_string()))?;
    if object.kind != gix_object::Kind::Tag {
        return Err(SignatureError::Unsigned(tag()));
    }
    let (of, target) = name_and_target(object.data, reference.object.kind());
    // Who may push could otherwise give an old signed version a new name.
    if of != reference.name {
        return Err(SignatureError::OfAnotherTag { tag: tag(), of: beginning(&of, SHOWN) });
    }
    if target != Some(reference.commit) {
        return Err(unknown("it is a tag of a tag".to_owned()));
    }
    let Some((signature, signed)) = TagRefIter::signature(object.data) else {
        return Err(SignatureError::Unsigned(tag()));
    };
    if signature.data.starts_with(b"-----BEGIN PGP") {
        return Err(unknown("OpenPGP; sign with an ssh key: git config gpg.format ssh".to_owned()));
    }
    let signature = SshSig::from_pem(signature.data).map_err(|error| unknown(error.to_string()))?;
    let signed = signed.to_bstring();
    for key in keys {
        let key = PublicKey::from_openssh(key).map_err(|error| SignatureError::Key(error.to_string()))?;
        if key.verify(NAMESPACE, &signed, &signature).is_ok() {
            return Ok(());
        }
    }
    Err(SignatureError::NotAllowed(tag()))
}

fn name_and_target(data: &[u8], kind: gix_hash::Kind) -> (String, Option<ObjectId>) {
    let (mut name, mut target) = (String::new(), None);
    for token in TagRefIter::from_bytes(data, kind).map_while(Result::ok) {
        match token {
            Token::Target { id } => target = Some(id),
            Token::Name(of) => name = of.to_string(),
            _ => {}
        }
    }
    (name, target)
}
