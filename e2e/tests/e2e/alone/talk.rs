//! The talk, step by step, by the script behind `make initial` and its successors.

use std::process::Command;

use outrigger_e2e::release;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/talk");

/// What the step says, on both streams.
fn step(name: &str) -> String {
    let output = Command::new(SCRIPT).arg(name).env("OUTRIGGER_IMAGES_BUILT", "yes").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name}:\n{said}");
    said
}

/// How many of the requests of `ask` got this status, all its lines together.
fn answered(said: &str, status: &str) -> u32 {
    let words = said.split_whitespace().filter_map(|word| word.strip_prefix(status)?.strip_prefix('='));
    words.filter_map(|count| count.parse::<u32>().ok()).sum()
}

#[tokio::test]
async fn each_step_of_the_talk_shows_what_it_is_about() {
    let _alone = release::alone().await;
    release::uninstall();
    for _ in 0..2 {
        let said = step("initial");
        assert!(answered(&said, "502") > 0, "nothing fails:\n{said}");
    }
    let said = step("v1");
    assert!(said.contains("  api        500 "), "the API's failures are not counted:\n{said}");
    let said = step("v2");
    assert!(said.contains(r#""log.file.path":"/var/log/app/api.log""#), "no line of the log:\n{said}");
    let said = step("v3");
    assert!(said.contains("outrigger_circuit_rejected_total"), "the breaker kept nothing back:\n{said}");
    assert!(answered(&said, "200") >= 72, "the canned answer is missing:\n{said}");
    step("reset_demo");
    step("reset_demo");
    release::uninstall();
}
