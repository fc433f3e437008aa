//! Strange pods by the million: what must hold of each, whatever it is.
//!
//! A short run with each test run; a long one by `OUTRIGGER_FUZZ=10000000 cargo test --release -p outrigger-inject --test fuzz`.
//! Where a pod fails, its seed is printed: `OUTRIGGER_FUZZ_SEED` runs that one alone. With a generator of its own and not
//! proptest, which takes fifty times as long for a pod; `properties.rs` has the same promises with pods that shrink.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

#[path = "fuzz/dice.rs"]
mod dice;
#[path = "fuzz/forged.rs"]
mod forged;
#[path = "fuzz/others.rs"]
mod others;
#[path = "fuzz/pods.rs"]
mod pods;
mod scenario;
#[path = "fuzz/services.rs"]
mod services;
#[path = "fuzz/validity.rs"]
mod validity;

use std::collections::BTreeSet;

use dice::Dice;
use outrigger_inject::{Outcome, Standing, explain, standing, uninject};
use scenario::Scenario;
use serde_json::Value;

/// How many are tried with each test run.
const SHORT: u64 = 3000;

#[test]
fn strange_pods() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("OUTRIGGER_FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OUTRIGGER_FUZZ").unwrap_or(SHORT),
    };
    let (mut injected, mut renewed) = (0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let told = TellSeed(seed);
        let (was_injected, was_renewed) = try_one(&mut Dice::new(seed));
        injected += u64::from(was_injected);
        renewed += u64::from(was_renewed);
        std::mem::forget(told);
        if (seed + 1).is_multiple_of(1_000_000) {
            eprintln!("{} pods", seed + 1);
        }
    }
    println!("{count} pods, {injected} injected, {renewed} renewed after others had changed them");
    // The generator must reach what it is meant to test.
    assert!(
        count < 100 || (injected > count / 4 && renewed > count / 20),
        "{injected} and {renewed} of {count}"
    );
}

/// Dropped only where a test panics.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        eprintln!("seed {}", self.0);
    }
}

/// Whether the pod was injected, and whether a later admission gave it more.
fn try_one(dice: &mut Dice) -> (bool, bool) {
    let mut scenario = Scenario::with_profile(pods::pod(dice), &pods::profile(dice));
    // Too old for native sidecars: plain containers.
    scenario.settings.cluster.server = dice.once_in(4).then(|| "1.27".parse().unwrap());
    let pod = &scenario.pod;
    let context = scenario.context();
    // Whatever it is, it is answered, explained and judged.
    serde_json::to_string(&explain(pod, &context)).unwrap();
    let before = standing(pod, &context);
    let Some(patched) = admitted(&scenario, pod) else { return (false, false) };
    assert_ne!(before, Standing::Current);
    assert_eq!(standing(&patched, &context), Standing::Current, "{pod}");
    let new = problems_that_are_new(pod, &patched);
    assert!(new.is_empty(), "{new:?}\n{pod}\n{patched}");
    assert_settled(&scenario, &patched);
    assert_services_lead_where_they_did(&scenario, &patched);
    a_forged_status_takes_nothing(&scenario, &patched, dice);
    let mut restored = patched.clone();
    uninject(&mut restored).unwrap();
    assert_eq!(restored, *pod, "uninject is exact");
    (true, others_change_it(&scenario, patched, dice))
}

fn assert_services_lead_where_they_did(scenario: &Scenario, patched: &Value) {
    // None is older than those that follow a name into native sidecars but the 1.27 above.
    let follows = scenario.settings.cluster.server.is_none();
    let after = services::leads(patched, follows);
    for (name, lead) in services::leads(&scenario.pod, follows) {
        assert_eq!(after.get(&name), Some(&lead), "{name}\n{}\n{patched}", scenario.pod);
    }
}

/// Whoever wrote it, it is answered, and the user's containers stay.
fn a_forged_status_takes_nothing(scenario: &Scenario, patched: &Value, dice: &mut Dice) {
    let mut forged = patched.clone();
    forged::forge(&mut forged, dice);
    let ours = [
        "outrigger-init",
        "outrigger-proxy",
        "outrigger-logs",
        "outrigger-config",
        "outrigger-shared",
        "outrigger-secret-0",
    ];
    let names = |pod: &Value| {
        let lists = ["containers", "initContainers", "volumes"].map(|list| pod["spec"][list].clone());
        let all = lists.iter().filter_map(Value::as_array).flatten().map(|item| item["name"].clone());
        let theirs = all.filter(|name| !ours.contains(&name.as_str().unwrap_or_default()));
        theirs.collect::<Vec<_>>()
    };
    serde_json::to_string(&explain(&forged, &scenario.context())).unwrap();
    standing(&forged, &scenario.context());
    let after = admitted(scenario, &forged).unwrap_or_else(|| forged.clone());
    assert_eq!(names(&after), names(&scenario.pod), "{forged}");
    // Refused or not, it does not panic.
    let taken_out = uninject(&mut forged).map(|_| names(&forged));
    assert!(taken_out.is_err() || taken_out.is_ok_and(|left| left == names(&scenario.pod)), "{forged}");
}

/// Another webhook changes the pod after us, and we are asked once more.
fn others_change_it(scenario: &Scenario, patched: Value, dice: &mut Dice) -> bool {
    let (mut theirs, mut with_ours) = (scenario.pod.clone(), patched);
    others::change(&mut theirs, &mut with_ours, dice);
    let renewed = admitted(scenario, &with_ours);
    let mut restored = renewed.clone().unwrap_or_else(|| with_ours.clone());
    uninject(&mut restored).unwrap();
    assert_eq!(restored, theirs, "what others did stays, and nothing else\n{with_ours}");
    let Some(renewed) = renewed else { return false };
    assert_settled(scenario, &renewed);
    // Compared with the pod without our parts: a name that one port had too many may have come back from the proxy.
    let new = problems_that_are_new(&theirs, &renewed);
    assert!(new.is_empty(), "{new:?}\n{with_ours}\n{renewed}");
    true
}

/// The pod with its patch, where there is one. A patch that does not apply panics here.
fn admitted(scenario: &Scenario, pod: &Value) -> Option<Value> {
    let Outcome::Injected { patch, .. } = scenario.inject(pod) else { return None };
    assert!(!patch.0.is_empty(), "an injection without a patch");
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap_or_else(|error| panic!("{error}: {patch}\n{pod}"));
    Some(patched)
}

fn assert_settled(scenario: &Scenario, pod: &Value) {
    let again = scenario.inject(pod);
    let settled = matches!(&again, Outcome::Skipped { reason, .. } if reason.code() == "AlreadyInjected");
    assert!(settled, "{again:?}\n{pod}");
}

fn problems_that_are_new(before: &Value, after: &Value) -> BTreeSet<String> {
    validity::problems(after).difference(&validity::problems(before)).cloned().collect()
}
