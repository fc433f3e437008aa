//! The init container that writes the rules.

use outrigger_api::names::INIT_CONTAINER;
use outrigger_api::profile::SkipSpec;
use serde_json::{Value, json};

use crate::Settings;
use crate::proxy_container::without_token;
use crate::redirected::Redirected;

/// What the container depends on.
pub(crate) struct InitContainer<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) resources: Value,
    pub(crate) redirected: &'a Redirected,
    pub(crate) skip: &'a SkipSpec,
    /// The proxy's.
    pub(crate) user: i64,
}

pub(crate) fn container(init: &InitContainer) -> Value {
    let mut container = json!({
        "name": INIT_CONTAINER,
        "image": init.settings.sidecar_image,
        "command": ["/usr/local/bin/outrigger-redirect"],
        "args": args(init),
        "resources": init.resources,
        "volumeMounts": [without_token()],
        "securityContext": security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(policy) = &init.settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}

fn args(init: &InitContainer) -> Vec<String> {
    let InitContainer { redirected, skip, user, .. } = init;
    let mut args = vec![format!("--proxy-uid={user}")];
    let mut list = |flag: &str, items: Vec<String>| {
        if !items.is_empty() {
            args.push(format!("--{flag}={}", items.join(",")));
        }
    };
    let text = |numbers: &[u16]| numbers.iter().map(u16::to_string).collect();
    match &redirected.only {
        Some(only) if only.is_empty() => list("inbound-ports", vec!["none".to_owned()]),
        Some(only) => list("inbound-ports", text(only)),
        None => {}
    }
    list("skip-inbound-ports", text(&redirected.skipped));
    list("skip-outbound-ports", text(&skip.outbound_ports));
    list("skip-outbound-cidrs", skip.outbound_cidrs.iter().map(ToString::to_string).collect());
    list("skip-outbound-uids", skip.outbound_uids.iter().map(u32::to_string).collect());
    args
}

/// Root, with one capability and nothing else of what root may do. Another user gets the capability only by the program's file, which
/// not every copy of an image keeps; and the container is gone before any other starts.
fn security_context() -> Value {
    json!({
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}
