//! Kubernetes Events: what was decided about a pod, on the object that made it, where `kubectl describe` shows it.
//!
//! On the pod's owner, because at admission the pod has no UID and may never get one. Never in the way of an admission:
//! they wait in a small room and are written one by one; what does not fit in is dropped and counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use outrigger_inject::Outcome;
use serde_json::Value;
use tokio::sync::Notify;

use crate::decision::{INJECTED, expected};
use crate::lookup::why;
use crate::metrics::{EventResult, Metrics};
use crate::review::Request;

/// Events that wait to be written. A rollout of hundreds of pods has few owners, and so few of them.
const ROOM: usize = 256;
/// From one write to the next: Events must not crowd out what the API server has to do for the pods themselves. It also
/// bounds what the recorder remembers, 6 minutes of them.
const PACE: Duration = Duration::from_millis(100);
/// Longest note that the API takes, in bytes.
const NOTE_LIMIT: usize = 1024;
/// Who we are in the Events.
const CONTROLLER: &str = "outrigger-webhook";

/// Takes Events. Clones share the room.
#[derive(Clone, Debug)]
pub struct Events {
    waiting: Arc<Waiting>,
    metrics: Metrics,
}

/// By the owner's UID, the reason and the note: what is told again before it was written is told once.
type Room = BTreeMap<(String, &'static str, String), Entry>;

#[derive(Debug, Default)]
struct Waiting {
    events: Mutex<Room>,
    more: Notify,
}

#[derive(Debug)]
struct Entry {
    about: ObjectReference,
    kind: EventType,
    /// Whether one Event counts this and what is told again of the owner for the same reason.
    counts: bool,
}

impl Events {
    /// An empty room.
    pub fn new(metrics: Metrics) -> Self {
        Self { waiting: Arc::default(), metrics }
    }

    /// Tells what was decided. Not of a dry run, which must leave no trace, nor of what users ask for.
    pub(crate) fn decided(&self, request: &Request, outcome: &Outcome) {
        let (kind, reason, note) = match outcome {
            _ if request.dry_run == Some(true) => return,
            Outcome::Skipped { reason, .. } if expected(*reason) => return,
            Outcome::Injected { report, .. } => {
                let profile = format!("got the sidecars of profile {}", report.profile);
                let note = [&[profile], &report.warnings[..]].concat().join("; ");
                (EventType::Normal, INJECTED, note)
            }
            Outcome::Skipped { reason, message } => {
                (EventType::Warning, reason.code(), format!("pod not injected: {message}"))
            }
            Outcome::Rejected { reason, errors } => {
                (EventType::Warning, reason.code(), format!("pod refused: {}", errors.join("; ")))
            }
        };
        if let Some(owner) = owner(&request.object, &request.namespace) {
            self.put(Entry { about: owner, kind, counts: true }, reason, note);
        }
    }

    /// Tells something about this object, in an Event of its own.
    pub(crate) fn tell(&self, about: ObjectReference, kind: EventType, reason: &'static str, note: String) {
        self.put(Entry { about, kind, counts: false }, reason, note);
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.events().len()
    }

    fn put(&self, entry: Entry, reason: &'static str, note: String) {
        // Cut here and not where it is written: hundreds may wait.
        let key = (entry.about.uid.clone().unwrap_or_default(), reason, fit(note));
        let mut events = self.waiting.events();
        let result = if events.contains_key(&key) {
            "merged"
        } else if events.len() >= ROOM {
            "dropped"
        } else {
            events.insert(key, entry);
            self.waiting.more.notify_one();
            return;
        };
        self.count(result);
    }

    /// Writes what comes, for ever, as `instance`.
    pub async fn publish(self, client: Client, instance: String) {
        let reporter = Reporter { controller: CONTROLLER.into(), instance: Some(instance) };
        let counting = Recorder::new(client.clone(), reporter.clone());
        let mut failing = false;
        loop {
            let next = self.waiting.events().pop_first();
            let Some(((_, reason, note), Entry { about, kind, counts })) = next else {
                self.waiting.more.notified().await;
                continue;
            };
            let event = Event {
                type_: kind,
                reason: reason.into(),
                note: Some(note),
                action: "Inject".into(),
                secondary: None,
            };
            // A recorder that has written the reason before counts it there and drops the new note.
            let written = if counts {
                counting.publish(&event, &about).await
            } else {
                Recorder::new(client.clone(), reporter.clone()).publish(&event, &about).await
            };
            self.count(if written.is_ok() { "published" } else { "failed" });
            // Once, not for each: without the right to write them, that would be every admission.
            if let Err(error) = &written
                && !failing
            {
                tracing::warn!(
                    why = why(error),
                    "failed to write event, and tells no more of it until one is written"
                );
            }
            failing = written.is_err();
            tokio::time::sleep(PACE).await;
        }
    }

    fn count(&self, result: &'static str) {
        self.metrics.events.get_or_create(&EventResult { result }).inc();
    }
}

impl Waiting {
    fn events(&self) -> MutexGuard<'_, Room> {
        // A panic elsewhere leaves no half-made entry behind.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The object that made the pod, if one did.
pub(crate) fn owner(pod: &Value, namespace: &str) -> Option<ObjectReference> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let text = |field: &str| owner[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(ObjectReference {
        api_version: Some(text("apiVersion")?),
        kind: Some(text("kind")?),
        name: Some(text("name")?),
        namespace: Some(namespace.to_owned()),
        uid: Some(text("uid")?),
        ..ObjectReference::default()
    })
}

fn fit(mut note: String) -> String {
    if note.len() > NOTE_LIMIT {
        note.truncate(note.floor_char_boundary(NOTE_LIMIT - '…'.len_utf8()));
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_controller_is_the_owner() {
        let reference = |name: &str, controller: bool| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u1", "controller": controller});
        let pod = |owners: Value| json!({"metadata": {"ownerReferences": owners}});
        let owner = |pod: &Value| super::owner(pod, "shop").and_then(|owner| owner.name);
        assert_eq!(owner(&pod(json!([reference("a", false), reference("b", true)]))), Some("b".into()));
        assert_eq!(owner(&pod(json!([reference("a", false)]))), None);
        assert_eq!(owner(&pod(json!([{"controller": true, "name": "no uid"}]))), None);
        assert_eq!(owner(&pod(Value::Null)), None);
    }

    #[test]
    fn room_is_bounded_and_the_same_is_told_once() {
        let metrics = Metrics::unregistered();
        let events = Events::new(metrics.clone());
        let about = |uid: usize| ObjectReference { uid: Some(uid.to_string()), ..ObjectReference::default() };
        for uid in 0..ROOM + 3 {
            for _ in 0..2 {
                events.tell(about(uid), EventType::Normal, INJECTED, String::new());
            }
        }
        let count = |result| metrics.events.get_or_create(&EventResult { result }).get();
        assert_eq!((count("merged"), count("dropped")), (ROOM as u64, 6));
        assert_eq!(events.waiting.events().len(), ROOM);
    }

    #[test]
    fn note_fits_the_api() {
        let long = fit("é".repeat(600));
        assert!(long.len() <= NOTE_LIMIT && long.ends_with('…'));
        assert_eq!(fit("short".into()), "short");
    }
}
