//! An entry follows a repository, from the repository to the files that the app sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use outrigger_api::sync::{
    FallbackFile, GitSpec, HttpCall, OnChange, ReadyCheck, SyncLimits, SyncSource, SyncSpec,
};
use outrigger_sync::place::{Place, directory_of};
use outrigger_sync::source::{Secret, Session};
use outrigger_sync::state::{Offer, Version};
use support::http::Server;
use support::{Directory, Followed, Repository, source, spec};

#[test]
fn a_new_tag_is_served_and_an_untagged_commit_is_not() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one"), ("old.html", "old"), ("a/b/c.txt", "deep")]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    assert!(!followed.entry().has_content);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    assert_eq!(followed.read("a/b/c.txt").as_deref(), Some("deep"));
    repository.write("index.html", "untagged");
    repository.commit();
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    repository.tag("v2", &[("index.html", "two"), ("new.html", "new")]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("two"));
    assert_eq!((followed.read("new.html").as_deref(), followed.read("old.html")), (Some("new"), None));
    let names: Vec<_> =
        fs::read_dir(&followed.tree).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name == "old.html" || name == "a"), "{names:?}");
    assert_eq!(followed.version().as_deref(), Some("v2"));
}

#[test]
fn packed_repositories_annotated_tags_and_sha256_are_the_same() {
    for format in ["sha1", "sha256"] {
        let directory = Directory::new();
        let mut repository = Repository::new(&directory.0, format);
        repository.tag("v1", &[("index.html", "one")]);
        repository.tag("v2", &[("index.html", "two"), ("run.sh", "#!/bin/sh")]);
        fs::set_permissions(repository.path.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("index.html", repository.path.join("link.html")).unwrap();
        repository.commit();
        repository.git(&["tag", "--annotate", "--message=x", "v3"]);
        repository.git(&["gc", "--quiet"]);
        let server = Server::start(&directory.0, None);
        for url in [repository.url(), format!("{}/repository/.git", server.url)] {
            let place = Directory::new();
            let mut followed = Followed::new(&place.0, spec(&url, "v*"));
            followed.round().unwrap_or_else(|failure| panic!("{format} {url}: {failure}"));
            assert_eq!(followed.version().as_deref(), Some("v3"), "{format} {url}");
            assert_eq!(followed.read("link.html").as_deref(), Some("two"));
            let mode = fs::metadata(followed.tree.join("run.sh")).unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111);
        }
    }
}

#[test]
fn an_unchanged_repository_is_asked_two_questions() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let server = Server::start(&directory.0, None);
    let mut followed = Followed::new(&directory.0, spec(&format!("{}/repository/.git", server.url), "^1"));
    followed.round().unwrap();
    server.requests();
    followed.round().unwrap();
    assert_eq!(server.requests(), 2);
}

#[test]
fn credentials_come_from_the_secret_and_wrong_ones_change_nothing() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    // a:b
    let server = Server::start(&directory.0, Some("Basic YTpi"));
    let url = format!("{}/repository/.git", server.url);
    let secret = directory.0.join("secret");
    fs::create_dir(&secret).unwrap();
    let open = || Session::open(&url, &Secret::at("site", &secret)).map(|_| ()).map_err(|error| error.code());
    assert_eq!(open(), Err("Denied"));
    fs::write(secret.join("username"), "a\n").unwrap();
    fs::write(secret.join("password"), "b\n").unwrap();
    assert_eq!(open(), Ok(()));
    fs::write(secret.join("password"), "wrong").unwrap();
    assert_eq!(open(), Err("Denied"));
}

#[test]
fn a_repository_that_is_away_leaves_the_old_version() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    followed.round().unwrap();
    let away = directory.0.join("away");
    fs::rename(&repository.path, &away).unwrap();
    assert_eq!(followed.fails().0, "Unreachable");
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    fs::rename(away, &repository.path).unwrap();
    repository.tag("v2", &[("index.html", "two")]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("two"));
    let nobody = spec("http://127.0.0.1:1/a", "v*");
    let place = Directory::new();
    assert_eq!(Followed::new(&place.0, nobody).fails().0, "Unreachable");
}

#[test]
fn damaged_objects_leave_the_old_version() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    followed.round().unwrap();
    repository.tag("v2", &[("index.html", "two")]);
    let blob = repository.git(&["rev-parse", "v2:index.html"]);
    let object = repository.path.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    let whole = fs::read(&object).unwrap();
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, b"damaged").unwrap();
    assert_eq!(followed.fails().0, "DamagedObjects");
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    fs::write(&object, whole).unwrap();
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("two"));
}

/// Tag, files, code and a part of the message.
type Broken<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn a_version_that_is_broken_by_itself_is_refused_once() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let zeros = format!("{}  index.html\n", "0".repeat(64));
    repository.tag("v1", &[("index.html", "one")]);
    let small = SyncSpec {
        limits: SyncLimits { size: outrigger_api::quantity::Quantity::parse("1k").unwrap(), files: 5 },
        ..spec(&repository.url(), "v*")
    };
    let mut followed = Followed::new(&directory.0, small);
    followed.round().unwrap();
    let large = "x".repeat(2000);
    let broken: [Broken; 5] = [
        ("v2", &[("movie.mp4", lfs)], "BadTree", "Git LFS"),
        ("v3", &[("index.html", "three"), ("SHA256SUMS", &zeros)], "BadChecksum", "index.html"),
        ("v4", &[("large", &large)], "BadTree", "limits.size"),
        (
            "v5",
            &[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", ""), ("f", "")],
            "BadTree",
            "limits.files",
        ),
        ("v6", &[("..data/x", "")], "BadTree", "two dots"),
    ];
    for (tag, files, code, told) in broken {
        repository.tag(tag, files);
        let (found, message) = followed.fails();
        assert_eq!(found, code, "{tag}");
        assert!(message.contains(told), "{message}");
        assert_eq!(followed.fails().0, "BadVersion", "{tag} is not fetched again");
        assert_eq!(followed.read("index.html").as_deref(), Some("one"), "{tag}");
    }
    repository.tag("v7", &[("index.html", "seven")]);
    followed.round().unwrap();
    assert_eq!((followed.version().as_deref(), followed.entry().bad.len()), (Some("v7"), 5));
}

#[test]
fn submodules_and_links_out_of_the_tree_are_refused() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    followed.round().unwrap();
    let commit = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},module")]);
    repository.git(&["commit", "--quiet", "--message=x"]);
    repository.git(&["tag", "v2"]);
    assert!(followed.fails().1.contains("submodules are not fetched"));
    repository.git(&["rm", "--quiet", "--cached", "module"]);
    std::os::unix::fs::symlink("/etc/passwd", repository.path.join("users")).unwrap();
    repository.commit();
    repository.git(&["tag", "v3"]);
    assert!(followed.fails().1.contains("may lead out of the tree"));
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
}

/// Trees that git itself would not write, as somebody who wants to get out of the directory would push them.
#[test]
fn trees_with_names_and_modes_that_no_git_writes_are_refused() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    followed.round().unwrap();
    let blob = repository.git(&["rev-parse", "v1:index.html"]);
    let id: Vec<_> = (0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()).collect();
    for (at, entries) in [
        &[("100644", "..")][..],
        &[("100644", "../../out")],
        &[("100644", "/tmp/out")],
        &[("100644", ".git")],
        &[("100644", "a"), ("100644", "a")],
        &[("120000", "a"), ("100644", "a/b")],
        &[("20666", "device")],
        &[("10644", "pipe")],
        &[("140755", "socket")],
        &[("40000", "no-directory")],
    ]
    .into_iter()
    .enumerate()
    {
        let tree: Vec<u8> = entries
            .iter()
            .flat_map(|(mode, name)| [format!("{mode} {name}\0").as_bytes(), &id].concat())
            .collect();
        let file = directory.0.join("tree");
        fs::write(&file, tree).unwrap();
        let tree =
            repository.git(&["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
        let commit = repository.git(&["commit-tree", &tree, "-m", "x"]);
        repository.git(&["tag", &format!("v{}", at + 2), &commit]);
        let (code, message) = followed.fails();
        assert!(["BadTree", "DamagedObjects", "Disk"].contains(&code), "{entries:?}: {code}: {message}");
        assert_eq!(followed.read("index.html").as_deref(), Some("one"), "{entries:?}");
        assert!(!directory.0.join("entry/out").exists() && !Path::new("/tmp/out").exists(), "{entries:?}");
    }
}

/// What a server sends is cut off where it is more than allowed, not only what comes of it.
#[test]
fn a_server_that_sends_more_than_allowed_is_cut_off() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let server = Server::start(&directory.0, None);
    repository.tag("v1", &[("index.html", "one")]);
    let small = SyncSpec {
        limits: SyncLimits { size: outrigger_api::quantity::Quantity::parse("10k").unwrap(), files: 5 },
        ..spec(&format!("{}/repository/.git", server.url), "v*")
    };
    let mut followed = Followed::new(&directory.0, small);
    followed.round().unwrap();
    // Not to be compressed to less than the limit.
    let mut noise = 1_u64;
    let text: String = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + u8::try_from(noise >> 58).unwrap())
    })
    .take(50_000)
    .collect();
    repository.tag("v2", &[("index.html", &text)]);
    assert_eq!(followed.fails().0, "TooLarge");
    assert_eq!(followed.fails().0, "BadVersion", "it is not fetched again");
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    assert_eq!(fs::read_dir(directory.0.join("entry/work")).unwrap().count(), 0, "nothing of it stays");
}

#[test]
fn a_moved_tag_is_refused_unless_allowed_and_a_branch_moves() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let mut strict = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    strict.round().unwrap();
    let places = [Directory::new(), Directory::new()];
    let mut allowed = spec(&repository.url(), "v*");
    allowed.git.allow_moved_tags = true;
    let mut branch = spec(&repository.url(), "v*");
    branch.git = GitSpec { tags: None, branch: Some("main".to_owned()), ..branch.git };
    let mut others = [Followed::new(&places[0].0, allowed), Followed::new(&places[1].0, branch)];
    for followed in &mut others {
        followed.round().unwrap();
    }
    repository.write("index.html", "moved");
    repository.commit();
    repository.git(&["tag", "--force", "v1"]);
    assert_eq!(strict.fails().0, "MovedTag");
    assert_eq!(strict.read("index.html").as_deref(), Some("one"));
    for followed in &mut others {
        followed.round().unwrap();
        assert_eq!(followed.read("index.html").as_deref(), Some("moved"));
    }
}

#[test]
fn tags_that_are_no_versions_are_told_by_their_dates() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("night-b", &[("index.html", "first")]);
    repository.tag("night-a", &[("index.html", "second")]);
    let server = Server::start(&directory.0, None);
    let url = format!("{}/repository/.git", server.url);
    let mut followed = Followed::new(&directory.0, spec(&url, "night-*"));
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("second"));
    server.requests();
    followed.round().unwrap();
    assert_eq!(server.requests(), 2, "what is known is not asked again");
}

#[test]
fn three_versions_stay_and_a_withdrawn_tag_brings_back_the_one_before() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let mut spec = spec(&repository.url(), "v*");
    spec.git.directory = Some("public/site".to_owned());
    let mut followed = Followed::new(&directory.0, spec);
    for tag in ["v1", "v2", "v3", "v4", "v5"] {
        repository.tag(tag, &[("public/site/index.html", tag), ("secret.txt", "not served")]);
        followed.round().unwrap();
    }
    assert_eq!((followed.versions(), followed.read("secret.txt")), (3, None));
    repository.git(&["tag", "--delete", "v5"]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("v4"));
    repository.tag("v6", &[("elsewhere/index.html", "six")]);
    assert!(followed.fails().1.contains("no directory public/site"));
}

#[test]
fn tags_must_be_signed_by_an_allowed_key_for_their_own_name() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let key = |name: &str| {
        let path = directory.0.join(name);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.unwrap().success());
        (path.clone(), fs::read_to_string(path.with_extension("pub")).unwrap())
    };
    let ((good, public), (other, _)) = (key("good"), key("other"));
    let mut spec = spec(&repository.url(), "v*");
    spec.git.signed_by = vec![public];
    let mut followed = Followed::new(&directory.0, spec);
    let sign = |repository: &mut Repository, tag: &str, key: &Path| {
        repository.write("index.html", tag);
        repository.commit();
        let key = format!("user.signingkey={}", key.display());
        repository.git(&["-c", "gpg.format=ssh", "-c", &key, "tag", "--sign", "--message=x", tag]);
    };
    sign(&mut repository, "v1", &good);
    followed.round().unwrap();
    sign(&mut repository, "v2", &other);
    assert!(followed.fails().1.contains("not signed by a key of git.signedBy"));
    repository.git(&["tag", "v3"]);
    assert!(followed.fails().1.contains("not signed: it takes"));
    repository.git(&["update-ref", "refs/tags/v4", "refs/tags/v1"]);
    assert!(followed.fails().1.contains("the signed object of tag v1"));
    sign(&mut repository, "v5", &good);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("v5"));
}

/// Only tag and commit told versions apart: a changed profile was followed with the next tag alone.
#[test]
fn another_directory_of_the_same_version_is_served() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("public/index.html", "public"), ("other/index.html", "other")]);
    let by = |part: &str| {
        let mut spec = spec(&repository.url(), "v*");
        spec.git.directory = Some(part.to_owned());
        source(&directory.0, spec)
    };
    let mut followed = Followed::of(by("public"));
    followed.round().unwrap();
    followed.worker.take(by("other"));
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("other"));
    followed.worker.take(by("nowhere"));
    assert_eq!(followed.fails().0, "BadTree");
    assert_eq!(followed.read("index.html").as_deref(), Some("other"));
    // By a sidecar that starts anew with it, too.
    let mut followed = Followed::of(by("public"));
    followed.round().unwrap();
    assert_eq!((followed.read("index.html").as_deref(), followed.entry().switches), (Some("public"), 1));
}

/// Versions from before `signedBy` was set were kept, and put back, unchecked.
#[test]
fn stricter_rules_are_asked_of_the_versions_there_are() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let lax = spec(&repository.url(), "v*");
    let mut followed = Followed::new(&directory.0, lax.clone());
    for tag in ["v1", "v2"] {
        repository.tag(tag, &[("index.html", tag)]);
        followed.round().unwrap();
    }
    let strict = SyncSpec { require_checksums: true, ..lax.clone() };
    followed.worker.take(source(&directory.0, strict));
    assert_eq!(followed.fails().0, "BadChecksum");
    assert_eq!(followed.fails().0, "BadVersion", "it is not fetched again");
    repository.git(&["tag", "--delete", "v2"]);
    assert_eq!(followed.fails().0, "BadChecksum", "v1 is not put back unchecked");
    assert_eq!(followed.read("index.html").as_deref(), Some("v2"), "what is served stays");
    let mut roomy = lax;
    roomy.limits.files += 1;
    repository.git(&["tag", "v2"]);
    followed.worker.take(source(&directory.0, roomy));
    let switches = followed.entry().switches;
    followed.round().unwrap();
    assert_eq!(followed.entry().switches, switches, "the same files are no switch");
    followed.round().unwrap();
}

/// A tag of the new repository was `MovedTag` for ever where the old one had another commit of that name.
#[test]
fn another_repository_is_followed_whatever_its_tags_are_called() {
    let places = [Directory::new(), Directory::new()];
    let [one, two] = places.each_ref().map(|place| {
        let mut repository = Repository::new(&place.0, "sha1");
        repository.tag("v1", &[("index.html", &place.0.display().to_string())]);
        repository
    });
    let mut followed = Followed::new(&places[0].0, spec(&one.url(), "v*"));
    followed.round().unwrap();
    followed.worker.take(source(&places[0].0, spec(&two.url(), "v*")));
    followed.round().unwrap();
    assert_eq!(followed.read("index.html"), Some(places[1].0.display().to_string()));
}

#[test]
fn the_fallback_is_there_at_once_and_goes_with_the_first_version() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let file = |path: &str| FallbackFile { path: path.to_owned(), content: "soon".to_owned() };
    let spec =
        SyncSpec { fallback: vec![file("index.html"), file("a/b.html")], ..spec(&repository.url(), "v*") };
    let mut followed = Followed::new(&directory.0, spec);
    assert!(followed.entry().has_content && followed.version().is_none());
    assert_eq!(followed.read("a/b.html").as_deref(), Some("soon"));
    assert_eq!(followed.fails().0, "NoMatchingTag");
    repository.tag("v1", &[("index.html", "one")]);
    followed.round().unwrap();
    assert_eq!((followed.read("index.html").as_deref(), followed.read("a/b.html")), (Some("one"), None));
    assert_eq!(followed.versions(), 1);
}

/// The app stands for one that is not ready with the new version's content.
#[test]
fn an_app_that_does_not_become_ready_gets_the_version_before() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let port = app_that_reads(&directory.0.join("entry/tree/index.html"));
    let spec = SyncSpec {
        verify_for: Some("600ms".parse().unwrap()),
        on_change: OnChange::default(),
        ..spec(&repository.url(), "v*")
    };
    let mut source = source(&directory.0, spec);
    source.ready = Some(ReadyCheck { port, path: Some("/ready".to_owned()) });
    let mut followed = Followed::of(source.clone());
    repository.tag("v1", &[("index.html", "good one")]);
    followed.round().unwrap();
    repository.tag("v2", &[("index.html", "bad two")]);
    let (code, message) = followed.fails();
    assert_eq!(code, "BadVersion");
    assert!(message.contains("v2 was bad: the app was not ready 600ms after it came"), "{message}");
    assert_eq!(followed.read("index.html").as_deref(), Some("good one"));
    assert_eq!((followed.entry().rollbacks, followed.version().as_deref()), (1, Some("v1")));
    // Remembered by a sidecar that starts anew, too.
    let mut followed = Followed::of(source);
    assert_eq!(followed.fails().0, "BadVersion");
    repository.tag("v3", &[("index.html", "good three")]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("good three"));
    assert!(!followed.entry().on_trial);
}

/// The trial ended before the switch back: a sidecar that was killed between the two took the bad version for good.
#[test]
fn a_way_back_that_was_cut_off_is_gone_at_the_next_start() {
    for is_switched in [false, true] {
        let directory = Directory::new();
        let mut repository = Repository::new(&directory.0, "sha1");
        let port = app_that_reads(&directory.0.join("entry/tree/index.html"));
        let mut source = source(&directory.0, spec(&repository.url(), "v*"));
        let mut followed = Followed::of(source.clone());
        for (tag, text) in [("v1", "good one"), ("v2", "bad two")] {
            repository.tag(tag, &[("index.html", text)]);
            followed.round().unwrap();
        }
        source.spec.verify_for = Some("300ms".parse().unwrap());
        source.ready = Some(ReadyCheck { port, path: Some("/ready".to_owned()) });
        let place = Place::open(Path::new(&source.directory)).unwrap();
        let mut state = place.load();
        state.on_trial = true;
        let before = state.go_back("not ready".to_owned(), 3).unwrap();
        place.save(&state).unwrap();
        if is_switched {
            place.switch(&before.directory).unwrap();
        }
        let mut followed = Followed::of(source);
        assert_eq!(followed.fails().0, "BadVersion");
        assert_eq!(followed.read("index.html").as_deref(), Some("good one"));
        assert_eq!((followed.version().as_deref(), followed.versions()), (Some("v1"), 1));
        assert!(!followed.entry().on_trial);
    }
}

/// It was told once; where that failed, the next round found all well again.
#[test]
fn an_app_that_could_not_be_told_is_told_in_each_round_until_it_knows() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let well = directory.0.join("well");
    let source = told_by_http(&directory.0, &repository, app_that_reads(&well));
    let mut followed = Followed::of(source.clone());
    repository.tag("v1", &[("index.html", "one")]);
    followed.round().unwrap();
    repository.tag("v2", &[("index.html", "two")]);
    assert_eq!(followed.fails().0, "AppNotTold");
    assert_eq!(followed.fails().0, "AppNotTold", "it still does not know");
    let away = directory.0.join("away");
    fs::rename(&repository.path, &away).unwrap();
    assert_eq!(followed.fails().0, "Unreachable");
    fs::rename(away, &repository.path).unwrap();
    let mut followed = Followed::of(source);
    assert_eq!(followed.fails().0, "AppNotTold", "nor by a sidecar that starts anew");
    fs::write(&well, "good").unwrap();
    followed.round().unwrap();
    fs::remove_file(&well).unwrap();
    followed.round().unwrap();
}

/// Nobody told the app of a version whose sidecar was killed after the switch.
#[test]
fn a_switch_that_was_cut_off_is_told_at_the_next_start() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let well = directory.0.join("well");
    let source = told_by_http(&directory.0, &repository, app_that_reads(&well));
    repository.tag("v1", &[("index.html", "one")]);
    Followed::of(source.clone()).round().unwrap();
    repository.tag("v2", &[("index.html", "two")]);
    // As far as a sidecar comes that is killed right after the rename.
    let place = Place::open(Path::new(&source.directory)).unwrap();
    let commit = repository.git(&["rev-parse", "v2"]);
    let offer = Offer::new("v2".to_owned(), commit, &source.spec);
    let version = Version { directory: directory_of(&offer, None), offer, since: 2 };
    let made = place.clear_work().unwrap().join("tree");
    fs::create_dir(&made).unwrap();
    fs::write(made.join("index.html"), "two").unwrap();
    place.publish(&made, &version.directory).unwrap();
    let mut state = place.load();
    state.prepare(version.clone());
    place.save(&state).unwrap();
    place.switch(&version.directory).unwrap();
    let mut followed = Followed::of(source);
    assert_eq!(followed.version().as_deref(), Some("v2"));
    assert_eq!(followed.fails().0, "AppNotTold");
    fs::write(&well, "good").unwrap();
    followed.round().unwrap();
}

fn told_by_http(directory: &Path, repository: &Repository, port: u16) -> SyncSource {
    let http = Some(HttpCall { port, path: "/reload".to_owned() });
    let on_change = OnChange { http, ..OnChange::default() };
    source(directory, SyncSpec { on_change, ..spec(&repository.url(), "v*") })
}

/// Answers 200 while the file says good.
fn app_that_reads(file: &Path) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, file) = (listener.local_addr().unwrap().port(), file.to_owned());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let good = fs::read_to_string(&file).is_ok_and(|text| text.contains("good"));
            let status = if good { "200 OK" } else { "500 Bad" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    port
}
