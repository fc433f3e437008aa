//! Which versions there are: the one that is served, those before, and those that turned out bad. What is decided here touches no
//! file and no clock.

use std::collections::BTreeMap;
use std::fmt::Write;

use outrigger_api::sync::SyncSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::Failure;
use crate::round::MOST_BY_DATE;

/// Versions that stay on disk, the one that is served among them.
pub const KEPT: usize = 3;
/// Bad versions that are remembered: all tags that are told by their dates may be, and each is fetched once.
const REMEMBERED: usize = MOST_BY_DATE;

/// A version that the repository offers, and the rules by which it is good. The same commit by other rules is another offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Offer {
    /// The tag, or the branch.
    pub name: String,
    /// The commit, in hexadecimal.
    pub commit: String,
    /// The repository. Empty in what was written before this was kept.
    pub url: String,
    /// What stands for all of the spec that decides which files it has and whether they are good: see [`Offer::new`].
    pub rules: String,
}

impl Offer {
    /// A tag or branch that means this commit, for an entry that goes by `spec`.
    pub fn new(name: String, commit: String, spec: &SyncSpec) -> Self {
        let SyncSpec { git, limits, require_checksums, .. } = spec;
        let limits = (limits.size.bytes(), limits.file.bytes(), limits.files);
        let rules = (&git.directory, &git.signed_by, require_checksums, limits);
        Self { name, commit, url: git.url.clone(), rules: fingerprint(&format!("{rules:?}")) }
    }
}

/// A short name for a text, of 64 bits: who writes profiles has no one to deceive with two that are alike.
pub fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().take(8).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A version that is or was served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// As the repository names it.
    #[serde(flatten)]
    pub offer: Offer,
    /// Name of its directory among the versions.
    pub directory: String,
    /// When it was put in place, in seconds since the Unix epoch.
    pub since: i64,
}

/// A version that is not taken again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bad {
    /// As the repository names it.
    #[serde(flatten)]
    pub offer: Offer,
    /// What was wrong with it.
    pub reason: String,
    /// When that was found, in seconds since the Unix epoch.
    pub at: i64,
}

impl From<Bad> for Failure {
    fn from(bad: Bad) -> Self {
        Self::Bad { version: bad.offer.name, reason: bad.reason }
    }
}

/// What is known of one entry, as it is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// What is served.
    pub current: Option<Version>,
    /// What is about to be: written before the switch, so that whoever is killed in its middle knows afterwards.
    pub next: Option<Version>,
    /// What was served before, the newest first.
    pub before: Vec<Version>,
    /// Whether the app has yet to show that it can live with the current version.
    pub on_trial: bool,
    /// Whether the app has yet to learn of the current version. It may learn of one twice, where that was cut off.
    pub untold: bool,
    /// What is not taken again, the newest first.
    pub bad: Vec<Bad>,
    /// When tags were made that are no versions, by their objects in hexadecimal, in seconds since the Unix epoch.
    pub dates: BTreeMap<String, i64>,
}

/// What is done about an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is served already.
    Keep,
    /// It is to be fetched.
    Fetch,
    /// It was served before and is still on disk.
    Return(Version),
    /// It turned out bad, for this reason.
    Bad(String),
    /// It is a known tag that means another commit now.
    Moved {
        /// What it meant.
        from: String,
    },
}

impl State {
    /// What is done about an offer. A branch is meant to move, a tag is not, unless that is allowed.
    pub fn decide(&self, offer: &Offer, may_move: bool) -> Decision {
        if self.current.as_ref().is_some_and(|current| current.offer == *offer) {
            return Decision::Keep;
        }
        if let Some(bad) = self.bad.iter().find(|bad| bad.offer == *offer) {
            return Decision::Bad(bad.reason.clone());
        }
        let known = self.current.iter().chain(&self.before).map(|version| &version.offer);
        let mut known = known.chain(self.bad.iter().map(|bad| &bad.offer));
        // Another repository's tag of that name is another tag.
        let is_moved = |known: &&Offer| {
            let is_same_tag = known.name == offer.name && (known.url.is_empty() || known.url == offer.url);
            is_same_tag && known.commit != offer.commit
        };
        if let Some(moved) = known.find(is_moved)
            && !may_move
        {
            return Decision::Moved { from: moved.commit.clone() };
        }
        let before = self.before.iter().find(|version| version.offer == *offer);
        before.cloned().map_or(Decision::Fetch, Decision::Return)
    }

    /// Notes that what is served is good by other rules too.
    pub fn confirm(&mut self, offer: Offer) {
        if let Some(current) = &mut self.current {
            current.offer = offer;
        }
    }

    /// Notes what is about to be put in place.
    pub fn prepare(&mut self, version: Version) {
        self.next = Some(version);
    }

    /// Settles what a switch has come to: `linked` is the directory that the link leads to. Where it is the next one, the other two
    /// hold from then on. What turned out bad is left for good, and what it is left for has been tried already.
    pub fn settle(&mut self, linked: Option<&str>, on_trial: bool, untold: bool) {
        let Some(next) = self.next.take().filter(|next| linked == Some(next.directory.as_str())) else {
            return;
        };
        let was_served = self.before.iter().any(|version| version.directory == next.directory);
        self.before.retain(|version| version.directory != next.directory);
        let left = self.current.replace(next);
        let is_bad = |left: &Version| self.bad.iter().any(|bad| bad.offer == left.offer);
        let left_bad = left.as_ref().is_some_and(is_bad);
        self.before.splice(..0, left.filter(|_| !left_bad));
        self.before.truncate(KEPT - 1);
        (self.on_trial, self.untold) = (on_trial && !(left_bad && was_served), untold);
    }

    /// Notes that an offer is bad, before or after it was put in place.
    pub fn refuse(&mut self, bad: Bad) {
        self.bad.retain(|known| known.offer != bad.offer);
        self.before.retain(|version| version.offer != bad.offer);
        self.bad.insert(0, bad);
        self.bad.truncate(REMEMBERED);
    }

    /// Takes what was bad as if it were new. The one that is served is not put anew by that.
    pub fn forgive(&mut self) {
        self.bad.clear();
    }

    /// Notes that the app can live with the current version, whatever an earlier trial came to.
    pub fn pass(&mut self) {
        self.on_trial = false;
        self.bad.retain(|bad| self.current.as_ref().is_none_or(|current| current.offer != bad.offer));
    }

    /// Notes that the current version is bad, and says what to go back to. Without a version before it stays: something is
    /// better than nothing. The trial ends with the switch, so that one that is cut off is tried again.
    pub fn go_back(&mut self, reason: String, at: i64) -> Option<Version> {
        let (Some(current), Some(before)) = (self.current.clone(), self.before.first().cloned()) else {
            self.on_trial = false;
            return None;
        };
        self.next = Some(Version { since: at, ..before.clone() });
        self.refuse(Bad { offer: current.offer, reason, at });
        Some(before)
    }

    /// The directories that must stay.
    pub fn directories(&self) -> impl Iterator<Item = &str> {
        let versions = self.current.iter().chain(&self.next).chain(&self.before);
        versions.map(|version| version.directory.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(name: &str, commit: &str) -> Offer {
        Offer { name: name.to_owned(), commit: commit.to_owned(), ..Offer::default() }
    }

    fn version(offer: &Offer, since: i64) -> Version {
        Version { directory: format!("{}-{}", offer.name, offer.commit), offer: offer.clone(), since }
    }

    fn put(state: &mut State, offer: &Offer, since: i64) {
        let version = version(offer, since);
        let directory = version.directory.clone();
        state.prepare(version);
        state.settle(Some(&directory), true, true);
    }

    #[test]
    fn a_bad_version_is_left_alone_until_another_comes() {
        let mut state = State::default();
        let (one, two, three) = (offer("v1", "a"), offer("v2", "b"), offer("v3", "c"));
        put(&mut state, &one, 1);
        put(&mut state, &two, 2);
        let back = state.go_back("the app did not become ready".to_owned(), 3).unwrap();
        assert_eq!(back.offer, one);
        state.settle(Some("v1-a"), true, true);
        assert_eq!(state.current.as_ref().unwrap().offer, one);
        assert!(state.before.is_empty() && !state.on_trial);
        assert!(matches!(state.decide(&two, false), Decision::Bad(_)));
        assert_eq!(state.decide(&three, false), Decision::Fetch);
        assert!(matches!(state.decide(&offer("v2", "other"), false), Decision::Moved { .. }));
        assert_eq!(state.decide(&offer("v2", "other"), true), Decision::Fetch);
    }

    #[test]
    fn what_was_made_by_other_rules_is_made_again_and_never_returned() {
        let mut unsigned = SyncSpec::default();
        unsigned.git.url = "https://a/b".to_owned();
        let mut signed = unsigned.clone();
        signed.git.signed_by = vec!["ssh-ed25519 AAAA".to_owned()];
        let offer = |name: &str, spec| Offer::new(name.to_owned(), "a".to_owned(), spec);
        let mut state = State::default();
        put(&mut state, &offer("v1", &unsigned), 1);
        put(&mut state, &offer("v2", &unsigned), 2);
        assert!(matches!(state.decide(&offer("v1", &unsigned), false), Decision::Return(_)));
        assert_eq!(state.decide(&offer("v1", &signed), false), Decision::Fetch);
        assert_eq!(state.decide(&offer("v2", &signed), false), Decision::Fetch);
        state.refuse(Bad { offer: offer("v2", &signed), reason: "not signed".to_owned(), at: 3 });
        assert!(matches!(state.decide(&offer("v2", &signed), false), Decision::Bad(_)));
        assert_eq!(state.decide(&offer("v2", &unsigned), false), Decision::Keep);
    }

    #[test]
    fn a_tag_of_another_repository_is_not_one_that_moved() {
        let mut state = State::default();
        let tag = |commit: &str, url: &str| Offer { url: url.to_owned(), ..offer("v1", commit) };
        put(&mut state, &tag("a", "https://one/a"), 1);
        assert_eq!(state.decide(&tag("b", "https://two/a"), false), Decision::Fetch);
        assert!(matches!(state.decide(&tag("b", "https://one/a"), false), Decision::Moved { .. }));
    }

    #[test]
    fn a_state_from_before_rules_were_kept_is_read_and_its_tags_still_do_not_move() {
        let old = r#"{"current":{"name":"v1","commit":"a","directory":"a-v1","since":1}}"#;
        let state: State = serde_json::from_str(old).unwrap();
        let offer = |commit: &str| Offer::new("v1".to_owned(), commit.to_owned(), &SyncSpec::default());
        assert_eq!(state.decide(&offer("a"), false), Decision::Fetch);
        assert!(matches!(state.decide(&offer("b"), false), Decision::Moved { .. }));
    }

    #[test]
    fn the_first_version_stays_however_the_app_does() {
        let mut state = State::default();
        put(&mut state, &offer("v1", "a"), 1);
        assert_eq!(state.go_back("not ready".to_owned(), 2), None);
        assert!(state.bad.is_empty() && state.current.is_some());
    }

    #[test]
    fn a_switch_that_was_cut_off_counts_as_far_as_it_came() {
        let mut state = State::default();
        put(&mut state, &offer("v1", "a"), 1);
        state.prepare(version(&offer("v2", "b"), 2));
        state.untold = false;
        let mut before_rename = state.clone();
        before_rename.settle(Some("v1-a"), true, true);
        assert_eq!((before_rename.current.unwrap().offer.name.as_str(), before_rename.untold), ("v1", false));
        state.settle(Some("v2-b"), true, true);
        assert!(state.untold);
        assert_eq!(state.current.unwrap().offer.name, "v2");
        assert_eq!(state.before[0].offer.name, "v1");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offered { name: u8, commit: u8, may_move: bool },
        FoundBroken,
        NotReady,
        KilledOnTheWayBack,
        KilledBeforeTheRename,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let offered = (0..5_u8, 0..2_u8, any::<bool>()).prop_map(|(name, commit, may_move)| Step::Offered {
            name,
            commit,
            may_move,
        });
        let step = prop_oneof![
            4 => offered,
            1 => Just(Step::FoundBroken),
            2 => Just(Step::NotReady),
            1 => Just(Step::KilledOnTheWayBack),
            1 => Just(Step::KilledBeforeTheRename),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn whatever_comes_there_is_content_and_a_bound(steps in steps()) {
            let (mut state, mut last) = (State::default(), offer("v0", "0"));
            let mut linked: Option<String> = None;
            for (at, step) in steps.into_iter().enumerate() {
                let at = i64::try_from(at).unwrap();
                let had = state.current.is_some();
                match step {
                    Step::Offered { name, commit, may_move } => {
                        last = offer(&format!("v{name}"), &commit.to_string());
                        let known_bad = state.bad.iter().any(|bad| bad.offer == last);
                        match state.decide(&last, may_move) {
                            Decision::Fetch | Decision::Return(_) => {
                                prop_assert!(!known_bad);
                                put(&mut state, &last, at);
                                linked = Some(format!("{}-{}", last.name, last.commit));
                            }
                            Decision::Keep => prop_assert_eq!(&state.current.as_ref().unwrap().offer, &last),
                            Decision::Bad(_) => prop_assert!(known_bad),
                            Decision::Moved { from } => prop_assert!(!may_move && from != last.commit),
                        }
                    }
                    Step::FoundBroken if state.current.as_ref().is_none_or(|c| c.offer != last) => {
                        state.refuse(Bad { offer: last.clone(), reason: "broken".to_owned(), at });
                    }
                    Step::FoundBroken => {}
                    Step::NotReady => {
                        if let Some(back) = state.go_back("not ready".to_owned(), at) {
                            linked = Some(back.directory);
                            state.settle(linked.as_deref(), false, true);
                            prop_assert_eq!(&state.current.as_ref().unwrap().offer, &back.offer);
                        }
                    }
                    Step::KilledOnTheWayBack => {
                        let was_on_trial = state.on_trial;
                        if state.go_back("not ready".to_owned(), at).is_some() {
                            state.settle(linked.as_deref(), was_on_trial, true);
                            prop_assert_eq!(state.on_trial, was_on_trial, "it is tried again");
                        }
                    }
                    Step::KilledBeforeTheRename => {
                        state.prepare(version(&offer("v9", "9"), at));
                        state.settle(linked.as_deref(), true, true);
                    }
                }
                prop_assert!(!had || state.current.is_some(), "content is never lost");
                prop_assert_eq!(state.current.as_ref().map(|c| c.directory.clone()), linked.clone());
                prop_assert!(state.directories().count() <= KEPT && state.next.is_none());
                prop_assert!(state.bad.len() <= REMEMBERED);
                let is_bad = |version: &Version| state.bad.iter().any(|bad| bad.offer == version.offer);
                prop_assert!(!state.before.iter().any(is_bad));
            }
        }
    }
}
