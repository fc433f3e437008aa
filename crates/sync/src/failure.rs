//! Why a round brought nothing new.

use std::io;

use crate::app::AppError;
use crate::checkout::CheckoutError;
use crate::checksums::ChecksumError;
use crate::signature::SignatureError;
use crate::source::SourceError;

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
    #[error("{0} tags match and none is a version: at most {most} can be told by their dates", most = crate::worker::MOST_BY_DATE)]
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
}

impl Failure {
    /// The code in metrics, logs and `/stats`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Source(error) => error.code(),
            Self::Checkout(CheckoutError::Tree(_) | CheckoutError::NoDirectory(_)) => "BadTree",
            Self::Checkout(CheckoutError::Damaged(_)) => "DamagedObjects",
            Self::Checkout(CheckoutError::Write { .. }) | Self::Disk { .. } => "Disk",
            Self::Checksum(_) => "BadChecksum",
            Self::Signature(_) => "BadSignature",
            Self::NoMatch { .. } | Self::TooManyTags(_) => "NoMatchingTag",
            Self::Moved { .. } => "MovedTag",
            Self::Bad { .. } => "BadVersion",
            Self::App(_) => "AppNotTold",
        }
    }

    /// Whether it is the version's own fault, so that fetching it again would end the same.
    pub const fn is_of_version(&self) -> bool {
        matches!(
            self,
            Self::Checkout(CheckoutError::Tree(_) | CheckoutError::NoDirectory(_))
                | Self::Checksum(_)
                | Self::Signature(_)
                | Self::Source(SourceError::TooLarge { .. })
        )
    }

    /// Whether asking again at once would do harm: somebody or something is in trouble.
    pub const fn backs_off(&self) -> bool {
        matches!(
            self,
            Self::Source(_)
                | Self::Disk { .. }
                | Self::Checkout(CheckoutError::Damaged(_) | CheckoutError::Write { .. })
        )
    }
}
