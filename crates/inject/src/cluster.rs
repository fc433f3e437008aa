//! What injection knows of the cluster: versions, because features came with them.

use std::fmt;
use std::str::FromStr;

/// The versions of a cluster. What is unknown is taken for modern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The API server's, and so the controllers'.
    pub server: Option<Version>,
    /// The oldest kubelet's.
    pub oldest_node: Option<Version>,
    /// The oldest Linux of the nodes.
    pub oldest_kernel: Option<Version>,
}

/// A version of Kubernetes, or of Linux, as far as features depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// `1`.
    pub major: u16,
    /// `34` of `1.34`.
    pub minor: u16,
}

/// Why a text is no version.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no Kubernetes version: it takes a major and a minor number, as 1.34 or v1.34.1")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    /// Reads `1.34`, `v1.34.1`, `v1.34.1-gke.100` and `1.34+`: clouds write their own suffixes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (major, rest) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
            let minor = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parsed().ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_clouds_write_them() {
        for text in ["1.34", "v1.34", "v1.34.1", "1.34+", "v1.34.1-gke.100", "v1.34.0-alpha.1+abc", "1.34.0"]
        {
            assert_eq!(text.parse::<Version>().unwrap(), Version { major: 1, minor: 34 }, "{text}");
        }
        for text in ["", "1", "1.", "v.1", "one.two", "1.+"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!("1.9".parse::<Version>().unwrap() < "1.34".parse().unwrap());
    }
}
