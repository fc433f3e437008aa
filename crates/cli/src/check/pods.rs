//! Pods that run and are not as they should be.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use outrigger_api::names::{DEFAULT_PROFILE, ENABLED, INJECT_LABEL, INJECTED_LABEL};
use outrigger_inject::{Standing, is_live};
use serde_json::{Value, json};

use super::line::{Lines, Outcome};
use crate::cluster::{AskError, Cluster};
use crate::installation::{self, add_profiles, namespace_of};
use crate::judge::Judge;
use crate::output::str_at;
use crate::owner::Owner;
use crate::target::Target;

const MISSED: &str = "MissedPods";
const OUTDATED: &str = "OutdatedPods";

/// What is wrong with the pods of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    Missing,
    Refused,
    Outdated,
    Reconfigurable,
}

/// The pods, and what differs in the first.
struct Pods {
    names: Vec<String>,
    why: Vec<String>,
}

/// Looks at every pod of the namespace, or of all, and tells of the wrong ones by their owners.
pub(crate) async fn check(cluster: &Cluster, judge: &mut Judge, namespace: Option<&str>, lines: &mut Lines) {
    lines.progress("pods");
    let Some(()) = lines.answer(MISSED, learn_namespaces(cluster, judge, namespace).await) else { return };
    let known = lines.answer(OUTDATED, learn_profiles(cluster, judge, namespace).await).is_some();
    if !known {
        // The chart's own. Pods that ask for another can't be judged.
        let release = judge.install.release_namespace.clone();
        judge.profiles.set(&release, DEFAULT_PROFILE, &json!({}));
    }
    let mut wrong: BTreeMap<(Wrong, Owner), Pods> = BTreeMap::new();
    let mut seen = 0;
    let place = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    let answer = cluster
        .each(&format!("/api/v1{place}/pods"), "", "list pods", |pod| {
            if !is_live(&pod) || !concerned(judge, &pod) {
                return;
            }
            seen += 1;
            let (kind, why) = match judge.standing(&pod, str_at(&pod, "/metadata/namespace")) {
                Standing::Missing => (Wrong::Missing, Vec::new()),
                // By a profile that nobody has seen.
                _ if !known => return,
                Standing::Refused { reason, errors } => {
                    (Wrong::Refused, vec![format!("{reason}: {}", errors.join("; "))])
                }
                Standing::Outdated { differences } => (Wrong::Outdated, differences),
                Standing::Reconfigurable { differences, .. } => (Wrong::Reconfigurable, differences),
                Standing::Outside { .. } | Standing::Current => return,
            };
            let one = str_at(&pod, "/metadata/name").to_owned();
            let pods = wrong.entry((kind, Owner::of(&pod))).or_insert(Pods { names: Vec::new(), why });
            pods.names.push(one);
        })
        .await;
    if lines.answer(MISSED, answer).is_none() {
        return;
    }
    for ((kind, owner), pods) in &wrong {
        tell(*kind, owner, pods, lines);
    }
    if !known {
        return;
    }
    if !lines.found(MISSED) {
        lines.good(MISSED, format!("pods that a label concerns: {seen}, none without its sidecar"));
    }
    // Without settings only profiles were compared.
    if !lines.found(OUTDATED) && judge.settings.is_some() {
        lines.good(OUTDATED, "no sidecar is older than its profile or the webhook");
    }
}

/// Every namespace in one question, rather than one for each.
async fn learn_namespaces(
    cluster: &Cluster,
    judge: &mut Judge,
    namespace: Option<&str>,
) -> Result<(), AskError> {
    let namespaces: Vec<_> = if let Some(name) = namespace {
        installation::namespace(cluster, name).await?.into_iter().collect()
    } else {
        let all = cluster.list("/api/v1/namespaces", "", "list namespaces").await?;
        all.iter().map(namespace_of).collect()
    };
    judge.namespaces = namespaces.into_iter().map(|namespace| (namespace.name.clone(), namespace)).collect();
    Ok(())
}

/// Every profile in one question; for one namespace its own, and then those of the release, which its pods use too.
async fn learn_profiles(
    cluster: &Cluster,
    judge: &mut Judge,
    namespace: Option<&str>,
) -> Result<(), AskError> {
    add_profiles(cluster, namespace, &mut judge.profiles).await?;
    if namespace.is_some() {
        let release = judge.install.release_namespace.clone();
        add_profiles(cluster, Some(&release), &mut judge.profiles).await?;
    }
    Ok(())
}

/// Whether anything about the pod can be wrong; of most pods of a cluster nothing can, and they cost no decision.
fn concerned(judge: &Judge, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let namespace = judge.namespaces.get(str_at(pod, "/metadata/namespace"));
    let enabled =
        namespace.is_some_and(|namespace| namespace.labels.get(INJECT_LABEL).is_some_and(|v| v == ENABLED));
    enabled || !labels[INJECT_LABEL].is_null() || !labels[INJECTED_LABEL].is_null()
}

fn tell(kind: Wrong, owner: &Owner, pods: &Pods, lines: &mut Lines) {
    let Pods { names, why } = pods;
    let (count, why) = (names.len(), why.join("; "));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let Owner { namespace, .. } = owner;
    // An Argo Rollout is no kind that `explain` and `reconfigure` know.
    let name = if Target::from_str(&owner.to_string()).is_ok() {
        owner.to_string()
    } else {
        format!("pod/{}", names[0])
    };
    let whose = if owner.kind == "pod" {
        format!("pod {} in namespace {namespace}", owner.name)
    } else {
        let plural = if count == 1 { "pod" } else { "pods" };
        format!("{count} {plural} of {owner} in namespace {namespace}")
    };
    let (check, result, message, mend) = match kind {
        Wrong::Missing => {
            let message = format!(
                "{whose} without the sidecar that the label asks for: created before the label, or while no webhook answered"
            );
            (MISSED, Outcome::Failed, message, owner.restart(&names))
        }
        Wrong::Refused => {
            let message = format!("{whose} would be refused if made anew: {why}");
            let explain = format!("outrigger explain --namespace {namespace} {name}");
            (MISSED, Outcome::Failed, message, Some(explain))
        }
        Wrong::Outdated => {
            (OUTDATED, Outcome::Warning, format!("{whose}: outdated: {why}"), owner.restart(&names))
        }
        Wrong::Reconfigurable => {
            let message = format!("{whose}: the profile has changed, and needs no restart: {why}");
            let reconfigure = format!("outrigger reconfigure --namespace {namespace} {name}");
            (OUTDATED, Outcome::Warning, message, Some(reconfigure))
        }
    };
    let message =
        if mend.is_none() { format!("{message}. The next run of the Job brings it") } else { message };
    lines.push(check, result, Some(format!("{namespace}/{owner}")), message, mend);
}
