//! What injection owns in one container or volume: where two versions of it differ.

use outrigger_api::names::{
    APP_METRICS_LABEL, CONFIG_ANNOTATION, CONFIG_VOLUME, FINISH_LABEL, INIT_CONTAINER, INJECTED_LABEL,
    LOGS_CONTAINER, PROXY_CONTAINER, SECRET_VOLUME_PREFIX, SHARED_VOLUME, STATUS_ANNOTATION, SYNC_CONTAINER,
};
use outrigger_api::quantity::Quantity;
use serde_json::Value;

use crate::edit::{Edit, escape};
use crate::secrets::{MAX_SECRETS, volume_name};
use crate::sentences::differs;

/// The containers that injection adds. By their names and not by a prefix, which a user's own may have.
pub(crate) const OUR_CONTAINERS: [&str; 4] =
    [INIT_CONTAINER, PROXY_CONTAINER, LOGS_CONTAINER, SYNC_CONTAINER];

/// How many volumes injection adds beside those of Secrets.
pub(crate) const OUR_VOLUMES: usize = 2;

/// Whether injection adds a volume of that name.
pub(crate) fn is_our_volume(name: &str) -> bool {
    let number = || name.strip_prefix(SECRET_VOLUME_PREFIX)?.parse().ok();
    let of_secret = |number: &usize| *number < MAX_SECRETS && volume_name(*number) == name;
    name == CONFIG_VOLUME || name == SHARED_VOLUME || number().as_ref().is_some_and(of_secret)
}

/// The labels that injection sets.
pub(crate) const OUR_LABELS: [&str; 3] = [INJECTED_LABEL, FINISH_LABEL, APP_METRICS_LABEL];
/// The annotations that injection writes into every pod.
pub(crate) const OUR_ANNOTATIONS: [&str; 2] = [CONFIG_ANNOTATION, STATUS_ANNOTATION];

/// One field of the user's that injection owns, and that is not as it would be.
pub(crate) struct Change<'a> {
    /// JSON pointer in the container.
    path: String,
    now: Option<&'a Value>,
    wanted: Option<&'a Value>,
}

impl Change<'_> {
    pub(crate) fn sentence(&self) -> String {
        differs(&self.path[1..].trim_end_matches("/-").replace('/', "."), self.now, self.wanted)
    }

    pub(crate) fn apply(&self, edit: &mut Edit, container: &str) {
        let path = format!("{container}{}", self.path);
        match (self.now, self.wanted) {
            (Some(_), Some(wanted)) => edit.replace(&path, wanted.clone()),
            (Some(_), None) => edit.remove(&path),
            (None, Some(wanted)) => edit.add(&path, wanted.clone()),
            (None, None) => {}
        }
    }
}

/// Where two versions of a container of the user's differ. Both come from one document, so all of it is ours.
pub(crate) fn changes<'a>(path: &str, now: &'a Value, wanted: &'a Value, found: &mut Vec<Change<'a>>) {
    let change = |path: String, now, wanted| Change { path, now, wanted };
    match (now, wanted) {
        (now, wanted) if now == wanted => {}
        (Value::Object(now), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let path = format!("{path}/{}", escape(key));
                match now.get(key) {
                    Some(now) => changes(&path, now, wanted, found),
                    None => found.push(change(path, None, Some(wanted))),
                }
            }
            for (key, now) in now.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                found.push(change(format!("{path}/{}", escape(key)), Some(now), None));
            }
        }
        (Value::Array(now), Value::Array(wanted)) if path == "/env" && same_in_any_order(now, wanted) => {}
        (Value::Array(now), Value::Array(wanted)) if is_ours_among_others(now, wanted) => {
            // From the end, so that the places of the others stay.
            for (index, item) in
                now.iter().enumerate().rev().filter(|(_, item)| is_ours(item) && !wanted.contains(item))
            {
                found.push(change(format!("{path}/{index}"), Some(item), None));
            }
            for item in wanted.iter().filter(|item| is_ours(item) && !now.contains(item)) {
                found.push(change(format!("{path}/-"), None, Some(item)));
            }
        }
        (Value::Array(now), Value::Array(wanted)) if now.len() == wanted.len() => {
            for (index, (now, wanted)) in now.iter().zip(wanted).enumerate() {
                changes(&format!("{path}/{index}"), now, wanted, found);
            }
        }
        (now, wanted) => found.push(change(path.to_owned(), Some(now), Some(wanted))),
    }
}

/// A variable that others have set since stands behind ours, and before it when ours is set anew.
fn same_in_any_order(now: &[Value], wanted: &[Value]) -> bool {
    now.len() == wanted.len() && now.iter().all(|item| wanted.contains(item))
}

/// Lists that injection adds to, as `volumeMounts`: ours stand at their end, or where others have put theirs behind it.
fn is_ours_among_others(now: &[Value], wanted: &[Value]) -> bool {
    now.iter().chain(wanted).any(is_ours)
}

fn is_ours(item: &Value) -> bool {
    item["name"].as_str().is_some_and(is_our_volume)
}

/// Whether a field holds what is wanted, defaults of the API server and additions of others aside.
pub(crate) fn covers(now: Option<&Value>, wanted: &Value) -> bool {
    match (now, wanted) {
        (None, wanted) => wanted.is_null(),
        (Some(now), wanted) if now == wanted => true,
        (Some(Value::Object(now)), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| covers(now.get(key), wanted))
        }
        (Some(Value::Array(now)), Value::Array(wanted)) if wanted.iter().all(Value::is_object) => {
            wanted.iter().all(|wanted| now.iter().any(|now| covers(Some(now), wanted)))
        }
        (Some(Value::String(now)), Value::String(wanted)) => same_quantity(now, wanted),
        _ => false,
    }
}

/// The API server rewrites `1000m` as `1`.
fn same_quantity(now: &str, wanted: &str) -> bool {
    let (Ok(now), Ok(wanted)) = (Quantity::parse(now), Quantity::parse(wanted)) else { return false };
    !now.exceeds(&wanted) && !wanted.exceeds(&now)
}

/// A field of a container of ours, with the variables and mounts that other webhooks gave it (as that of EKS pod
/// identity does to every container) and without mounts of volumes that are no more.
pub(crate) fn with_what_others_added(
    field: &str,
    now: Option<&Value>,
    wanted: &Value,
    volumes: &[Value],
) -> Value {
    let (Some(now), Some(wanted_items)) = (now.and_then(Value::as_array), wanted.as_array()) else {
        return wanted.clone();
    };
    let key = match field {
        "env" => "name",
        "volumeMounts" => "mountPath",
        _ => return wanted.clone(),
    };
    let others = now.iter().filter(|item| {
        let has_volume = || volumes.iter().any(|volume| volume["name"] == item["name"]);
        let free = !wanted_items.iter().any(|wanted| wanted[key] == item[key]);
        free && (field == "env" || (!is_ours(item) && has_volume()))
    });
    wanted_items.iter().chain(others).cloned().collect()
}
