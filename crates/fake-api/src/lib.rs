//! A small Kubernetes API server, as far as the webhook speaks to one: get, list (in pages, by one label), watch, create,
//! put and patch over any object, with `resourceVersion` and its conflicts. No validation, no RBAC. For tests, and for the demo
//! that runs without a cluster.

#![allow(clippy::unwrap_used, reason = "what asks it is ours, and a panic is a test's report")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Clones share the objects.
#[derive(Clone)]
pub struct FakeApi {
    cluster: Arc<Mutex<Cluster>>,
    /// The newest version that watches tell of.
    told: Arc<watch::Sender<u64>>,
    /// Where it listens.
    pub address: SocketAddr,
}

#[derive(Default)]
struct Cluster {
    objects: BTreeMap<String, Value>,
    version: u64,
    history: Vec<(u64, &'static str, String, Value)>,
    requests: Vec<String>,
    not_installed: Vec<String>,
    silent: bool,
    refused: Option<(&'static str, StatusCode, &'static str)>,
}

impl FakeApi {
    /// Serves on this port of loopback; 0 lets the kernel choose.
    pub async fn start(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let api = Self {
            cluster: Arc::default(),
            told: Arc::new(watch::Sender::new(0)),
            address: listener.local_addr().unwrap(),
        };
        let router = Router::new().fallback(answer).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        api
    }

    /// As a kubeconfig has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes or replaces the object at this path.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut cluster = self.cluster();
        cluster.version += 1;
        let version = cluster.version;
        object["metadata"]["name"] = path.rsplit('/').next().into();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        if let Some(namespace) = namespace(path) {
            object["metadata"]["namespace"] = namespace.into();
        }
        let kind = if cluster.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        cluster.history.push((version, kind, path.to_owned(), object.clone()));
        cluster.objects.insert(path.to_owned(), object);
        self.tell(&cluster);
    }

    /// Takes the object at this path away.
    pub fn delete(&self, path: &str) {
        let mut cluster = self.cluster();
        cluster.version += 1;
        let version = cluster.version;
        if let Some(object) = cluster.objects.remove(path) {
            cluster.history.push((version, "DELETED", path.to_owned(), object));
        }
        self.tell(&cluster);
    }

    /// The object at this path; null where there is none.
    pub fn object(&self, path: &str) -> Value {
        self.cluster().objects.get(path).cloned().unwrap_or_default()
    }

    /// The objects of a collection.
    pub fn objects(&self, collection: &str) -> Vec<Value> {
        let cluster = self.cluster();
        let objects = cluster.objects.iter().filter(|(path, _)| belongs(path, collection));
        objects.map(|(_, object)| object.clone()).collect()
    }

    /// Requests so far whose line (`GET /api/v1/...`) begins so.
    pub fn requests(&self, begin: &str) -> usize {
        self.cluster().requests.iter().filter(|line| line.starts_with(begin)).count()
    }

    /// From now on watches tell nothing new: what a cache knows is out of date.
    pub fn fall_silent(&self) {
        self.cluster().silent = true;
    }

    /// From now on requests whose line (`GET /api/v1/...`) begins so are answered so.
    pub fn refuse(&self, begin: &'static str, code: StatusCode, message: &'static str) {
        self.cluster().refused = Some((begin, code, message));
    }

    /// Whether a resource such as `sidecarprofiles` is there at all.
    pub fn install(&self, resource: &str, installed: bool) {
        let mut cluster = self.cluster();
        cluster.not_installed.retain(|known| known != resource);
        if !installed {
            cluster.not_installed.push(resource.to_owned());
        }
    }

    fn tell(&self, cluster: &Cluster) {
        if !cluster.silent {
            self.told.send_replace(cluster.version);
        }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }
}

async fn answer(
    State(api): State<FakeApi>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let query = &uri.query().unwrap_or("").replace("%2F", "/").replace("%3D", "=");
    let line = format!("{method} {path}");
    api.cluster().requests.push(line.clone());
    if api.cluster().not_installed.iter().any(|resource| path.contains(resource.as_str())) {
        return status(StatusCode::NOT_FOUND, "the server could not find the requested resource");
    }
    if let Some((_, code, message)) = api.cluster().refused.filter(|(begin, ..)| line.starts_with(begin)) {
        return status(code, message);
    }
    match method {
        Method::GET if query.contains("watch=true") => api.watch(&path, query),
        Method::GET if is_collection(&path) => api.list(&path, query),
        Method::GET => match api.object(&path) {
            Value::Null => status(StatusCode::NOT_FOUND, &format!("{path} not found")),
            object => axum::Json(object).into_response(),
        },
        Method::PUT => api.replace(&path, serde_json::from_slice(&body).unwrap()),
        Method::POST => api.create(&path, serde_json::from_slice(&body).unwrap()),
        Method::PATCH if headers[CONTENT_TYPE] == "application/json-patch+json" => {
            let operations: json_patch::Patch = serde_json::from_slice(&body).unwrap();
            api.patch(&path, |object| json_patch::patch(object, &operations))
        }
        // Server-side apply makes what is not there. `POST` would take a right to make any.
        Method::PATCH
            if headers[CONTENT_TYPE] == "application/apply-patch+yaml" && api.object(&path).is_null() =>
        {
            api.put(&path, serde_json::from_slice(&body).unwrap());
            (StatusCode::CREATED, axum::Json(api.object(&path))).into_response()
        }
        Method::PATCH => {
            let wanted = serde_json::from_slice(&body).unwrap();
            api.patch(&path, |object| {
                json_patch::merge(object, &wanted);
                Ok(())
            })
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "the fake has no such method"),
    }
}

impl FakeApi {
    fn replace(&self, path: &str, object: Value) -> Response {
        let stored = self.object(path);
        if stored.is_null() {
            return status(StatusCode::NOT_FOUND, path);
        }
        if object["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
            return status(StatusCode::CONFLICT, "the object has been modified");
        }
        self.put(path, object);
        axum::Json(self.object(path)).into_response()
    }

    fn create(&self, collection: &str, object: Value) -> Response {
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        if !self.object(&path).is_null() {
            return status(StatusCode::CONFLICT, "it exists already");
        }
        self.put(&path, object);
        (StatusCode::CREATED, axum::Json(self.object(&path))).into_response()
    }

    fn patch(
        &self,
        path: &str,
        change: impl FnOnce(&mut Value) -> Result<(), json_patch::PatchError>,
    ) -> Response {
        let path = path.trim_end_matches("/status");
        let mut object = self.object(path);
        if object.is_null() {
            return status(StatusCode::NOT_FOUND, path);
        }
        if let Err(error) = change(&mut object) {
            return status(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        }
        self.put(path, object);
        axum::Json(self.object(path)).into_response()
    }

    fn list(&self, collection: &str, query: &str) -> Response {
        let parameter =
            |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let number = |name| parameter(name).and_then(|text| text.parse::<usize>().ok());
        let labelled = |object: &Value| {
            let Some(selector) = parameter("labelSelector") else { return true };
            let (key, wanted) =
                selector.split_once('=').map_or((selector, None), |(key, value)| (key, Some(value)));
            let value = object["metadata"]["labels"][key].as_str();
            value.is_some() && (wanted.is_none() || value == wanted)
        };
        let cluster = self.cluster();
        let all =
            cluster.objects.iter().filter(|(path, _)| belongs(path, collection)).map(|(_, object)| object);
        let all: Vec<_> = all.filter(|object| labelled(object)).collect();
        let from = number("continue").unwrap_or(0).min(all.len());
        let to = number("limit").map_or(all.len(), |limit| all.len().min(from + limit));
        let items = &all[from..to];
        let mut metadata = json!({"resourceVersion": cluster.version.to_string()});
        if to < all.len() {
            metadata["continue"] = to.to_string().into();
        }
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
        axum::Json(list).into_response()
    }

    fn watch(&self, collection: &str, query: &str) -> Response {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let since: u64 = since.and_then(|version| version.parse().ok()).unwrap_or(0);
        let collection = collection.to_owned();
        let from = (self.clone(), self.told.subscribe(), since);
        let lines = stream::unfold(from, move |(api, mut told, since)| {
            let collection = collection.clone();
            async move {
                let until = *told.wait_for(|version| *version > since).await.ok()?;
                let lines = api.events(&collection, since, until);
                Some((Ok::<_, Infallible>(lines), (api, told, until)))
            }
        });
        Body::from_stream(lines).into_response()
    }

    fn events(&self, collection: &str, after: u64, until: u64) -> String {
        let cluster = self.cluster();
        let new = cluster.history.iter().filter(|(version, _, path, _)| {
            *version > after && *version <= until && belongs(path, collection)
        });
        let lines: Vec<_> =
            new.map(|(_, kind, _, object)| json!({"type": kind, "object": object}).to_string()).collect();
        // Each line ends in a newline; none at all is no line.
        lines.join("\n") + if lines.is_empty() { "" } else { "\n" }
    }
}

/// `/api/v1/namespaces/x/secrets/y` belongs to `/api/v1/secrets`, and to `/api/v1/namespaces/x/secrets`.
fn belongs(path: &str, collection: &str) -> bool {
    let Some((group, resource)) = collection.rsplit_once('/') else { return false };
    path.starts_with(group) && path.rsplit('/').nth(1) == Some(resource)
}

/// The collections that the webhook reads.
fn is_collection(path: &str) -> bool {
    let collection = path.rsplit('/').next().unwrap_or_default();
    ["namespaces", "sidecarprofiles", "nodes", "pods", "events", "secrets"].contains(&collection)
}

fn namespace(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/namespaces/")?;
    rest.split_once('/').map(|(namespace, _)| namespace)
}

fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code.as_u16(), "reason": code.canonical_reason().unwrap_or("").replace(' ', ""), "message": message,
    });
    (code, axum::Json(body)).into_response()
}
