//! The resource `SidecarProfile`, and the profiles in it.

use kube::CustomResourceExt as _;
use outrigger_api::profile::{SidecarProfile, SidecarProfileSpec};
use serde_json::{Map, Value};

use super::line::{Lines, Outcome};
use crate::cluster::Cluster;
use crate::installation::profiles_path;
use crate::output::str_at;

const CHECK: &str = "CustomResourceDefinition";
const PROFILES: &str = "Profiles";
const NAME: &str = "sidecarprofiles.outrigger.dev";
const APPLY: &str = "kubectl apply --server-side --force-conflicts --filename charts/outrigger/crds";

/// Whether the resource is there (where `wanted`) and has this version's schema, and the profiles in it are sound.
pub(crate) async fn check(cluster: &Cluster, wanted: bool, lines: &mut Lines) {
    lines.progress(NAME);
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}");
    let found = cluster.find(&path, &format!("read customresourcedefinition {NAME}")).await;
    match lines.answer(CHECK, found) {
        None => {}
        Some(None) if wanted => return lines.failed(CHECK, format!("{NAME} is not there"), APPLY),
        Some(None) => return lines.good(CHECK, format!("{NAME} is not there yet; the chart brings it")),
        Some(Some(definition)) => compare(&definition, lines),
    }
    profiles(cluster, lines).await;
}

fn compare(definition: &Value, lines: &mut Lines) {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    if !conditions.into_iter().any(|is| is["type"] == "Established" && is["status"] == "True") {
        return lines.failed(CHECK, format!("{NAME} is not served"), format!("kubectl describe crd {NAME}"));
    }
    let ours = serde_json::to_value(SidecarProfile::crd()).unwrap_or_default();
    let schema = |definition: &Value| {
        let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
        let version = versions.into_iter().find(|version| version["name"] == "v1alpha1");
        version.map(|mut version| version["schema"]["openAPIV3Schema"].take()).unwrap_or_default()
    };
    if alike(&schema(&ours), &schema(definition)) {
        lines.good(CHECK, format!("{NAME} is served with the schema of this version"));
    } else {
        let message = format!(
            "{NAME} has another schema than {}: what profiles say may be dropped or refused. Helm never changes it",
            env!("CARGO_PKG_VERSION")
        );
        lines.warning(CHECK, message, APPLY);
    }
}

/// Equal, but for what an API server writes otherwise: `1` for `1.0`, and nothing for null or for `nullable: false`.
fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys()).all(|key| alike(written(a, key), written(b, key)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn written<'a>(object: &'a Map<String, Value>, key: &str) -> &'a Value {
    match object.get(key) {
        Some(Value::Bool(false)) if key == "nullable" => &Value::Null,
        value => value.unwrap_or(&Value::Null),
    }
}

async fn profiles(cluster: &Cluster, lines: &mut Lines) {
    lines.progress("profiles");
    let mut count = 0;
    let mut unsound = Vec::new();
    let answer = cluster
        .each(&profiles_path(None), "", "list sidecarprofiles", |profile| {
            count += 1;
            if let Err(faults) = SidecarProfileSpec::parse(&profile["spec"]) {
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                let place = |field| str_at(&profile, field).to_owned();
                unsound.push((place("/metadata/namespace"), place("/metadata/name"), faults.join("; ")));
            }
        })
        .await;
    if lines.answer(PROFILES, answer).is_none() {
        return;
    }
    for (namespace, name, faults) in &unsound {
        let object = format!("{namespace}/sidecarprofile/{name}");
        let message = format!("SidecarProfile {namespace}/{name} refuses every pod that names it: {faults}");
        let mend = format!("kubectl --namespace {namespace} edit sidecarprofile {name}");
        lines.push(PROFILES, Outcome::Failed, Some(object), message, Some(mend));
    }
    if unsound.is_empty() {
        let plural = if count == 1 { "profile" } else { "profiles" };
        lines.good(PROFILES, format!("{count} {plural}, none with a fault"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_alike_whatever_way_they_are_written() {
        assert!(alike(
            &json!({"a": 1.0, "b": null, "c": [1], "nullable": false}),
            &json!({"c": [1], "a": 1})
        ));
        let unlike = [json!({"a": 2}), json!({"a": 1, "d": {}}), json!({"a": 1, "c": []}), json!({})];
        for other in
            unlike.into_iter().chain([json!({"a": 1, "d": false}), json!({"a": 1, "nullable": true})])
        {
            assert!(!alike(&json!({"a": 1}), &other), "{other}");
        }
    }
}
