//! `outrigger inject` and `uninject` as a user meets them: the real program, its two streams and its exit code.

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
      containers: [{name: app, image: web, ports: [{containerPort: 80, name: http}, {containerPort: 443}]}]
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
    text
}

#[test]
fn yaml_comes_out_as_yaml_with_its_sidecar() {
    assert_snapshot!(outrigger(&["inject", "-f", "-"], DEPLOYMENT));
}

/// Argo and Flux compare what is applied with what is rendered: a difference of its own making would restart pods for ever.
#[test]
fn the_output_is_the_same_each_time() {
    let once = outrigger(&["inject", "-f", "-"], DEPLOYMENT);
    assert_eq!(once, outrigger(&["inject", "-f", "-"], DEPLOYMENT));
}

#[test]
fn uninject_gives_the_manifest_back() {
    let stdout = |output: &str| output.split_once("--- stdout\n").unwrap().1.to_owned();
    let injected = stdout(&outrigger(&["inject", "-f", "-"], DEPLOYMENT));
    let restored = outrigger(&["uninject", "-f", "-"], &injected);
    assert!(restored.contains("√ deployment/web uninjected: outrigger-proxy"), "{restored}");
    // Through the same printer, so that only what is meant is compared.
    let unchanged = outrigger(&["uninject", "-f", "-"], DEPLOYMENT);
    assert!(unchanged.contains("- deployment/web skipped: "), "{unchanged}");
    assert_eq!(stdout(&restored), stdout(&unchanged));
}

/// `x\u{7f}y` came out as `xy` when a printer for terminals wrote it.
#[test]
fn data_is_printed_as_it_is() {
    let config = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"x\u007fy\u001b[1m"}}"#;
    let output = outrigger(&["inject", "-f", "-"], config);
    assert!(output.contains("x\u{7f}y\\u001b[1m"), "{output:?}");
}

#[test]
fn a_workload_without_a_template_is_told() {
    let output = outrigger(
        &["inject", "-f", "-"],
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {templates: {}}\n",
    );
    assert!(output.contains("× deployment/web rejected: MalformedPod"), "{output}");
}

/// Others have Jobs too, and theirs are not ours to judge.
#[test]
fn kinds_of_other_groups_pass_unchanged() {
    let output = outrigger(
        &["inject", "-f", "-"],
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {template: 1}\n",
    );
    assert!(
        output.starts_with("exit code 0\n--- stderr\n--- stdout\napiVersion: batch.volcano.sh"),
        "{output}"
    );
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
    let kinds = [
        "apps/v1, kind: Deployment",
        "apps/v1, kind: StatefulSet",
        "apps/v1, kind: DaemonSet",
        "apps/v1, kind: ReplicaSet",
        "batch/v1, kind: Job",
    ];
    for kind in kinds {
        write!(
            input,
            "---\napiVersion: v1\nkind: List\nitems:\n- {{apiVersion: {kind}, metadata: {{name: x}}, spec: {{template: {pod}}}}}\n"
        )
        .unwrap();
    }
    write!(input, "---\napiVersion: v1\nkind: Pod\nmetadata: {{generateName: x-}}\nspec: {{hostNetwork: true, containers: [{{name: a}}]}}\n").unwrap();
    write!(input, "---\napiVersion: v1\nkind: Service\nmetadata: {{name: x}}\n").unwrap();
    let output = outrigger(&["inject", "-f", "-"], &input);
    assert_snapshot!(output.split("--- stdout").next().unwrap());
}

#[test]
fn a_namespace_in_the_input_decides_for_its_workloads() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: quiet, labels: {outrigger.dev/inject: disabled}}\n";
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
        "{apiVersion: v1, kind: List, items: [{apiVersion: outrigger.dev/v1alpha1, kind: SidecarProfile, metadata: {name: default}, spec: {loglevel: x}}]}",
    )
    .unwrap();
    let output = outrigger(&["inject", "-f", "-", "--profile-file", profile.to_str().unwrap()], DEPLOYMENT);
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.contains("× deployment/web rejected: InvalidProfile: SidecarProfile outrigger-system/default: spec.loglevel: unknown field"), "{output}");
    assert!(output.ends_with("--- stdout\n"), "nothing is printed: {output}");
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_line_and_column() {
    assert_snapshot!(outrigger(&["inject", "-f", "-"], "apiVersion: v1\n  spec: [\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = outrigger(&["inject", "-f", "no-such-file.yaml"], "");
    assert!(
        output.starts_with("exit code 1\n--- stderr\nerror: failed to read no-such-file.yaml: "),
        "{output}"
    );
}
