//! Which tag is the newest of those that are wanted.

use std::cmp::Ordering;

use gix_glob::wildmatch;
use gix_object::bstr::ByteSlice;
use outrigger_api::sync::{GitSpec, is_range};
use semver::{Prerelease, Version, VersionReq};

/// What of a repository is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Tags that are versions in this range.
    Range(VersionReq),
    /// Tags by the pattern of their names.
    Pattern(String),
    /// The newest commit of this branch.
    Branch(String),
}

/// What was chosen of the tags there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// None is wanted.
    None,
    /// The newest by version.
    Newest(String),
    /// None of them is a version: their dates decide.
    ByDate(Vec<String>),
}

impl Wanted {
    /// What an entry asks for. Its config was checked at admission; what is no range nevertheless is taken for a pattern.
    pub fn new(git: &GitSpec) -> Self {
        if let Some(branch) = &git.branch {
            return Self::Branch(branch.clone());
        }
        let tags = git.tags.clone().unwrap_or_default();
        match VersionReq::parse(&tags) {
            Ok(range) if is_range(&tags) => Self::Range(range),
            _ => Self::Pattern(tags),
        }
    }

    /// What every name begins with that may be wanted, so that the server need not list others.
    pub fn ref_prefix(&self) -> String {
        match self {
            Self::Range(_) => "refs/tags/".to_owned(),
            Self::Pattern(pattern) => format!("refs/tags/{}", literal(pattern)),
            Self::Branch(branch) => format!("refs/heads/{branch}"),
        }
    }

    /// The newest of these tags.
    ///
    /// A release goes before any pre-release: `v*` must not put `v2.0.0-rc.1` in place of `v1.9.0`. A pattern that matches
    /// pre-releases alone, as `v*-rc*`, gets the newest of them.
    pub fn newest<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> Choice {
        let (mut best, mut others): (Option<(Version, &str)>, Vec<&str>) = (None, Vec::new());
        for tag in tags {
            let version = match self {
                Self::Range(range) => match version(tag) {
                    Some(version) if range.matches(&version) => Some(version),
                    _ => continue,
                },
                Self::Pattern(pattern) => {
                    let mode = wildmatch::Mode::empty();
                    if !gix_glob::wildmatch(pattern.as_bytes().as_bstr(), tag.as_bytes().as_bstr(), mode) {
                        continue;
                    }
                    tag.strip_prefix(before_number(pattern)).and_then(version)
                }
                Self::Branch(_) => continue,
            };
            match version {
                None => others.push(tag),
                Some(version) => {
                    if best.as_ref().is_none_or(|best| order(best, &(version.clone(), tag)).is_lt()) {
                        best = Some((version, tag));
                    }
                }
            }
        }
        match (best, others.as_slice()) {
            (Some((_, tag)), _) => Choice::Newest(tag.to_owned()),
            (None, []) => Choice::None,
            (None, [only]) => Choice::Newest((*only).to_owned()),
            (None, _) => Choice::ByDate(others.into_iter().map(str::to_owned).collect()),
        }
    }
}

fn order(left: &(Version, &str), right: &(Version, &str)) -> Ordering {
    let release = |version: &Version| version.pre.is_empty();
    // Tags of one version, `1.0` and `v1.0.0`, are told apart by their names, so that each poll chooses the same one.
    (release(&left.0), &left.0, left.1).cmp(&(release(&right.0), &right.0, right.1))
}

/// The pattern's beginning without wildcards.
fn literal(pattern: &str) -> &str {
    &pattern[..pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len())]
}

/// What stands before the number: `release-` in `release-1.*`.
fn before_number(pattern: &str) -> &str {
    literal(pattern).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

/// A version as people write it: with or without `v`, with one to three numbers, with leading zeros as in `2026.01.09`.
fn version(tag: &str) -> Option<Version> {
    let tag = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
    let tag = tag.split_once('+').map_or(tag, |(version, _)| version);
    let (numbers, pre) = tag.split_once('-').map_or((tag, None), |(numbers, pre)| (numbers, Some(pre)));
    let mut parsed = [0_u64; 3];
    for (at, number) in numbers.split('.').enumerate() {
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        *parsed.get_mut(at)? = digits.then(|| number.parse().ok())??;
    }
    let mut version = Version::new(parsed[0], parsed[1], parsed[2]);
    if let Some(pre) = pre {
        version.pre = Prerelease::new(pre).ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(tags: &str) -> Wanted {
        Wanted::new(&GitSpec { tags: Some(tags.to_owned()), ..GitSpec::default() })
    }

    #[test]
    fn the_newest_by_version_wins() {
        for (pattern, tags, newest) in [
            ("v*", &["v1.9.0", "v1.10.0", "v1.2.0", "x3"][..], "v1.10.0"),
            ("v*", &["v1.9.0", "v2.0.0-rc.1"], "v1.9.0"),
            ("v*-rc*", &["v1.9.0", "v2.0.0-rc.1", "v2.0.0-rc.2"], "v2.0.0-rc.2"),
            ("release-*", &["release-1.9", "release-1.10"], "release-1.10"),
            ("site-v1.*", &["site-v1.9.9", "site-v1.10.0", "site-v2.0.0"], "site-v1.10.0"),
            ("v1*", &["v1.2", "v10.1"], "v10.1"),
            ("*", &["2026.01.09", "2025.12.31", "v2.0"], "2026.01.09"),
            ("*", &["1.0", "v1.0.0"], "v1.0.0"),
            ("^1.2", &["v1.2.0", "v1.30.1", "v2.0.0", "v1.31.0-rc.1"], "v1.30.1"),
            (">=1, <3", &["v3.0.0", "v2.9.9", "latest"], "v2.9.9"),
            ("=1.2.3", &["v1.2.3", "v1.2.4"], "v1.2.3"),
            ("stable", &["stable", "v1"], "stable"),
            ("v?", &["v1", "v10", "v2"], "v2"),
        ] {
            let choice = wanted(pattern).newest(tags.iter().copied());
            assert_eq!(choice, Choice::Newest(newest.to_owned()), "{pattern}");
        }
        assert_eq!(wanted("v*").newest(["x1"]), Choice::None);
        let by_date = Choice::ByDate(vec!["night-a".to_owned(), "night-b".to_owned()]);
        assert_eq!(wanted("night-*").newest(["night-a", "night-b", "v1"]), by_date);
    }

    #[test]
    fn the_server_is_asked_for_no_more_than_may_match() {
        for (pattern, prefix) in [("v1.*", "refs/tags/v1."), ("^1", "refs/tags/"), ("a[bc]", "refs/tags/a")] {
            assert_eq!(wanted(pattern).ref_prefix(), prefix);
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_wanted_and_the_order_of_tags_does_not_matter(
            pattern in "[v^~*?\\[\\]\\\\0-9.a-]{0,12}",
            mut tags in prop::collection::vec("v?[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(-[a-z0-9]{1,3})?|[^\\x00]{0,12}", 0..12),
        ) {
            let wanted = wanted(&pattern);
            let forward = wanted.newest(tags.iter().map(String::as_str));
            if let Choice::Newest(tag) = &forward {
                let name = format!("refs/tags/{tag}");
                prop_assert!(name.starts_with(&wanted.ref_prefix()));
                prop_assert_ne!(wanted.newest([tag.as_str()]), Choice::None);
            }
            tags.reverse();
            let backward = wanted.newest(tags.iter().map(String::as_str));
            match (forward, backward) {
                (Choice::ByDate(forward), Choice::ByDate(mut backward)) => {
                    backward.reverse();
                    prop_assert_eq!(forward, backward);
                }
                (forward, backward) => prop_assert_eq!(forward, backward),
            }
        }
    }
}
