//! A pod that carries sidecars, beside what it would get if it were injected now.
//!
//! Both come from one document: the pod without our parts, and that pod injected again. They can differ only in what
//! injection owns, so a patch from one to the other touches nothing of anybody else.

use json_patch::Patch;
use outrigger_api::Reason;
use outrigger_api::names::{CONFIG_ANNOTATION, DEFAULT_CONTAINER_ANNOTATION, STATUS_ANNOTATION};
use serde::Deserialize;
use serde_json::Value;

use crate::edit::{Edit, escape};
use crate::outcome::Refusal;
use crate::owned::OUR_LABELS;
use crate::plan::{self, Planned};
use crate::pod::{CONTAINERS, INIT_CONTAINERS, Pod};
use crate::rendered::{self, Fields};
use crate::sentences::differences;
use crate::{Context, Report, owned, scraping, uninject};

/// What a pod with sidecars lacks.
pub(crate) struct Renewal {
    /// Brings the pod to what it would get now; without operations where nothing is missing.
    pub(crate) patch: Patch,
    pub(crate) report: Report,
    /// What needs a new pod, one sentence each.
    pub(crate) structural: Vec<String>,
    /// What a running sidecar takes as it runs.
    pub(crate) live: Vec<String>,
}

/// Decides about a pod with a status annotation: a second admission, after another webhook has changed the pod; a pod of
/// a template that was injected as a file; a copy; a pod restored from a backup.
pub(crate) fn decide(pod: &Value, status: &Report, context: &Context) -> Result<(Patch, Report), Refusal> {
    match renew(pod, status, context) {
        Ok(Renewal { patch, .. }) if patch.0.is_empty() => {
            Err(Refusal::skipped(Reason::AlreadyInjected, "the pod carries the sidecars already"))
        }
        Ok(Renewal { patch, report, .. }) => Ok((patch, report)),
        Err(refusal) if carries_sidecars(pod, status) => Err(left_as_it_is(refusal)),
        Err(refusal) => Err(refusal),
    }
}

/// The annotation alone is no proof: it is copied with a template, the container is not.
pub(crate) fn carries_sidecars(pod: &Value, status: &Report) -> bool {
    let mut containers = [CONTAINERS, INIT_CONTAINERS].into_iter().flat_map(|list| items(pod, list));
    containers.any(|container| status.containers.iter().any(|ours| ours == name(container)))
}

/// What was injected once still runs; to refuse it would take away what works.
fn left_as_it_is(refusal: Refusal) -> Refusal {
    let (reason, message) = match refusal {
        Refusal::Skipped { reason, message } => (reason, message),
        Refusal::Rejected { reason, errors } => (reason, errors.join("; ")),
    };
    Refusal::skipped(reason, format!("{message} (the sidecars that the pod has stay as they are)"))
}

/// Injects the pod anew, without our parts, and compares.
pub(crate) fn renew(pod: &Value, status: &Report, context: &Context) -> Result<Renewal, Refusal> {
    let mut wanted = pod.clone();
    uninject::take_out(&mut wanted, status);
    let config = config(pod);
    let kept = config["token"].as_str().unwrap_or_default();
    let token = if kept.is_empty() { context.token } else { kept };
    let answered = Vec::deserialize(&config["probes"]).unwrap_or_default();
    let Planned { patch, report, .. } = plan::plan(&wanted, &Context { token, ..*context }, answered)?;
    json_patch::patch(&mut wanted, &patch).expect("plan makes patches that fit the pod they were made for");
    let mut comparison = Comparison {
        edit: Edit::new(Pod::new(pod)?),
        now: pod,
        wanted: &wanted,
        then: status,
        report: &report,
        structural: Vec::new(),
    };
    comparison.containers_of_the_user();
    comparison.items(VOLUMES, &status.volumes, &report.volumes);
    for list in [CONTAINERS, INIT_CONTAINERS] {
        comparison.items(list, &status.containers, &report.containers);
    }
    let Comparison { mut edit, structural, .. } = comparison;
    let live = metadata(&mut edit, pod, &wanted);
    if !(structural.is_empty() && live.is_empty()) {
        let status = &wanted["metadata"]["annotations"][STATUS_ANNOTATION];
        edit.insert("/metadata/annotations", STATUS_ANNOTATION, status.clone());
        return Ok(Renewal { patch: edit.finish(), report, structural, live });
    }
    Ok(Renewal { patch: Patch::default(), report, structural, live })
}

/// The sidecar config that the pod has; null where it has none.
fn config(pod: &Value) -> Value {
    let config = pod["metadata"]["annotations"][CONFIG_ANNOTATION].as_str().unwrap_or_default();
    serde_json::from_str(config).unwrap_or_default()
}

const VOLUMES: &str = "/spec/volumes";

struct Comparison<'a> {
    edit: Edit<'a>,
    now: &'a Value,
    wanted: &'a Value,
    /// The status that the pod has.
    then: &'a Report,
    report: &'a Report,
    structural: Vec<String>,
}

impl Comparison<'_> {
    /// The containers that both have, by name: ours are in other places, the user's are the same ones.
    fn containers_of_the_user(&mut self) {
        let ours = |name: &str| {
            [&self.then.containers, &self.report.containers].into_iter().flatten().any(|n| n == name)
        };
        for list in [CONTAINERS, INIT_CONTAINERS] {
            // The same ones in the same order: a status that could take one of them away or rename it is not read.
            let wanted = items(self.wanted, list).iter().filter(|item| !ours(name(item)));
            let now = items(self.now, list).iter().enumerate().filter(|(_, item)| !ours(name(item)));
            for ((index, now), wanted) in now.zip(wanted) {
                let mut changes = Vec::new();
                owned::changes("", now, wanted, &mut changes);
                for change in changes {
                    self.structural.push(format!("container {}: {}", name(now), change.sentence()));
                    change.apply(&mut self.edit, &format!("{list}/{index}"));
                }
            }
        }
    }

    /// Our own items of a list. Those that are there are mended in place, field by field.
    fn items(&mut self, list: &str, then: &[String], now: &[String]) {
        let what = if list == VOLUMES { "volume" } else { "container" };
        let (there, wanted) = (items(self.now, list), items(self.wanted, list));
        let mut gone = Vec::new();
        let ours = |name: &str| then.iter().chain(now).any(|ours| ours == name);
        for (index, item) in there.iter().enumerate().filter(|(_, item)| ours(name(item))) {
            let name = name(item);
            match wanted.iter().find(|item| item["name"] == name) {
                Some(wanted) if now.iter().any(|ours| ours == name) => {
                    self.item(&format!("{list}/{index}"), &format!("{what} {name}"), item, wanted);
                }
                None if then.iter().any(|ours| ours == name) => gone.push((index, name)),
                _ => {}
            }
        }
        // From the end, so that the places of the others stay.
        for (index, name) in gone.into_iter().rev() {
            self.structural.push(format!("{what} {name} would be gone"));
            self.edit.remove(&format!("{list}/{index}"));
        }
        let missing = |item: &&Value| {
            now.iter().any(|ours| *ours == name(item)) && !there.iter().any(|t| t["name"] == item["name"])
        };
        for (index, item) in wanted.iter().enumerate().filter(|(_, item)| missing(item)) {
            self.structural.push(format!("{what} {} is missing", name(item)));
            self.edit.insert_item(list, index, item.clone());
        }
    }

    /// One container or volume of ours: a field is written when we would write another than we wrote.
    fn item(&mut self, path: &str, what: &str, now: &Value, wanted: &Value) {
        let key = what.rsplit_once(' ').map_or(what, |(_, name)| name);
        let then: Option<&Fields> = self.then.rendered.get(key);
        for (field, value) in wanted.as_object().into_iter().flatten() {
            let there = now.get(field);
            let known = then.and_then(|then| then.get(field));
            let written = known.is_some_and(|known| *known == rendered::hash(value));
            if field == "name"
                || written
                || (known.is_none() && owned::covers(there, value))
                || there == Some(value)
            {
                continue;
            }
            // Nobody adds ports to a sidecar of ours; elsewhere what we did not write may be a default.
            let found = differences(field, there, value, field == "ports");
            let found = if found.is_empty() { vec![format!("{field} would be written anew")] } else { found };
            self.structural.extend(found.iter().map(|found| format!("{what}: {found}")));
            let value = owned::with_what_others_added(field, there, value, items(self.wanted, VOLUMES));
            self.edit.insert(path, field, value);
        }
        for field in then.into_iter().flatten().map(|(field, _)| field) {
            if now.get(field).is_some() && wanted.get(field).is_none() {
                self.structural.push(format!("{what}: {field} would be gone"));
                self.edit.remove(&format!("{path}/{}", escape(field)));
            }
        }
    }
}

/// The labels and annotations of ours, but for the status, which says when it was written and not what is there.
fn metadata(edit: &mut Edit, now: &Value, wanted: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let annotations = scraping::keys();
    let annotations = annotations.iter().map(String::as_str).chain([DEFAULT_CONTAINER_ANNOTATION]);
    let labels = OUR_LABELS.into_iter().map(|key| ("labels", key));
    for (map, key) in labels.chain(annotations.map(|key| ("annotations", key))) {
        let what = format!("{} {key}", &map[..map.len() - 1]);
        let at = |pod: &Value| pod["metadata"][map].get(key).cloned();
        match (at(now), at(wanted)) {
            (now, wanted) if now == wanted => {}
            (now, Some(wanted)) => {
                let verb = if now.is_some() { "is another" } else { "is missing" };
                found.push(format!("{what} {verb}"));
                edit.insert(&format!("/metadata/{map}"), key, wanted);
            }
            // What is not ours stands in both.
            (_, None) => {
                found.push(format!("{what} would be gone"));
                edit.remove(&format!("/metadata/{map}/{}", escape(key)));
            }
        }
    }
    found.extend(config_differences(edit, now, wanted));
    found
}

/// Of the config, that it differs is not enough to know.
fn config_differences(edit: &mut Edit, now: &Value, wanted: &Value) -> Vec<String> {
    let text = &wanted["metadata"]["annotations"][CONFIG_ANNOTATION];
    if now["metadata"]["annotations"].get(CONFIG_ANNOTATION) == Some(text) {
        return Vec::new();
    }
    let is_there = now["metadata"]["annotations"].get(CONFIG_ANNOTATION).is_some();
    let (now, wanted) = (config(now), config(wanted));
    if is_there && now == wanted {
        return Vec::new();
    }
    edit.insert("/metadata/annotations", CONFIG_ANNOTATION, text.clone());
    if !is_there {
        return vec![format!("annotation {CONFIG_ANNOTATION} is missing")];
    }
    let differences = differences("", Some(&now), &wanted, true);
    differences.into_iter().map(|found| format!("config: {found}")).collect()
}

fn items<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod.pointer(list).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}
