//! What a repository and its server may take of the sidecar: bytes, memory, and words in its messages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use outrigger_api::quantity::Quantity;
use outrigger_api::sync::{SyncLimits, SyncSpec};
use outrigger_sync::failure::Reason;
use support::http::Server;
use support::{Directory, Followed, Repository, spec};

/// What a server sends is cut off where it is more than allowed, not only what comes of it.
#[test]
fn a_server_that_sends_more_than_allowed_is_cut_off() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let server = Server::start(&directory.0, None);
    repository.tag("v1", &[("index.html", "one")]);
    let small = SyncSpec {
        limits: SyncLimits { size: Quantity::parse("10k").unwrap(), files: 5, ..SyncLimits::default() },
        ..spec(&format!("{}/repository/.git", server.url), "v*")
    };
    let mut followed = Followed::new(&directory.0, small);
    followed.round().unwrap();
    repository.tag("v2", &[("index.html", &noise(1, 200_000))]);
    let (reason, message) = followed.fails();
    assert_eq!(reason, Reason::TooLarge);
    assert!(message.starts_with("v2: "), "which tag: {message}");
    assert_eq!(followed.fails().0, Reason::BadVersion, "it is not fetched again");
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
    assert_eq!(fs::read_dir(directory.0.join("entry/work")).unwrap().count(), 0, "nothing of it stays");
}

/// A large file was in memory whole, whatever the container's memory limit.
#[test]
fn a_file_that_is_too_large_for_memory_is_refused_once_by_its_name() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let server = Server::start(&directory.0, None);
    repository.tag("v1", &[("index.html", "one")]);
    // The server sends it as some kilobytes; the second is refused as soon as its size is known.
    let large = ["x".repeat(2 << 20), "x".repeat(12 << 20)];
    for (url, told) in [
        (repository.url(), ["large has 2097152 bytes", "large has 12582912 bytes"]),
        (format!("{}/repository/.git", server.url), ["large has 2097152 bytes", "more than 10240000 bytes"]),
    ] {
        let place = Directory::new();
        let limits = SyncLimits { file: Quantity::parse("1Mi").unwrap(), ..SyncLimits::default() };
        let mut followed = Followed::new(&place.0, SyncSpec { limits, ..spec(&url, "v*") });
        followed.round().unwrap();
        for (at, told) in told.into_iter().enumerate() {
            repository.tag(&format!("v{}", at + 2), &[("large", &large[at])]);
            let (reason, message) = followed.fails();
            assert_eq!(reason, Reason::TooLarge, "{url}: {message}");
            assert!(message.contains(told) && message.contains("limits.file"), "{url}: {message}");
            assert_eq!(followed.fails().0, Reason::BadVersion, "it is not fetched again");
        }
        assert_eq!(followed.read("index.html").as_deref(), Some("one"));
        repository.git(&["tag", "--delete", "v2", "v3"]);
    }
}

/// What a round may take in memory is bound by the kernel too, for what is neither a file nor counted.
#[test]
fn a_round_that_takes_more_memory_than_the_limits_give_it_ends_by_itself() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let small = SyncLimits { file: Quantity::parse("1k").unwrap(), files: 9, ..SyncLimits::default() };
    let mut followed =
        Followed::new(&directory.0, SyncSpec { limits: small, ..spec(&repository.url(), "v*") });
    followed.round().unwrap();
    // No tree, but that is found out by who has read it.
    let file = directory.0.join("tree");
    fs::write(&file, "x".repeat(100 << 20)).unwrap();
    let tree = repository.git(&["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
    fs::remove_file(file).unwrap();
    let commit = repository.git(&["commit-tree", &tree, "-m", "x"]);
    repository.git(&["tag", "v2", &commit]);
    let (reason, told) = followed.fails();
    assert_eq!(reason, Reason::TooLarge, "{told}");
    assert_eq!(followed.fails().0, Reason::BadVersion, "it is not fetched again");
    assert_eq!(followed.read("index.html").as_deref(), Some("one"));
}

/// Only the objects were counted: a list of references without end took all memory.
#[test]
fn references_without_end_are_cut_off() {
    let directory = Directory::new();
    let url = answers_with("application/x-git-upload-pack-advertisement", |stream| {
        stream.write_all(b"001e# service=git-upload-pack\n0000")?;
        let id = "a".repeat(40);
        writeln!(stream, "{:04x}{id} refs/tags/v\0side-band-64k shallow", 4 + 40 + 12 + 1 + 22)?;
        for number in 0.. {
            writeln!(stream, "{:04x}{id} refs/tags/v{number:09}", 4 + 40 + 12 + 9 + 1)?;
        }
        Ok(())
    });
    let mut followed = Followed::new(&directory.0, spec(&url, "v*"));
    let (reason, message) = followed.fails();
    assert_eq!(reason, Reason::BrokenAnswer, "{message}");
    assert!(message.contains("sends more than 8388608 bytes before a version is asked for"), "{message}");
}

/// What a redirect points to may be a URL that opens a place to whoever has it.
#[test]
fn a_redirect_is_told_without_its_query() {
    let directory = Directory::new();
    let url = answers_with("text/plain\r\nlocation: https://other/site.git?token=secret#secret", |_| Ok(()));
    let mut followed = Followed::new(&directory.0, spec(&url, "v*"));
    let (_, message) = followed.fails();
    assert!(message.contains("points to https://other/site.git: use that URL"), "{message}");
}

/// A server that gives each client one answer. It is a redirect if there is a location in `kind`.
fn answers_with(kind: &'static str, body: fn(&mut TcpStream) -> io::Result<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://localhost:{}/site.git", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let status = if kind.contains("location") { "302 Found" } else { "200 OK" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\n\r\n");
            let _ = body(&mut stream);
        }
    });
    url
}

/// The files of all tags were asked for at once, within the limit of one, and again after each start.
#[test]
fn tags_that_are_no_versions_are_told_by_their_dates() {
    for can_filter in ["true", "false"] {
        let directory = Directory::new();
        let mut repository = Repository::new(&directory.0, "sha1");
        repository.git(&["config", "uploadpack.allowFilter", can_filter]);
        for (number, tag) in ["night-c", "night-a", "night-b"].into_iter().enumerate() {
            let seed = u64::try_from(number).unwrap();
            repository.tag(tag, &[("index.html", tag), ("noise", &noise(seed, 100_000))]);
        }
        let server = Server::start(&directory.0, None);
        let url = format!("{}/repository/.git", server.url);
        // Enough for one of them, and not for two.
        let size = Quantity::parse("120k").unwrap();
        let limits = SyncLimits { size, ..SyncLimits::default() };
        let spec = SyncSpec { limits, ..spec(&url, "night-*") };
        let mut followed = Followed::new(&directory.0, spec.clone());
        followed.round().unwrap_or_else(|failure| panic!("{can_filter}: {failure}"));
        assert_eq!(followed.read("index.html").as_deref(), Some("night-b"), "{can_filter}");
        let away = directory.0.join("away");
        fs::rename(&repository.path, &away).unwrap();
        followed.fails();
        fs::rename(away, &repository.path).unwrap();
        server.requests();
        let mut followed = Followed::new(&directory.0, spec);
        followed.round().unwrap();
        assert_eq!(
            server.requests(),
            2,
            "what is known is not asked again, not by a sidecar that starts anew either"
        );
        repository.tag("night-0", &[("index.html", "zero")]);
        followed.round().unwrap();
        assert_eq!(followed.read("index.html").as_deref(), Some("zero"), "{can_filter}");
    }
}

/// An old tag that was too large ended each round, and a new one was told of once, after which all was well again.
#[test]
fn a_tag_by_date_that_is_too_large_keeps_no_other_back_and_fails_until_a_newer_one_comes() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.git(&["config", "uploadpack.allowFilter", "false"]);
    let large = |seed| noise(seed, 100_000);
    repository.year = 2000;
    for old in 0..18 {
        repository.tag(&format!("night-old-{old}"), &[("noise", &large(old))]);
    }
    repository.tag("night-good", &[("index.html", "good")]);
    let server = Server::start(&directory.0, None);
    let limits = SyncLimits { size: Quantity::parse("10k").unwrap(), ..SyncLimits::default() };
    let url = format!("{}/repository/.git", server.url);
    let mut followed = Followed::new(&directory.0, SyncSpec { limits, ..spec(&url, "night-*") });
    followed.round().unwrap();
    assert_eq!((followed.read("index.html").as_deref(), followed.entry().bad.len()), (Some("good"), 18));
    repository.tag("night-new", &[("noise", &large(99))]);
    for _ in 0..2 {
        let (reason, message) = followed.fails();
        assert_eq!(reason, Reason::BadVersion, "{message}");
        assert!(message.contains("night-new was bad") && message.contains("limits.size"), "{message}");
        server.requests();
    }
    followed.fails();
    assert_eq!(server.requests(), 2, "none is fetched again");
    // Made after the last was found bad, by the clock of this machine.
    repository.year = 2099;
    repository.tag("night-newer", &[("index.html", "newer")]);
    for _ in 0..2 {
        followed.round().unwrap();
    }
    assert_eq!(followed.read("index.html").as_deref(), Some("newer"));
}

/// A message was as long as what it was about, in the state, in `/stats` and in each round's question.
#[test]
fn a_message_has_a_bound() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let file = directory.0.join("tree");
    let blob = {
        repository.tag("v1", &[("index.html", "one")]);
        repository.git(&["rev-parse", "v1:index.html"])
    };
    let id: Vec<_> = (0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()).collect();
    fs::write(&file, [format!("100644 {}\0", "x".repeat(5 << 20)).as_bytes(), &id].concat()).unwrap();
    let tree = repository.git(&["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
    let commit = repository.git(&["commit-tree", &tree, "-m", "x"]);
    repository.git(&["tag", "v2", &commit]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    let (reason, message) = followed.fails();
    assert_eq!(reason, Reason::BadTree, "{message:.300}");
    assert!(message.starts_with("v2: xxx") && message.len() < 300, "{}: {message:.300}", message.len());
}

/// It was told as damaged objects, for which there is nothing to be done in a repository that is whole.
#[test]
fn a_tag_of_a_file_is_refused_as_that() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    repository.git(&["tag", "v2", "v1:index.html"]);
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    let (reason, message) = followed.fails();
    assert_eq!(reason, Reason::BadTree);
    assert!(message.ends_with("is a blob: tag a commit"), "{message}");
    assert_eq!(followed.fails().0, Reason::BadVersion);
}

/// Not to be compressed to less than three quarters.
fn noise(seed: u64, length: usize) -> String {
    let mut noise = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letters = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + u8::try_from(noise >> 58).unwrap())
    });
    letters.take(length).collect()
}
