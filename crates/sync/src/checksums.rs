//! `SHA256SUMS`, as `sha256sum` writes it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use outrigger_api::sync_path;
use sha2::{Digest, Sha256};

/// Name of the file, at the top of a version.
pub const FILE: &str = "SHA256SUMS";

/// Why a version is not what its checksums say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// No such file, and the profile asks for it.
    #[error("the version has no {FILE}: requireChecksums")]
    Missing,
    /// A line that is none.
    #[error("{FILE} line {0}: it takes 64 hexadecimal digits, two blanks and a path")]
    Line(usize),
    /// A file that is not what it should be.
    #[error("{path} is not what {FILE} says: {why}")]
    Differs {
        /// The file.
        path: String,
        /// How.
        why: String,
    },
}

/// Compares each file that is listed in the version at `root`.
pub fn verify(root: &Path, required: bool) -> Result<(), ChecksumError> {
    let text = match std::fs::read(root.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ChecksumError::Missing),
        Err(error) => return Err(ChecksumError::Differs { path: FILE.to_owned(), why: error.to_string() }),
    };
    let text = String::from_utf8_lossy(&text);
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (sum, path) = parse(line).ok_or(ChecksumError::Line(at + 1))?;
        let differs = |why: &str| ChecksumError::Differs { path: path.to_owned(), why: why.to_owned() };
        let found = hash(&root.join(path)).map_err(|error| differs(&error.to_string()))?;
        if !found.eq_ignore_ascii_case(sum) {
            return Err(differs(&format!("it has {found}")));
        }
    }
    Ok(())
}

/// The sum and the path of a line; none for a path that could lead out of the version.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (sum, rest) = line.split_at_checked(64)?;
    let path = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let path = path.strip_prefix("./").unwrap_or(path);
    let is_hex = sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_inside = sync_path::check(path).is_ok();
    (is_hex && is_inside).then_some((sum, path))
}

fn hash(path: &Path) -> io::Result<String> {
    let (mut hasher, mut file) = (Sha256::new(), File::open(path)?);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let (high, low) = digest.split_at(16);
    let number = |half: &[u8]| half.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    Ok(format!("{:032x}{:032x}", number(high), number(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sha256sum() {
        let sum = "a".repeat(64);
        for (rest, path) in [("  a/b", Some("a/b")), (" *b", Some("b")), ("  ./a b", Some("a b"))] {
            assert_eq!(parse(&format!("{sum}{rest}")).map(|(_, path)| path), path);
        }
        for rest in ["  ../a", "  /etc/passwd", "a", "", "  ", "  a/../../b"] {
            assert_eq!(parse(&format!("{sum}{rest}")), None, "{rest}");
        }
        assert_eq!(parse("zz  a"), None);
        assert_eq!(parse(&format!("{}  a", "z".repeat(64))), None);
    }
}
