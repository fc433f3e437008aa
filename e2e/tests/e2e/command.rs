//! The command, as a user runs it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use outrigger_e2e::Namespace;
use serde_json::Value;

/// The release build, which the images are made of: beside the directory of this test's own.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(3).unwrap().join("release/outrigger");
    assert!(program.exists(), "{} is not there: `images/build` makes it", program.display());
    program
}

pub(crate) fn outrigger(args: &[&str]) -> Output {
    Command::new(program()).args(args).output().unwrap()
}

/// Starts it, for what goes on until it is ended.
pub(crate) fn start(args: &[&str]) -> Child {
    Command::new(program()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A command as a finding names it, for the shell of a user who has `outrigger` in the path.
pub(crate) fn in_shell(command: &str) -> Output {
    let program = program();
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap()
}

/// What the command prints as JSON, and its exit code.
pub(crate) fn outrigger_json(args: &[&str]) -> (Value, Option<i32>) {
    let output = outrigger(&[args, &["-o", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout);
    (json.unwrap_or_else(|error| panic!("{args:?}: {error}: {said}")), output.status.code())
}

/// The lines of one check, in one namespace.
pub(crate) fn findings(ns: &Namespace, check: &str) -> Vec<Value> {
    let (found, _) = outrigger_json(&["check", "--namespace", &ns.name]);
    let lines = found["checks"].as_array().unwrap().iter();
    lines.filter(|line| line["check"] == check && line["result"] != "good").cloned().collect()
}
