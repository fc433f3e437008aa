//! Why a round brought nothing new.

use std::fmt;
use std::io;

use outrigger_api::sync_path::beginning;
use serde::{Deserialize, Serialize};

use crate::app::AppError;
use crate::checkout::CheckoutError;
use crate::checksums::ChecksumError;
use crate::signature::SignatureError;
use crate::source::SourceError;
use crate::tree::TreeError;

/// Why a round brought nothing new. What is served stays.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The repository.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The version's files.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The version's checksums.
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    /// The tag's signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Nothing there that is wanted.
    #[error("{url} has no {wanted}")]
    NoMatch {
        /// The repository.
        url: String,
        /// What was looked for.
        wanted: String,
    },
    /// Too many tags to ask each for its date.
    #[error("{0} tags match and none is a version: at most {most} can be told by their dates", most = crate::round::MOST_BY_DATE)]
    TooManyTags(usize),
    /// A tag that was moved.
    #[error("tag {tag} was moved from {from} to {to}: make a new tag, or set git.allowMovedTags")]
    Moved {
        /// The tag.
        tag: String,
        /// The commit that it meant.
        from: String,
        /// The commit that it means.
        to: String,
    },
    /// A version that was found bad before.
    #[error("{version} was bad: {reason}; a newer one is waited for")]
    Bad {
        /// The version.
        version: String,
        /// What was wrong.
        reason: String,
    },
    /// The volume.
    #[error("failed to {what}: {error}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The version is in place, and the app was not told.
    #[error(transparent)]
    App(#[from] AppError),
    /// What the process of a round says, or what is said of it.
    #[error(transparent)]
    Round(#[from] Told),
}

impl Failure {
    /// Its kind.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Source(error) => error.reason(),
            Self::Checkout(CheckoutError::Tree(TreeError::File { .. }) | CheckoutError::NoMemory(_)) => {
                Reason::TooLarge
            }
            Self::Checkout(
                CheckoutError::Tree(_) | CheckoutError::NoDirectory(_) | CheckoutError::NoCommit { .. },
            ) => Reason::BadTree,
            Self::Checkout(CheckoutError::Damaged(_)) => Reason::DamagedObjects,
            Self::Checkout(CheckoutError::Write { .. }) | Self::Disk { .. } => Reason::Disk,
            Self::Checksum(_) => Reason::BadChecksum,
            Self::Signature(_) => Reason::BadSignature,
            Self::NoMatch { .. } | Self::TooManyTags(_) => Reason::NoMatchingTag,
            Self::Moved { .. } => Reason::MovedTag,
            Self::Bad { .. } => Reason::BadVersion,
            Self::App(_) => Reason::AppNotTold,
            Self::Round(Told { reason, .. }) => *reason,
        }
    }
}

/// The most characters of a message: they stand in the state on disk, in `/stats` and in logs.
const MESSAGE: usize = 1024;

/// A failure, as the process of a round tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Told {
    /// Its kind.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

impl From<&Failure> for Told {
    fn from(failure: &Failure) -> Self {
        Self { reason: failure.reason(), message: beginning(&failure.to_string(), MESSAGE) }
    }
}

impl Told {
    /// The same, with the version that it is about before it, where it is the version's own fault.
    #[must_use]
    pub fn about(self, version: &str) -> Self {
        if !self.reason.is_of_version() {
            return self;
        }
        Self { message: format!("{version}: {}", self.message), ..self }
    }
}

/// The kinds of failures, by their names in metrics, logs and `/stats`: a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "docs/hot-plug.md has the table")]
pub enum Reason {
    Unreachable,
    Denied,
    BrokenAnswer,
    DamagedObjects,
    NoMatchingTag,
    MovedTag,
    BadTree,
    BadChecksum,
    BadSignature,
    TooLarge,
    BadVersion,
    Disk,
    AppNotTold,
}

impl Reason {
    /// Whether it is the version's own fault, so that fetching it again would end the same.
    pub const fn is_of_version(self) -> bool {
        matches!(self, Self::BadTree | Self::BadChecksum | Self::BadSignature | Self::TooLarge)
    }

    /// Whether asking again at once would do harm: somebody or something is in trouble.
    pub const fn backs_off(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Denied
                | Self::BrokenAnswer
                | Self::DamagedObjects
                | Self::TooLarge
                | Self::Disk
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
