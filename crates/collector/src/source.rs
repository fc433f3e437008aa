//! Where pods come from: the API server, or a file.

use std::collections::BTreeMap;
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
use tokio::sync::watch::Sender;

use crate::pod::{Key, Pod, Pods};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Tells the pods of the cluster, all of them each time, for ever. A watch that fails starts again, and what is known stays.
pub(crate) async fn cluster(client: Client, pods: Sender<Pods>, synced: Condition) {
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
    let (mut known, mut listed) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.extend(pod(&object).map(|pod| (pod.key.clone(), pod)));
                continue;
            }
            Ok(Event::InitDone) => {
                known = std::mem::take(&mut listed);
                synced.set(true);
            }
            Ok(Event::Apply(object)) => match pod(&object) {
                Some(pod) => {
                    known.insert(pod.key.clone(), pod);
                }
                None => {
                    known.remove(&key(&object));
                }
            },
            Ok(Event::Delete(object)) => {
                known.remove(&key(&object));
            }
            Err(error) => {
                tracing::warn!(%error, "watch of pods failed and starts again");
                continue;
            }
        }
        pods.send_replace(known.values().cloned().collect());
    }
}

fn key(object: &DynamicObject) -> Key {
    Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn pod(object: &DynamicObject) -> Option<Arc<Pod>> {
    Pod::of(&serde_json::to_value(object).ok()?).map(Arc::new)
}

/// Tells the pods of a file, for ever. A file that can't be used changes nothing.
pub(crate) async fn file(path: PathBuf, pods: Sender<Pods>, synced: Condition) {
    let (mut last, mut complained) = (None, None);
    loop {
        match read(&path, last.as_deref()) {
            Ok(Some((text, found))) => {
                (last, complained) = (Some(text), None);
                pods.send_replace(found);
                synced.set(true);
            }
            Ok(None) => {}
            Err(error) => {
                if complained.as_ref() != Some(&error) {
                    tracing::warn!(file = %path.display(), error, "failed to read pods");
                }
                complained = Some(error);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

/// The pods, where the file says something new.
fn read(path: &Path, last: Option<&str>) -> Result<Option<(String, Pods)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if last == Some(&text) {
        return Ok(None);
    }
    let read: List = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let pods = read.items.iter().filter_map(Pod::of).map(Arc::new).collect();
    Ok(Some((text, pods)))
}
