//! A profile's `status`: whether it is valid, and how many pods use it.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use outrigger_api::Reason;
use outrigger_api::profile::SidecarProfileSpec;
use serde_json::{Value, json};

use crate::audit::Census;
use crate::lookup::why;
use crate::metrics::{Metrics, Outcome};
use crate::watch::profile_resource;

/// Profiles in one page of the list.
const PAGE: u32 = 100;
/// Longest message of a condition, in bytes.
/// <https://kubernetes.io/docs/reference/kubernetes-api/definitions/condition-v1-meta/>
const MESSAGE_LIMIT: usize = 32_768;

/// The profiles whose status could not be written, as `namespace/name`, and why.
pub(crate) type Unwritten = BTreeMap<String, String>;

/// Writes the status of every profile whose status is another. One that can't be written keeps no other from its own; it is logged
/// unless `before` has it for the same reason.
///
/// As raw JSON: a profile that does not fit our types is the one whose status matters most.
pub(crate) async fn write(
    client: &Client,
    census: &Census,
    metrics: &Metrics,
    before: &Unwritten,
) -> kube::Result<Unwritten> {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &profile_resource());
    let mut params = ListParams::default().limit(PAGE);
    let mut unwritten = Unwritten::new();
    loop {
        let list = all.list(&params).await?;
        for profile in &list.items {
            let (namespace, name) = (profile.namespace().unwrap_or_default(), profile.name_any());
            let key = format!("{namespace}/{name}");
            let pods = census.profiles.get(&key).copied().unwrap_or(0);
            let Some(status) = change(profile, pods, Timestamp::now()) else { continue };
            let written = write_one(client, &namespace, &name, &status).await;
            if let Err(kube::Error::Api(status)) = &written
                && status.code == 404
            {
                // Deleted meanwhile, or a CRD of before there was a status: helm does not upgrade those.
                tracing::debug!(namespace, name, why = status.message, "profile has no status");
                continue;
            }
            metrics.profile_statuses.get_or_create(&Outcome::of(&written)).inc();
            match written {
                Ok(()) => {}
                // Such as a 422 for a spec from before the CustomResourceDefinition had that rule.
                Err(error @ kube::Error::Api(_)) => {
                    let why = why(&error);
                    if before.get(&key) != Some(&why) {
                        tracing::warn!(namespace, profile = name, why, "failed to write status of profile");
                    }
                    unwritten.insert(key, why);
                }
                // The connection, and so no profile's own.
                Err(error) => return Err(error),
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(unwritten),
        }
    }
}

async fn write_one(client: &Client, namespace: &str, name: &str, status: &Value) -> kube::Result<()> {
    let place: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &profile_resource());
    let patch = Patch::Merge(json!({"status": status}));
    place.patch_status(name, &PatchParams::default(), &patch).await.map(|_| ())
}

/// What the status has to be, if it is not that.
fn change(profile: &DynamicObject, pods: i64, now: Timestamp) -> Option<Value> {
    let status = &profile.data["status"];
    let before =
        status["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Valid"));
    let (valid, reason, message) = match SidecarProfileSpec::parse(&profile.data["spec"]) {
        Ok(_) => ("True", "Valid", "pods can use it".to_owned()),
        Err(faults) => {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let mut message = faults.join("; ");
            message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
            ("False", Reason::InvalidProfile.code(), message)
        }
    };
    let since =
        before.filter(|before| before["status"] == valid).map(|before| before["lastTransitionTime"].clone());
    let generation = profile.metadata.generation.unwrap_or_default();
    let ours = json!({
        "type": "Valid",
        "status": valid,
        "observedGeneration": generation,
        "lastTransitionTime": since.unwrap_or_else(|| now.to_string().into()),
        "reason": reason,
        "message": message,
    });
    // Whoever else has a condition to write keeps it: a merge replaces the list.
    let others = status["conditions"].as_array().into_iter().flatten().filter(|one| one["type"] != "Valid");
    let conditions: Vec<_> = others.cloned().chain([ours]).collect();
    let wanted = json!({"observedGeneration": generation, "pods": pods, "conditions": conditions});
    let differs = |(field, value): (&String, &Value)| status[field] != *value;
    wanted.as_object().is_some_and(|wanted| wanted.iter().any(differs)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(spec: &Value, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile",
            "metadata": {"name": "web", "namespace": "shop", "generation": 3}, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn status_is_written_once_and_keeps_the_time_of_its_last_turn() {
        let first = change(&profile(&json!({}), &Value::Null), 2, Timestamp::UNIX_EPOCH).unwrap();
        let condition = &first["conditions"][0];
        assert_eq!((&first["pods"], &first["observedGeneration"]), (&json!(2), &json!(3)));
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Valid")));
        assert_eq!(change(&profile(&json!({}), &first), 2, Timestamp::now()), None);

        let more = change(&profile(&json!({}), &first), 3, Timestamp::now()).unwrap();
        assert_eq!(more["conditions"], first["conditions"]);

        let mut with_others = first.clone();
        with_others["conditions"].as_array_mut().unwrap().insert(0, json!({"type": "Theirs"}));
        with_others["theirs"] = 1.into();
        assert_eq!(change(&profile(&json!({}), &with_others), 2, Timestamp::now()), None);
        let more = change(&profile(&json!({}), &with_others), 3, Timestamp::now()).unwrap();
        assert_eq!(more["conditions"], with_others["conditions"]);

        let broken = change(&profile(&json!({"proxi": {}}), &first), 3, Timestamp::now()).unwrap();
        let broken = &broken["conditions"][0];
        assert_eq!((&broken["status"], &broken["reason"]), (&json!("False"), &json!("InvalidProfile")));
        assert!(broken["message"].as_str().unwrap().contains("spec.proxi"), "{broken}");
        assert_ne!(broken["lastTransitionTime"], condition["lastTransitionTime"]);
    }
}
