//! Saying what is wrong with a file, and not saying it again at every look.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long nothing is said twice.
const SILENCE: Duration = Duration::from_mins(5);
/// How much is said at most in that time, whatever it is about: an app may make new files faster than anybody reads.
const MOST: usize = 100;

/// What was said lately.
#[derive(Debug)]
pub(crate) struct Complaints {
    said: HashSet<(PathBuf, &'static str)>,
    since: Instant,
}

impl Complaints {
    pub(crate) fn new() -> Self {
        Self { said: HashSet::new(), since: Instant::now() }
    }

    /// Whether this is to be said of that file now.
    pub(crate) fn is_news(&mut self, path: &Path, what: &'static str) -> bool {
        if self.since.elapsed() >= SILENCE {
            *self = Self::new();
        }
        self.said.len() < MOST && self.said.insert((path.to_owned(), what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice_and_not_everything_once() {
        let mut complaints = Complaints::new();
        assert!(complaints.is_news(Path::new("a"), "lost"));
        assert!(!complaints.is_news(Path::new("a"), "lost"));
        assert!(complaints.is_news(Path::new("a"), "closed to us"));
        let said = (0..1000).filter(|number| complaints.is_news(Path::new(&number.to_string()), "lost"));
        assert_eq!(said.count(), MOST - 2);
        complaints.since = Instant::now().checked_sub(SILENCE).unwrap();
        assert!(complaints.is_news(Path::new("a"), "lost"));
    }
}
