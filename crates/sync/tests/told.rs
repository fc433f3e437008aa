//! The app is told of a version, and watched; what is cut off is taken up again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;

use outrigger_api::sync::{HttpCall, OnChange, ReadyCheck, SyncSource, SyncSpec};
use outrigger_sync::failure::{Failure, Reason, Told};
use outrigger_sync::place::{Place, directory_of};
use outrigger_sync::state::{Offer, Version};
use outrigger_sync::worker::Order;
use support::{Directory, Followed, Repository, source, spec};

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
    source.ready = Some(ready_check(port));
    let mut followed = Followed::of(source.clone());
    repository.tag("v1", &[("index.html", "good one")]);
    followed.round().unwrap();
    repository.tag("v2", &[("index.html", "bad two")]);
    let (code, message) = followed.fails();
    assert_eq!(code, Reason::BadVersion);
    assert!(message.contains("v2 was bad: the app was not ready 600ms after it came"), "{message}");
    assert_eq!(followed.read("index.html").as_deref(), Some("good one"));
    assert_eq!((followed.entry().rollbacks, followed.version().as_deref()), (1, Some("v1")));
    // Remembered by a sidecar that starts anew, too.
    let mut followed = Followed::of(source);
    assert_eq!(followed.fails().0, Reason::BadVersion);
    repository.tag("v3", &[("index.html", "good three")]);
    followed.round().unwrap();
    assert_eq!(followed.read("index.html").as_deref(), Some("good three"));
    assert!(!followed.entry().on_trial);
}

/// A bad version was left alone until a newer one, also where the app had been ill for another reason.
#[test]
fn a_bad_version_is_taken_again_where_that_is_asked_for() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let well = directory.0.join("well");
    let spec = SyncSpec { verify_for: Some("300ms".parse().unwrap()), ..spec(&repository.url(), "v*") };
    let source = SyncSource { ready: Some(ready_check(app_that_reads(&well))), ..source(&directory.0, spec) };
    let mut followed = Followed::of(source.clone());
    for tag in ["v1", "v2"] {
        repository.tag(tag, &[("index.html", tag)]);
        let _ = followed.round();
    }
    assert_eq!((followed.read("index.html").as_deref(), followed.entry().rollbacks), (Some("v1"), 1));
    fs::write(&well, "good").unwrap();
    assert_eq!(followed.fails().0, Reason::BadVersion);
    followed.worker.retry();
    assert!(followed.entry().bad.is_empty());
    // Also if nobody gets to it before the sidecar ends.
    let mut followed = Followed::of(source);
    followed.round().unwrap();
    assert_eq!((followed.read("index.html").as_deref(), followed.entry().on_trial), (Some("v2"), false));
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
        source.ready = Some(ready_check(port));
        let place = Place::at(Path::new(&source.directory));
        let mut state = place.load();
        state.on_trial = true;
        let before = state.go_back("not ready".to_owned(), 3).unwrap();
        place.save(&state).unwrap();
        if is_switched {
            place.switch(&before.directory).unwrap();
        }
        let mut followed = Followed::of(source);
        assert_eq!(followed.fails().0, Reason::BadVersion);
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
    assert_eq!(followed.fails().0, Reason::AppNotTold);
    assert_eq!(followed.fails().0, Reason::AppNotTold, "it still does not know");
    let away = directory.0.join("away");
    fs::rename(&repository.path, &away).unwrap();
    assert_eq!(followed.fails().0, Reason::Unreachable);
    fs::rename(away, &repository.path).unwrap();
    let mut followed = Followed::of(source);
    assert_eq!(followed.fails().0, Reason::AppNotTold, "nor by a sidecar that starts anew");
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
    let place = Place::at(Path::new(&source.directory));
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
    assert_eq!(followed.fails().0, Reason::AppNotTold);
    fs::write(&well, "good").unwrap();
    followed.round().unwrap();
}

/// For as long as the trial of the version that mended it, the failure from before was shown.
#[test]
fn a_switch_ends_the_failure_before_it() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    let mut followed = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    let told = Told { reason: Reason::BadChecksum, message: "v1".to_owned() };
    followed.statuses.change(0, |entry| assert!(entry.ended(&Err(Failure::Round(told)))));
    repository.tag("v2", &[("index.html", "two")]);
    followed.round().unwrap();
    assert!(followed.entry().failure.is_none());
}

/// Each `POST /sync` was a round of its own, though the first of them had asked after all.
#[test]
fn any_number_of_orders_is_one_round() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    repository.tag("x1", &[("index.html", "other")]);
    let Followed { worker, statuses, tree } = Followed::new(&directory.0, spec(&repository.url(), "v*"));
    let (orders, inbox) = mpsc::channel();
    for _ in 0..100 {
        orders.send(Order::Poll).unwrap();
        orders.send(Order::Retry).unwrap();
    }
    for tags in ["nothing*", "x*"] {
        orders.send(Order::Take(Box::new(source(&directory.0, spec(&repository.url(), tags))))).unwrap();
    }
    drop(orders);
    worker.run(&inbox);
    assert_eq!(statuses.all()[0].polls, 2, "the first, and the one that was asked for");
    assert_eq!(fs::read_to_string(tree.join("index.html")).unwrap(), "other");
}

/// Asked often, and one that is missed decides, as the switch of these versions is all that there is to miss.
fn ready_check(port: u16) -> ReadyCheck {
    ReadyCheck { port, path: Some("/ready".to_owned()), failure_threshold: 1, ..ReadyCheck::default() }
}

fn told_by_http(directory: &Path, repository: &Repository, port: u16) -> SyncSource {
    let http = Some(HttpCall { port, path: "/reload".to_owned() });
    let on_change = OnChange { http, ..OnChange::default() };
    source(directory, SyncSpec { on_change, ..spec(&repository.url(), "v*") })
}

/// Answers 200 while the file says good.
fn app_that_reads(file: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
