//! The commands that bring a workload to where it should be.

use outrigger_api::Reason;
use outrigger_api::names::{ENABLED, INJECT_LABEL};
use outrigger_inject::{Decision, Explanation, Place, Standing};

use super::Running;
use crate::owner::Owner;

/// First what changes the decision, then what brings it to the pods that run.
pub(super) fn commands(
    workload: &str,
    namespace: &str,
    explanation: &Explanation,
    pods: &[(&Owner, &Running)],
) -> Vec<String> {
    let mut commands = match &explanation.decision {
        Decision::Injected { .. } => Vec::new(),
        Decision::Skipped { reason, .. } | Decision::Rejected { reason, .. } => {
            mend(*reason, workload, namespace, explanation)
        }
    };
    let decision_changes = !commands.is_empty();
    for (owner, running) in pods {
        let command = match &running.standing {
            Standing::Missing | Standing::Outdated { .. } => owner.restart(&[&running.pod]),
            Standing::Reconfigurable { .. } => {
                Some(format!("outrigger reconfigure --namespace {namespace} {workload}"))
            }
            // What is changed above reaches only pods that are made after it.
            Standing::Outside { .. } | Standing::Refused { .. } if decision_changes => {
                owner.restart(&[&running.pod])
            }
            Standing::Outside { .. } | Standing::Refused { .. } | Standing::Current => continue,
        };
        if let Some(command) = command.filter(|command| !commands.contains(command)) {
            commands.push(command);
        }
    }
    commands
}

fn mend(reason: Reason, workload: &str, namespace: &str, explanation: &Explanation) -> Vec<String> {
    let on_pod = explanation.opt_in.as_ref().is_some_and(|opt_in| opt_in.place == Place::Pod);
    let edit = edit(workload, namespace);
    match reason {
        Reason::NotOptedIn | Reason::OptedOut | Reason::InvalidLabel if on_pod => {
            vec![label(workload, namespace)]
        }
        Reason::NotOptedIn | Reason::OptedOut | Reason::InvalidLabel => {
            vec![format!("kubectl label --overwrite namespace {namespace} {INJECT_LABEL}={ENABLED}")]
        }
        Reason::ProfileNotFound => vec!["kubectl get sidecarprofiles --all-namespaces".to_owned(), edit],
        Reason::InvalidProfile => {
            let id = explanation.profile.id.as_deref().and_then(|id| id.split_once('/'));
            let (place, name) = id.unwrap_or((namespace, &explanation.profile.name));
            vec![format!("kubectl --namespace {place} edit sidecarprofile {name}")]
        }
        Reason::InvalidAnnotation => {
            let places = [Place::Pod, Place::Namespace];
            let given = |place| explanation.overrides.iter().any(|given| given.place == place);
            let namespace = format!("kubectl edit namespace {namespace}");
            places
                .into_iter()
                .filter(|place| given(*place))
                .map(|place| if place == Place::Pod { edit.clone() } else { namespace.clone() })
                .collect()
        }
        Reason::HostNetwork
        | Reason::NothingToIntercept
        | Reason::NameCollision
        | Reason::PortCollision
        | Reason::UidCollision
        | Reason::MountCollision
        | Reason::ContainerNotFound
        | Reason::NativeSidecarsUnavailable
        | Reason::MalformedPod => vec![edit],
        Reason::AlreadyInjected | Reason::ExcludedNamespace | Reason::MirrorPod | Reason::WindowsPod => {
            Vec::new()
        }
    }
}

/// The specs of Pods and Jobs can't be changed: they are made anew from their manifest.
fn edit(workload: &str, namespace: &str) -> String {
    let file = workload.replace('/', "-");
    if workload.starts_with("pod/") {
        return format!(
            "kubectl --namespace {namespace} get {workload} -o yaml > {file}.yaml && \"${{EDITOR:-vi}}\" {file}.yaml && kubectl replace --force -f {file}.yaml"
        );
    }
    if workload.starts_with("job/") {
        return format!(
            "kubectl --namespace {namespace} delete {workload}    # and create it again from its mended manifest"
        );
    }
    format!("kubectl --namespace {namespace} edit {workload}")
}

/// The label on the pods: of a workload, on the template of its pods.
fn label(workload: &str, namespace: &str) -> String {
    if workload.starts_with("pod/") {
        return format!(
            "kubectl --namespace {namespace} label --overwrite {workload} {INJECT_LABEL}={ENABLED}"
        );
    }
    if workload.starts_with("job/") {
        return edit(workload, namespace);
    }
    let template =
        format!("{{\"template\":{{\"metadata\":{{\"labels\":{{\"{INJECT_LABEL}\":\"{ENABLED}\"}}}}}}}}");
    let spec = if workload.starts_with("cronjob/") {
        format!("{{\"jobTemplate\":{{\"spec\":{template}}}}}")
    } else {
        template
    };
    format!("kubectl --namespace {namespace} patch {workload} --type merge --patch '{{\"spec\":{spec}}}'")
}
