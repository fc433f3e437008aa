//! Which file is which, whatever it is called.
//!
//! Device and inode alone are used again as soon as a file is deleted, and the first line alone is the same in many files. So
//! a file is known by both, by when it was made, and by the bytes just before the place that it was read to.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The most that a fingerprint covers.
pub(crate) const PRINT_BYTES: usize = 1024;

/// Where a file lies on its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inode {
    /// Device.
    pub dev: u64,
    /// Number on it.
    pub ino: u64,
    /// When it was made, in nanoseconds since the epoch; none where the file system does not say.
    #[serde(default)]
    pub born: Option<i64>,
}

impl Inode {
    /// Of the file that this is about.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|born| i64::try_from(born.as_nanos()).ok());
        Self { dev: metadata.dev(), ino: metadata.ino(), born }
    }
}

/// One life of a file, from its first byte to where it is deleted or cut. It stands beside each line's offset, so that a line that comes
/// twice is told from one that only looks the same: inodes are used again, and a file that was cut keeps its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// One that begins now.
    pub fn begun(inode: Inode) -> Self {
        Self(fnv(fnv(EMPTY, &inode.ino.to_le_bytes()), &nanos_now().to_le_bytes()))
    }
}

/// A stretch of a file and the hash of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// Where it begins.
    pub start: u64,
    /// How long it is; 0 for nothing known yet, which every file matches.
    pub length: usize,
    /// FNV-1a of it.
    pub hash: u64,
}

impl Print {
    /// The print of bytes that stand at `start`.
    pub fn of(start: u64, bytes: &[u8]) -> Self {
        Self { start, length: bytes.len(), hash: fnv(EMPTY, bytes) }
    }

    /// The print of the last bytes of `read`, which ends at `end`.
    pub fn before(end: u64, read: &[u8]) -> Self {
        let bytes = &read[read.len().saturating_sub(PRINT_BYTES)..];
        Self::of(end - bytes.len() as u64, bytes)
    }

    /// Whether the file still has these bytes there.
    pub fn matches(&self, file: &File) -> io::Result<bool> {
        // The default has no hash; without this every new file would count as truncated, for ever.
        if self.length == 0 {
            return Ok(true);
        }
        let mut bytes = [0; PRINT_BYTES];
        let bytes = &mut bytes[..self.length.min(PRINT_BYTES)];
        let read = read_full(file, bytes, self.start)?;
        Ok(read == self.length && fnv(EMPTY, bytes) == self.hash)
    }

    /// The print of a file's first bytes, as far as they are written: before zeros, which may still become something else.
    pub fn begin(file: &File) -> io::Result<Self> {
        let mut bytes = [0; PRINT_BYTES];
        let read = read_full(file, &mut bytes, 0)?;
        let written = bytes[..read].iter().take_while(|byte| **byte != 0).count();
        Ok(Self::default().extended(0, &bytes[..written]))
    }

    /// The print that goes on over those of `bytes` that follow it, up to [`PRINT_BYTES`]. They stand at `at`.
    pub fn extended(self, at: u64, bytes: &[u8]) -> Self {
        let known =
            (self.start + self.length as u64).checked_sub(at).and_then(|known| usize::try_from(known).ok());
        let new = known.and_then(|known| bytes.get(known..)).unwrap_or_default();
        let new = &new[..new.len().min(PRINT_BYTES - self.length)];
        let before = if self.length == 0 { EMPTY } else { self.hash };
        Self { length: self.length + new.len(), hash: fnv(before, new), ..self }
    }
}

/// Whether `file`, which is not empty, is how `whole` begins, judged by its first and its last bytes.
pub(crate) fn is_beginning(file: &File, whole: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let alike = |start: u64| -> io::Result<bool> {
        let (mut left, mut right) = ([0; PRINT_BYTES], [0; PRINT_BYTES]);
        let length = read_full(file, &mut left, start)?;
        Ok(read_full(whole, &mut right[..length], start)? == length && left[..length] == right[..length])
    };
    Ok(size > 0 && alike(0)? && alike(size.saturating_sub(PRINT_BYTES as u64))?)
}

pub(crate) fn nanos_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn read_full(file: &File, bytes: &mut [u8], start: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], start + read as u64)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(read)
}

/// What FNV-1a begins with.
const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, from the hash of what comes before. It stands in files that outlive a process, and std's hasher may change with the compiler.
/// <https://www.rfc-editor.org/rfc/rfc9923>
fn fnv(before: u64, bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(before, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(fnv(EMPTY, b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn print_that_grows_is_that_of_the_whole() {
        let bytes = [b'x'; 3000];
        for step in [1, 7, 1024, 3000] {
            let grown = (0..).step_by(step).zip(bytes.chunks(step));
            let grown = grown.fold(Print::default(), |print, (at, bytes)| print.extended(at, bytes));
            assert_eq!(grown, Print::of(0, &bytes[..PRINT_BYTES]), "{step}");
        }
    }

    #[test]
    fn print_goes_on_where_it_ends_and_nowhere_else() {
        let print = Print::of(0, b"abc");
        assert_eq!(print.extended(0, b"abcd"), Print::of(0, b"abcd"));
        assert_eq!(print.extended(2, b"cd"), Print::of(0, b"abcd"));
        assert_eq!(print.extended(4, b"e"), print);
        assert_eq!(print.extended(0, b"ab"), print);
    }
}
