//! Where pods come from: the API server, or a file.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, ResourceExt};
use outrigger_api::names::INJECTED_LABEL;
use outrigger_runtime::readiness::Condition;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::pod::{Key, Pod};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Pods watched at most: some 40 kB each with 8 routes, and 175 kB with 200.
pub(crate) const MOST_PODS: usize = 5000;

/// What has become of pods. One at a time where it can be: a rollout of thousands changes each of them several times.
#[derive(Debug)]
pub(crate) enum Change {
    /// These are all.
    All(List),
    /// This one is there, or another than it was.
    Is(Arc<Pod>),
    /// This one is no more.
    Gone(Key),
}

/// All pods of one time.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// No more than are watched.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// The names of the others.
    pub(crate) left_out: HashSet<Key>,
}

impl Extend<Pod> for List {
    fn extend<T: IntoIterator<Item = Pod>>(&mut self, pods: T) {
        for pod in pods {
            if self.pods.len() < MOST_PODS {
                self.pods.push(Arc::new(pod));
            } else {
                self.left_out.insert(pod.key);
            }
        }
    }
}

/// Tells the pods of the cluster, for ever. A watch that fails starts again, and what is known stays.
pub(crate) async fn cluster(client: Client, changes: Sender<Change>, synced: Condition) {
    let resource = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: "Pod".into(),
        plural: "pods".into(),
    };
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    // In pages, because a pod has some 10 kB and a list of thousands would be held whole.
    let config = watcher::Config::default().labels(&format!("{INJECTED_LABEL}=true")).page_size(100);
    let mut events = pin!(watch(api, config).default_backoff());
    let mut listed = List::default();
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => {
                listed = List::default();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(pod(&object));
                continue;
            }
            Ok(Event::InitDone) => Change::All(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => match pod(&object) {
                Some(pod) => Change::Is(Arc::new(pod)),
                None => Change::Gone(key(&object)),
            },
            Ok(Event::Delete(object)) => Change::Gone(key(&object)),
            Err(error) => {
                tracing::warn!(%error, "watch of pods failed and starts again");
                continue;
            }
        };
        let all = matches!(change, Change::All(_));
        if changes.send(change).await.is_err() {
            return;
        }
        if all {
            synced.set(true);
        }
    }
}

fn key(object: &DynamicObject) -> Key {
    Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn pod(object: &DynamicObject) -> Option<Pod> {
    Pod::of(&serde_json::to_value(object).ok()?)
}

/// Tells the pods of a file, for ever. A file that can't be used changes nothing.
pub(crate) async fn file(path: PathBuf, changes: Sender<Change>, synced: Condition) {
    let mut seen = None;
    loop {
        let found = version(&path);
        if seen.as_ref() != Some(&found) {
            match found.as_ref().map_err(Clone::clone).and_then(|_| read(&path)) {
                Ok(list) => {
                    if changes.send(Change::All(list)).await.is_err() {
                        return;
                    }
                    synced.set(true);
                }
                Err(error) => tracing::warn!(file = %path.display(), error, "failed to read pods"),
            }
            seen = Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What changes when the file does: reading thousands of pods four times a second would be most of the collector's work.
fn version(path: &Path) -> Result<(u64, i64, i64, u64), String> {
    let of = |file: Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.len());
    fs::metadata(path).map(of).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Document {
    items: Vec<Value>,
}

fn read(path: &Path) -> Result<List, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let document: Document = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut list = List::default();
    list.extend(document.items.iter().filter_map(Pod::of));
    Ok(list)
}
