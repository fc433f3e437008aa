//! What a pod's content sync tells of the files that it keeps: the same rules as for a proxy's `/stats`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::stats::shorten;

/// Entries kept of a pod: a profile may have as many.
const MOST_ENTRIES: usize = 8;
/// Bad versions kept of an entry, the newest.
const MOST_BAD: usize = 3;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    sync: Vec<Synced>,
}

/// Files of one container that come from a repository.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Synced {
    /// The container.
    pub(crate) container: String,
    /// Where it finds them.
    pub(crate) path: String,
    /// Whether it has any, be it those that it falls back to.
    pub(crate) has_content: bool,
    /// The tag or branch that is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// Whether the app has yet to show that it can live with it.
    pub(crate) on_trial: bool,
    /// Why there is nothing newer, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Trouble>,
    /// Versions that are not taken again, the newest first.
    pub(crate) bad: Vec<BadVersion>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Trouble {
    /// Its code.
    pub(crate) reason: String,
    /// In words.
    pub(crate) message: String,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// A version that is not taken again.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct BadVersion {
    /// The tag or branch.
    pub(crate) version: String,
    /// What was wrong with it.
    pub(crate) reason: String,
}

/// Reads the `/stats` of a content sync.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Synced>, serde_json::Error> {
    let mut entries = serde_json::from_slice::<Document>(text)?.sync;
    entries.truncate(MOST_ENTRIES);
    for entry in &mut entries {
        entry.bad.truncate(MOST_BAD);
        let bad = entry.bad.iter_mut().flat_map(|bad| [&mut bad.version, &mut bad.reason]);
        let failure =
            entry.failure.iter_mut().flat_map(|failure| [&mut failure.reason, &mut failure.message]);
        let names = [&mut entry.container, &mut entry.path].into_iter();
        let version = entry.version.iter_mut().chain(&mut entry.commit);
        names.chain(version).chain(failure).chain(bad).for_each(shorten);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_syncs_document_is_read_and_no_more_is_kept_of_it_than_of_ours() {
        let long = "é".repeat(4000);
        let bad = json!({"version": long, "commit": long, "reason": long, "since": null});
        let failure = json!({"reason": "BadVersion", "message": long, "since": "2026-01-01T00:00:00Z"});
        let entry = json!({"container": "app", "path": "/srv/www", "hasContent": true, "version": "v1", "commit": long,
            "since": "2026-01-01T00:00:00Z", "onTrial": false, "failure": failure, "bad": vec![bad; 16], "polls": 9});
        let entries = parse(json!({"version": 1, "sync": vec![entry; 100]}).to_string().as_bytes()).unwrap();
        assert_eq!((entries.len(), entries[0].bad.len()), (MOST_ENTRIES, MOST_BAD));
        assert_eq!((entries[0].version.as_deref(), entries[0].has_content), (Some("v1"), true));
        assert!(serde_json::to_string(&entries).unwrap().len() < MOST_ENTRIES * 3000);
        assert!(parse(b"{}").unwrap().is_empty() && parse(b"{\"sync\":1}").is_err());
    }
}
