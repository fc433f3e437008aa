//! A small API server for the command: get, list by labels, JSON patch, reviews of rights, and pods as a dry run. No
//! validation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Clones share the objects.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<Objects>>,
    pub(crate) address: SocketAddr,
}

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    /// What the caller may not do, as the beginning of `GET /api/v1/pods `; with the space that is all of it.
    forbidden: Vec<String>,
    /// Rights that reviews deny, as the beginning of `get secrets my-namespace/my-secret`.
    denied: Vec<String>,
    /// Whether pods come back from a dry run with a sidecar.
    injects: bool,
    requests: Vec<String>,
    /// Whether sidecars take no new config.
    stuck: bool,
}

impl Api {
    /// Serves on a port of loopback until the test ends.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(Mutex::new(Objects { injects: true, ..Objects::default() }));
        let api = Self { state, address: listener.local_addr().unwrap() };
        let router = Router::new().fallback(answer).with_state(api.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        api
    }

    /// Makes or replaces the object at this path.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let segments: Vec<_> = path.split('/').collect();
        object["metadata"]["name"] = segments[segments.len() - 1].into();
        if let Some(at) =
            segments.iter().position(|segment| *segment == "namespaces").filter(|at| at + 2 < segments.len())
        {
            object["metadata"]["namespace"] = segments[at + 1].into();
        }
        self.state().by_path.insert(path.to_owned(), object);
    }

    pub(crate) fn object(&self, path: &str) -> Value {
        self.state().by_path.get(path).cloned().unwrap_or_default()
    }

    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        edit(self.state().by_path.get_mut(path).unwrap());
    }

    pub(crate) fn forbid(&self, request: &str) {
        self.state().forbidden.push(request.to_owned());
    }

    pub(crate) fn deny(&self, right: &str) {
        self.state().denied.push(right.to_owned());
    }

    pub(crate) fn stop_injecting(&self) {
        self.state().injects = false;
    }

    pub(crate) fn take_no_config(&self) {
        self.state().stuck = true;
    }

    pub(crate) fn requests(&self, begin: &str) -> usize {
        self.state().requests.iter().filter(|line| line.starts_with(begin)).count()
    }

    fn state(&self) -> MutexGuard<'_, Objects> {
        self.state.lock().unwrap()
    }

    fn list(&self, collection: &str, query: &str) -> Response {
        let Some((group, resource)) = collection.rsplit_once('/') else { return not_found(collection) };
        let selector = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")).unwrap_or("");
        let selector = selector.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
        let belongs = |path: &str| path.starts_with(group) && path.rsplit('/').nth(1) == Some(resource);
        let selected = |object: &Value| {
            let labels = &object["metadata"]["labels"];
            selector
                .split(',')
                .filter_map(|term| term.split_once('='))
                .all(|(key, value)| labels[key] == value)
        };
        let state = self.state();
        let items: Vec<_> = state
            .by_path
            .iter()
            .filter(|(path, object)| belongs(path) && selected(object))
            .map(|(_, o)| o)
            .collect();
        axum::Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
            .into_response()
    }

    fn patch(&self, path: &str, operations: &json_patch::Patch) -> Response {
        let mut state = self.state();
        let Some(object) = state.by_path.get_mut(path) else { return not_found(path) };
        if let Err(error) = json_patch::patch(object, operations) {
            return status(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        }
        axum::Json(&*object).into_response()
    }

    /// What a sidecar shows that runs by the annotation of its pod; or, when stuck, by another.
    fn metrics(&self, path: &str) -> String {
        let pod = self.object(path.split_once(':').unwrap().0);
        let document = pod["metadata"]["annotations"]["outrigger.dev/config"].as_str().unwrap().to_owned();
        let document = if self.state().stuck { String::new() } else { document };
        let hash = outrigger_api::config::hash(&document);
        format!("# TYPE outrigger_config_info gauge\noutrigger_config_info{{hash=\"{hash}\"}} 1\n")
    }

    fn create(&self, path: &str, mut object: Value) -> Response {
        if path.ends_with("reviews") {
            let attributes = &object["spec"]["resourceAttributes"];
            let text = |field: &str| attributes[field].as_str().unwrap();
            let subresource = if text("subresource").is_empty() { "" } else { "/" };
            let resource = format!("{}{subresource}{}", text("resource"), text("subresource"));
            let right = format!("{} {resource} {}/{}", text("verb"), text("namespace"), text("name"));
            let allowed = !self.state().denied.iter().any(|denied| right.starts_with(denied.as_str()));
            object["status"] = json!({"allowed": allowed});
        } else if self.state().injects {
            object["spec"]["initContainers"] = json!([{"name": "outrigger-proxy", "image": "sidecar:1"}]);
        }
        axum::Json(object).into_response()
    }
}

async fn answer(State(api): State<Api>, method: Method, uri: Uri, body: Bytes) -> Response {
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or(""));
    let request = format!("{method} {path} ");
    api.state().requests.push(request.clone());
    if api.state().forbidden.iter().any(|forbidden| request.starts_with(forbidden.as_str())) {
        let resource = path.rsplit('/').next().unwrap();
        let message =
            format!("{resource} is forbidden: User \"jane\" cannot create resource {resource:?} there");
        return status(StatusCode::FORBIDDEN, &message);
    }
    match method {
        Method::GET if path == "/version" => axum::Json(json!({"gitVersion": "v1.34.1"})).into_response(),
        // Only lists are asked for in pages.
        Method::GET if query.starts_with("limit=") => api.list(&path, query),
        Method::GET if path.ends_with(":15190/proxy/metrics") => api.metrics(&path).into_response(),
        Method::GET => match api.object(&path) {
            Value::Null => not_found(&path),
            object => axum::Json(object).into_response(),
        },
        Method::PATCH => api.patch(&path, &serde_json::from_slice(&body).unwrap()),
        Method::POST => api.create(&path, serde_json::from_slice(&body).unwrap()),
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "the stand-in has no such method"),
    }
}

fn not_found(path: &str) -> Response {
    status(StatusCode::NOT_FOUND, &format!("{path} not found"))
}

fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": message,
        "reason": code.canonical_reason().unwrap_or("").replace(' ', ""),
    });
    (code, axum::Json(body)).into_response()
}
