//! `outrigger inject` as a user meets it: the real program, its two streams and its exit code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: # kept, but for this comment
  template:
    spec:
      containers: [{name: app, image: web, ports: [{name: http, containerPort: 80}, {containerPort: 443}]}]
";

/// Runs the program with `input` on stdin; its exit code, what it says and what it prints.
fn outrigger(args: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let mut text = format!("exit code {}\n", output.status.code().unwrap());
    for (name, stream) in [("stderr", output.stderr), ("stdout", output.stdout)] {
        write!(text, "--- {name}\n{}", String::from_utf8(stream).unwrap()).unwrap();
    }
    without_token(&text)
}

/// The token is random: the only part of the output that differs between runs.
fn without_token(text: &str) -> String {
    let mut parts = text.split(r#"\"token\":\""#);
    let mut masked = parts.next().unwrap().to_owned();
    for part in parts {
        let (token, rest) = part.split_once('\\').unwrap();
        assert_eq!(token.len(), 32);
        write!(masked, r#"\"token\":\"...\{rest}"#).unwrap();
    }
    masked
}

#[test]
fn yaml_comes_out_as_yaml_with_its_sidecar() {
    assert_snapshot!(outrigger(&["inject", "-f", "-"], DEPLOYMENT));
}

#[test]
fn json_comes_out_as_json() {
    let pod =
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"a"}]}}"#;
    let output = outrigger(&["inject", "-f", "-"], pod);
    assert!(output.contains("- pod/x skipped: NothingToIntercept"), "{output}");
    assert!(output.contains("--- stdout\n{\n  \"apiVersion\": \"v1\","), "{output}");
}

#[test]
fn every_kind_of_workload_is_found_in_lists_and_documents() {
    let pod = "{metadata: {}, spec: {containers: [{name: a, ports: [{name: http, containerPort: 80}]}]}}";
    let mut input = format!(
        "kind: CronJob\nmetadata: {{name: nightly}}\nspec: {{jobTemplate: {{spec: {{template: {pod}}}}}}}\n"
    );
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"] {
        write!(
            input,
            "---\nkind: List\nitems:\n- {{kind: {kind}, metadata: {{name: x}}, spec: {{template: {pod}}}}}\n"
        )
        .unwrap();
    }
    write!(input, "---\nkind: Pod\nmetadata: {{generateName: x-}}\nspec: {{hostNetwork: true, containers: [{{name: a}}]}}\n").unwrap();
    write!(input, "---\nkind: Service\nmetadata: {{name: x}}\n").unwrap();
    let output = outrigger(&["inject", "-f", "-"], &input);
    assert_snapshot!(output.split("--- stdout").next().unwrap());
}

#[test]
fn a_namespace_in_the_input_decides_for_its_workloads() {
    let namespace = "kind: Namespace\nmetadata: {name: quiet, labels: {outrigger.dev/inject: disabled}}\n";
    let output = outrigger(&["inject", "-n", "quiet", "-f", "-"], &format!("{namespace}---{DEPLOYMENT}"));
    assert!(output.contains("- deployment/web skipped: OptedOut"), "{output}");
}

#[test]
fn profiles_come_from_files() {
    let directory = std::env::temp_dir().join(format!("outrigger-inject-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let profile = directory.join("profile.yaml");
    std::fs::write(
        &profile,
        "kind: SidecarProfile\nmetadata: {name: default}\nspec: {inbound: [{port: none}], loglevel: x}\n",
    )
    .unwrap();
    let output = outrigger(&["inject", "-f", "-", "--profile-file", profile.to_str().unwrap()], DEPLOYMENT);
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.contains("× deployment/web rejected: InvalidProfile: SidecarProfile outrigger-system/default: spec.loglevel: unknown field"), "{output}");
    assert!(output.ends_with("--- stdout\n"), "nothing is printed: {output}");
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_line_and_column() {
    assert_snapshot!(outrigger(&["inject", "-f", "-"], "kind: Pod\n  spec: [\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = outrigger(&["inject", "-f", "no-such-file.yaml"], "");
    assert!(
        output.starts_with("exit code 1\n--- stderr\nerror: failed to read no-such-file.yaml: "),
        "{output}"
    );
}
