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
    // A command line that is wrong is refused before anything is read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
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
    assert!(restored.contains("√ deployment/web uninjected: outrigger-init, outrigger-proxy"), "{restored}");
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
        output.starts_with(
            "exit code 0\n--- stderr\n- there is no workload in the input\n--- stdout\napiVersion: batch.volcano.sh"
        ),
        "{output}"
    );
}

/// A template engine that printed nothing looked like work well done.
#[test]
fn an_empty_input_is_told() {
    for command in ["inject", "uninject"] {
        let output = outrigger(&[command, "-f", "-"], "");
        assert_eq!(output, "exit code 0\n--- stderr\n- there is no workload in the input\n--- stdout\n");
    }
}

/// `kubectl get --raw /api/v1/namespaces/shop/pods` gives such a list, and kubectl takes it.
#[test]
fn pods_of_a_typed_list_are_injected() {
    let pod = r#"{"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 80}]}]}}"#;
    let list = format!(r#"{{"apiVersion": "v1", "kind": "PodList", "items": [{pod}]}}"#);
    let output = outrigger(&["inject", "-f", "-"], &list);
    assert!(output.contains("√ pod/web injected: proxy (redirect)"), "{output}");
}

/// Pods get the template's labels: `disabled` on the Deployment itself kept nothing from being injected, without a word.
#[test]
fn a_label_that_has_no_effect_is_told() {
    let labelled = "metadata: {name: web, labels: {outrigger.dev/inject: disabled}}";
    let output = outrigger(&["inject", "-f", "-"], &DEPLOYMENT.replace("metadata: {name: web}", labelled));
    let warning = "warning: the label outrigger.dev/inject of the Deployment itself has no effect: \
                   put it into spec.template.metadata.labels, whence pods get theirs";
    assert!(output.contains("√ deployment/web injected") && output.contains(warning), "{output}");
}

/// A variable of a script that is not set.
#[test]
fn values_that_can_not_be_right_are_refused() {
    for flag in ["--sidecar-image=", "--sidecar-image=a b", "--namespace=", "--release-namespace=Bad_NS"] {
        let output = outrigger(&["inject", "-f", "-", flag], DEPLOYMENT);
        assert!(output.starts_with("exit code 2\n--- stderr\nerror: invalid value"), "{output}");
    }
}

/// `2> /dev/full` was a panic in the middle of the work.
#[test]
fn what_nobody_can_read_stops_nothing() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args(["inject", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(DEPLOYMENT.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("outrigger-proxy"));
}

#[test]
fn json_comes_out_as_json() {
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{"outrigger.dev/interception":"ports"}},"spec":{"containers":[{"name":"a"}]}}"#;
    let output = outrigger(&["inject", "-f", "-"], pod);
    assert!(output.contains("- pod/x skipped: NothingToIntercept"), "{output}");
    assert!(output.contains("--- stdout\n{\n  \"apiVersion\": \"v1\","), "{output}");
}

#[test]
fn every_kind_of_workload_is_found_in_lists_and_documents() {
    let pod = "{metadata: {}, spec: {containers: [{name: a, ports: [{name: http, containerPort: 80}]}]}}";
    let mut input = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: nightly}}\nspec: {{jobTemplate: {{spec: {{template: {pod}}}}}}}\n"
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
    let directory = Directory::new("profiles");
    let profile = directory.path("profile.yaml");
    std::fs::write(
        &profile,
        "{apiVersion: v1, kind: List, items: [{apiVersion: outrigger.dev/v1alpha1, kind: SidecarProfile, metadata: {name: default}, spec: {loglevel: x}}]}",
    )
    .unwrap();
    let output = outrigger(&["inject", "-f", "-", "--profile-file", &profile], DEPLOYMENT);
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
        output.starts_with("exit code 2\n--- stderr\nerror: failed to read no-such-file.yaml: "),
        "{output}"
    );
}

const TEMPLATE: &str =
    "{metadata: {}, spec: {containers: [{name: a, image: a, ports: [{name: http, containerPort: 80}]}]}}";

/// They passed through without a word, and their users believed that they were injected.
#[test]
fn kinds_that_are_not_known_are_told() {
    let rollout = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: web}}\nspec: {{template: {TEMPLATE}}}\n"
    );
    let old = format!(
        "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {{name: old}}\nspec: {{template: {TEMPLATE}}}\n"
    );
    let output = outrigger(&["inject", "-f", "-"], &format!("{rollout}---\n{old}"));
    assert_snapshot!(output.split("--- stdout").next().unwrap());
}

/// As the API server does, which the chart tells not to ask there.
#[test]
fn excluded_namespaces_are_skipped() {
    for (namespace, flag) in [
        ("kube-system", "--report=/dev/null"),
        ("outrigger-system", "--report=/dev/null"),
        ("infra", "--excluded-namespaces=infra"),
    ] {
        let output = outrigger(&["inject", "-n", namespace, flag, "-f", "-"], DEPLOYMENT);
        assert!(output.contains("- deployment/web skipped: ExcludedNamespace: "), "{output}");
        assert!(output.starts_with("exit code 0") && !output.contains("outrigger-proxy"), "{output}");
    }
}

/// They were ignored: the pod got `default`, or `ProfileNotFound`.
#[test]
fn profiles_among_the_manifests_count() {
    let profile = "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: web}\nspec: {proxy: {logLevel: debug}}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, annotations: {outrigger.dev/profile: web}}\n";
    let output = outrigger(&["inject", "-f", "-"], &format!("{profile}---\n{namespace}---{DEPLOYMENT}"));
    assert!(output.contains("default/web") && output.contains("\\\"logLevel\\\":\\\"debug\\\""), "{output}");
    let twice = outrigger(&["inject", "-f", "-"], &format!("{profile}---\n{profile}---{DEPLOYMENT}"));
    assert!(twice.starts_with("exit code 2\n--- stderr\nerror: SidecarProfile default/web is given twice, in standard input\n\nhint: "), "{twice}");
    let other = outrigger(&["inject", "-f", "-"], &profile.replace("v1alpha1", "v9"));
    assert!(other.contains("SidecarProfile web has apiVersion \"outrigger.dev/v9\""), "{other}");
}

/// `inject: true` of a Namespace was taken for no label at all.
#[test]
fn a_label_that_is_no_text_is_told() {
    let namespace =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {outrigger.dev/inject: true}}\n";
    assert_snapshot!(outrigger(&["inject", "-f", "-"], &format!("{namespace}---{DEPLOYMENT}")));
}

/// The library's words went on: "set `DuplicateKeyPolicy` in Options if acceptable".
#[test]
fn a_key_that_stands_twice_is_told_with_its_place() {
    let output = outrigger(&["inject", "-f", "-"], "apiVersion: v1\nkind: A\nkind: B\n");
    assert_eq!(
        output,
        "exit code 2\n--- stderr\nerror: standard input:3:1: duplicate mapping key: kind\n--- stdout\n"
    );
}

#[test]
fn the_report_is_json_for_programs() {
    let directory = Directory::new("report");
    let report = directory.path("report.json");
    let other = DEPLOYMENT
        .replace("name: web", "name: wrong, annotations: {}")
        .replace("    spec:", "    metadata: {annotations: {outrigger.dev/log-level: loud}}\n    spec:");
    outrigger(&["inject", "-f", "-", "--report", &report], &format!("{DEPLOYMENT}---{other}"));
    assert_snapshot!(std::fs::read_to_string(&report).unwrap());
}

/// A cluster from before 1.33: the choice is told as the webhook tells it.
#[test]
fn an_older_kubernetes_can_be_named() {
    let output = outrigger(&["inject", "-f", "-", "--kubernetes-version", "x"], DEPLOYMENT);
    assert!(output.starts_with("exit code 2") && output.contains("is no Kubernetes version"), "{output}");
    let output = outrigger(&["inject", "-f", "-", "--kubernetes-version", "1.34"], DEPLOYMENT);
    assert!(output.contains("√ deployment/web injected"), "{output}");
}

#[test]
fn completion_is_a_script_for_each_shell() {
    for (shell, sign) in
        [("bash", "complete -F _outrigger"), ("zsh", "#compdef outrigger"), ("fish", "complete -c outrigger")]
    {
        let output = outrigger(&["completion", shell], "");
        assert!(output.starts_with("exit code 0") && output.contains(sign), "{shell}: {output}");
    }
}

#[test]
fn the_version_is_told_with_the_name() {
    let version = concat!("outrigger ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(outrigger(&["--version"], "").ends_with(version));
}

/// A directory for one test, gone after it.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("outrigger-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
