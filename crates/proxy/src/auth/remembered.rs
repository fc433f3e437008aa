//! Credentials that were found good lately. Of too many, those that have not been used for longest are forgotten.

use std::collections::HashSet;

/// How many are remembered, at least a half of them by their last use.
const MOST: usize = 256;

/// What stands for credentials: no part of one.
pub(super) type Tag = [u8; 32];

/// Two halves, the older of which goes as a whole: the order of the last uses is then nearly kept, without a list of it.
#[derive(Default)]
pub(super) struct Remembered {
    recent: HashSet<Tag>,
    before: HashSet<Tag>,
}

impl Remembered {
    /// Whether it is remembered; it is used then.
    pub(super) fn has(&mut self, tag: &Tag) -> bool {
        if self.before.remove(tag) {
            self.insert(*tag);
        }
        self.recent.contains(tag)
    }

    pub(super) fn insert(&mut self, tag: Tag) {
        if self.recent.len() >= MOST / 2 {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: u16) -> Tag {
        let mut tag = Tag::default();
        tag[..2].copy_from_slice(&number.to_be_bytes());
        tag
    }

    /// The 257th good credential had all others forgotten, whose next requests waited for a hash again.
    #[test]
    fn who_comes_again_is_remembered_whoever_else_comes() {
        let mut remembered = Remembered::default();
        remembered.insert(tag(0));
        for other in 1..2000 {
            remembered.insert(tag(other));
            assert!(remembered.has(&tag(0)), "after {other} others");
            assert!(remembered.recent.len() + remembered.before.len() <= MOST);
        }
        assert!(!remembered.has(&tag(1)));
    }
}
