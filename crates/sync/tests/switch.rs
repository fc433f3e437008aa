//! What a reader sees while versions are switched under it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use outrigger_sync::place::Place;
use outrigger_sync::state::State;
use support::Directory;

/// A reader that opens the version's directory once, by `..data`, and reads on from there, sees one version. So does one that opens
/// a single file by its usual path.
#[test]
fn a_reader_sees_the_whole_old_or_the_whole_new_version() {
    const SWITCHES: u64 = 200;
    let directory = Directory::new();
    let place = Place::at(&directory.0);
    place.open().unwrap();
    let put = |number: u64| {
        let made = place.clear_work().unwrap().join("tree");
        fs::create_dir_all(made.join("parts")).unwrap();
        for part in 0..8 {
            fs::write(made.join(format!("parts/{part}")), number.to_string()).unwrap();
        }
        fs::write(made.join("checksum"), (number * 8).to_string()).unwrap();
        let name = format!("v{number}");
        place.publish(&made, &name).unwrap();
        place.switch(&name).unwrap();
        // The versions before stay, as in a real run: whoever reads one may finish.
        let version =
            |n: u64| outrigger_sync::state::Version { directory: format!("v{n}"), ..Default::default() };
        let before = (1..=2).filter_map(|back| number.checked_sub(back)).map(version).collect();
        place.prune(&State { current: Some(version(number)), before, ..State::default() }).unwrap();
    };
    put(0);
    let (done, checks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = std::thread::spawn({
        let (tree, done, checks) = (directory.0.join("tree"), Arc::clone(&done), Arc::clone(&checks));
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(Relaxed) {
                // Resolved once; the version is then that of the directory, whatever the link says meanwhile.
                let version = tree.join("..data").canonicalize().unwrap();
                let number =
                    |path: &str| fs::read_to_string(version.join(path)).unwrap().parse::<u64>().unwrap();
                let sum: u64 = (0..8).map(|part| number(&format!("parts/{part}"))).sum();
                assert_eq!(sum, number("checksum"), "parts of two versions");
                let single = fs::read_to_string(tree.join("checksum")).unwrap();
                assert!(!single.is_empty());
                seen.insert(sum);
                checks.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
            seen.len()
        }
    });
    for number in 1..=SWITCHES {
        let target = checks.load(Relaxed) + 5;
        put(number);
        // Each version is looked at some times before the next one comes.
        while checks.load(Relaxed) < target && !reader.is_finished() {
            std::thread::yield_now();
        }
    }
    done.store(true, Relaxed);
    let versions = reader.join().unwrap();
    assert!(versions as u64 >= SWITCHES / 2, "only {versions} versions were seen");
}
