//! The annotation `sync`: `app:/srv/www=https://git.example.com/site.git#v*`.

use outrigger_api::sync::{MAX_SYNCS, SyncSpec};

/// The entries listed, one a line or with blanks between, for ranges of versions have commas. Each keeps what the profile says about
/// its container and path.
pub(crate) fn parse(value: &str, profile: &[SyncSpec]) -> Result<Vec<SyncSpec>, String> {
    let items: Vec<_> = value.split_ascii_whitespace().collect();
    if items.len() > MAX_SYNCS {
        return Err(format!("more than {MAX_SYNCS} entries"));
    }
    let wanted = "it takes app:/srv/www=https://git.example.com/site.git#v*";
    let entry = |item: &str| {
        let (place, source) =
            item.split_once('=').ok_or_else(|| format!("{item:?} names no repository: {wanted}"))?;
        let (container, path) =
            place.split_once(':').ok_or_else(|| format!("{place:?} is no container and path: {wanted}"))?;
        let (url, tags) =
            source.rsplit_once('#').ok_or_else(|| format!("{source:?} names no tags: {wanted}"))?;
        let same = |spec: &&SyncSpec| {
            spec.container == container && spec.path.trim_end_matches('/') == path.trim_end_matches('/')
        };
        let mut spec = profile.iter().find(same).cloned().unwrap_or_default();
        if spec.git.url != url {
            // Credentials are for the server that they were given for.
            spec.git.secret_name = None;
        }
        (spec.container, spec.path) = (container.to_owned(), path.to_owned());
        (spec.git.url, spec.git.tags, spec.git.branch) = (url.to_owned(), Some(tags.to_owned()), None);
        Ok(spec)
    };
    items.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use outrigger_api::sync::GitSpec;

    use super::*;

    #[test]
    fn an_entry_keeps_what_the_profile_says_of_its_place_but_no_secret_for_another_server() {
        let profile = SyncSpec {
            container: "app".to_owned(),
            path: "/srv/www/".to_owned(),
            git: GitSpec {
                url: "https://a/b".to_owned(),
                directory: Some("public".to_owned()),
                secret_name: Some("s".to_owned()),
                ..GitSpec::default()
            },
            ..SyncSpec::default()
        };
        let parsed = |value: &str| parse(value, std::slice::from_ref(&profile));
        let same = parsed("app:/srv/www=https://a/b#^1").unwrap().remove(0).git;
        assert_eq!((same.tags.as_deref(), same.secret_name.as_deref()), (Some("^1"), Some("s")));
        let other = parsed("app:/srv/www=https://c/b#v*\n web:/x=git@h:p#>=1,<3").unwrap();
        assert_eq!((other[0].git.directory.as_deref(), &other[0].git.secret_name), (Some("public"), &None));
        assert_eq!(other[1].git.url, "git@h:p");
        for wrong in ["app", "app=https://a/b#v1", "app:/a=https://a/b"] {
            assert!(parsed(wrong).unwrap_err().contains("it takes app:/srv/www="), "{wrong}");
        }
        assert!(parsed(&"a:/b=c#d ".repeat(9)).unwrap_err().contains("more than 8"));
    }
}
