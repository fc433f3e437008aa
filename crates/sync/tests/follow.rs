//! An entry follows a repository, from the repository to the files that the app sees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use outrigger_api::sync::{FallbackFile, GitSpec, SyncLimits, SyncSpec};
use outrigger_sync::failure::Reason;
use outrigger_sync::source::{Secret, Session};
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
    let open =
        || Session::open(&url, &Secret::at("site", &secret)).map(|_| ()).map_err(|error| error.reason());
    assert_eq!(open(), Err(Reason::Denied));
    fs::write(secret.join("username"), "a\n").unwrap();
    fs::write(secret.join("password"), "b\n").unwrap();
    assert_eq!(open(), Ok(()));
    fs::write(secret.join("password"), "wrong").unwrap();
    assert_eq!(open(), Err(Reason::Denied));
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
    assert_eq!(followed.fails().0, Reason::Unreachable);
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    fs::rename(away, &repository.path).unwrap();
    repository.tag("v2", &[("index.html", "two")]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("two"));
    let nobody = spec("http://127.0.0.1:1/a", "v*");
    let place = Directory::new();
    assert_eq!(Followed::new(&place.0, nobody).fails().0, Reason::Unreachable);
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
    assert_eq!(followed.fails().0, Reason::DamagedObjects);
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    fs::write(&object, whole).unwrap();
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("two"));
}

/// Tag, files, code and a part of the message.
type Broken<'a> = (&'a str, &'a [(&'a str, &'a str)], Reason, &'a str);

#[test]
fn a_version_that_is_broken_by_itself_is_refused_once() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let zeros = format!("{}  index.html\n", "0".repeat(64));
    repository.tag("v1", &[("index.html", "one")]);
    let small = SyncSpec {
        limits: SyncLimits {
            size: outrigger_api::quantity::Quantity::parse("1k").unwrap(),
            files: 5,
            ..SyncLimits::default()
        },
        ..spec(&repository.url(), "v*")
    };
    let mut followed = Followed::new(&directory.0, small);
    followed.round().unwrap();
    let large = "x".repeat(2000);
    let broken: [Broken; 5] = [
        ("v2", &[("movie.mp4", lfs)], Reason::BadTree, "Git LFS"),
        ("v3", &[("index.html", "three"), ("SHA256SUMS", &zeros)], Reason::BadChecksum, "index.html"),
        ("v4", &[("large", &large)], Reason::BadTree, "limits.size"),
        (
            "v5",
            &[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", ""), ("f", "")],
            Reason::BadTree,
            "limits.files",
        ),
        ("v6", &[("..data/x", "")], Reason::BadTree, "two dots"),
    ];
    for (tag, files, code, told) in broken {
        repository.tag(tag, files);
        let (found, message) = followed.fails();
        assert_eq!(found, code, "{tag}");
        assert!(message.contains(told), "{message}");
        assert_eq!(followed.fails().0, Reason::BadVersion, "{tag} is not fetched again");
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
        assert!(
            [Reason::BadTree, Reason::DamagedObjects, Reason::Disk].contains(&code),
            "{entries:?}: {code}: {message}"
        );
        assert_eq!(followed.read("index.html").as_deref(), Some("one"), "{entries:?}");
        assert!(!directory.0.join("entry/out").exists() && !Path::new("/tmp/out").exists(), "{entries:?}");
    }
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
    assert_eq!(strict.fails().0, Reason::MovedTag);
    assert_eq!(strict.read("index.html").as_deref(), Some("one"));
    for followed in &mut others {
        followed.round().unwrap();
        assert_eq!(followed.read("index.html").as_deref(), Some("moved"));
    }
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
    assert_eq!(followed.fails().0, Reason::BadTree);
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
    assert_eq!(followed.fails().0, Reason::BadChecksum);
    assert_eq!(followed.fails().0, Reason::BadVersion, "it is not fetched again");
    repository.git(&["tag", "--delete", "v2"]);
    assert_eq!(followed.fails().0, Reason::BadChecksum, "v1 is not put back unchecked");
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
    assert_eq!(followed.fails().0, Reason::NoMatchingTag);
    repository.tag("v1", &[("index.html", "one")]);
    followed.round().unwrap();
    assert_eq!((followed.read("index.html").as_deref(), followed.read("a/b.html")), (Some("one"), None));
    assert_eq!(followed.versions(), 1);
}

/// It ended the sidecar, and with it the other entries.
#[test]
fn a_volume_that_can_not_be_written_is_a_failure_until_it_can() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let entry = directory.0.join("entry");
    fs::write(&entry, "in the way").unwrap();
    let fallback = vec![FallbackFile { path: "index.html".to_owned(), content: "soon".to_owned() }];
    let mut followed =
        Followed::new_unstarted(source(&directory.0, SyncSpec { fallback, ..spec(&repository.url(), "v*") }));
    assert_eq!(followed.fails().0, Reason::Disk);
    fs::remove_file(entry).unwrap();
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
}

/// A fallback that can't be written stopped all; admission refuses it, and where one comes all the same the repository is followed.
#[test]
fn a_fallback_that_can_not_be_written_does_not_keep_a_version_away() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let file = |path: &str| FallbackFile { path: path.to_owned(), content: String::new() };
    let fallback = vec![file("a"), file("a/b")];
    let mut followed = Followed::new(&directory.0, SyncSpec { fallback, ..spec(&repository.url(), "v*") });
    assert!(!followed.entry().has_content);
    repository.tag("v1", &[("index.html", "one")]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
}
