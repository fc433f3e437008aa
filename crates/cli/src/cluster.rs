//! The API server, asked in raw JSON with the user's own rights.
//!
//! Not by `kube::Api` and its types: `inject` judges raw pods, and what a type does not know would be lost on the way.

use std::path::PathBuf;
use std::time::Duration;

use http::Request;
use http::request::Builder;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client};
use outrigger_runtime::duration;
use serde_json::Value;

use crate::error::Hinted;

/// How many objects one answer may hold. kubectl asks so too: a list of all pods of a large cluster in one answer is a
/// burden on the API server.
const PAGE: usize = 500;

/// Which cluster, spelt as kubectl spells it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// Kubeconfig. Default: $KUBECONFIG, else ~/.kube/config, else the service account of the pod that it runs in
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// How long one answer of the API server may take: 500 pods are one answer
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    request_timeout: Duration,
}

/// An API server and how to ask it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    url: String,
    timeout: Duration,
    /// The namespace of the context, where no flag gives one.
    pub(crate) namespace: String,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No rights. Some questions can be done without.
    #[error("not allowed to {what}: {message}")]
    Forbidden { what: String, message: String },
    /// The API server says no for another reason.
    #[error("failed to {what}: {message} ({code})")]
    Refused { what: String, message: String, code: u16 },
    /// It was not reached, or did not answer.
    #[error("failed to {what}: {message}")]
    Unreachable { what: String, message: String, url: String },
}

impl ClusterArgs {
    /// A client; nothing is asked yet.
    pub(crate) async fn connect(&self) -> Result<Cluster, Hinted> {
        let mut config = self.config().await.map_err(|error| {
            let hint = "name one with --kubeconfig or KUBECONFIG, a context with --context (kubectl config get-contexts \
                        lists them), or run it in a pod of the cluster";
            Hinted::new(format!("failed to find a cluster: {error}"), hint)
        })?;
        // Ours ends the whole question; the client's own would begin anew with each piece of an answer.
        config.connect_timeout = Some(self.request_timeout);
        let (url, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| {
            let hint = "look at the certificates and keys that the kubeconfig names";
            Hinted::new(format!("failed to make a client for {url}: {}", innermost(&error)), hint)
        })?;
        Ok(Cluster { client, url, timeout: self.request_timeout, namespace })
    }

    async fn config(&self) -> Result<Config, KubeconfigError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(path) = &self.kubeconfig {
            return Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await;
        }
        match Config::from_kubeconfig(&options).await {
            // Who names a context means a kubeconfig. And where both fail, the user can mend the kubeconfig only.
            Err(error) if self.context.is_none() => Config::incluster().map_err(|_| error),
            result => result,
        }
    }
}

impl Cluster {
    /// The pods of a namespace, for what is no request and answer: a port that is forwarded.
    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The object at this path, none if there is none. `what` completes "failed to".
    pub(crate) async fn find(&self, path: &str, what: &str) -> Result<Option<Value>, AskError> {
        match self.ask(Request::get(path), Vec::new(), what).await {
            Err(AskError::Refused { code: 404, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Calls `each` with every object of a collection that the selector (labels, may be empty) selects.
    pub(crate) async fn each(
        &self,
        path: &str,
        selector: &str,
        what: &str,
        mut each: impl FnMut(Value),
    ) -> Result<(), AskError> {
        let mut token = String::new();
        loop {
            let query =
                format!("limit={PAGE}&labelSelector={}&continue={}", encode(selector), encode(&token));
            let mut page = self.ask(Request::get(format!("{path}?{query}")), Vec::new(), what).await?;
            if let Value::Array(items) = page["items"].take() {
                items.into_iter().for_each(&mut each);
            }
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => return Ok(()),
            }
        }
    }

    /// Every object of a collection; of small ones, or those that are needed whole.
    pub(crate) async fn list(&self, path: &str, selector: &str, what: &str) -> Result<Vec<Value>, AskError> {
        let mut objects = Vec::new();
        self.each(path, selector, what, |object| objects.push(object)).await?;
        Ok(objects)
    }

    /// Creates an object, and returns it as the API server would keep it. A review, or with `?dryRun=All`, leaves nothing behind.
    pub(crate) async fn create(&self, path: &str, object: &Value, what: &str) -> Result<Value, AskError> {
        let request = Request::post(path).header("content-type", "application/json");
        self.ask(request, object.to_string().into_bytes(), what).await
    }

    /// Changes an object by RFC 6902.
    pub(crate) async fn patch(&self, path: &str, operations: &Value, what: &str) -> Result<Value, AskError> {
        let request = Request::patch(path).header("content-type", "application/json-patch+json");
        self.ask(request, operations.to_string().into_bytes(), what).await
    }

    /// What a page that is no JSON says, with `Refused` for each status but 200.
    pub(crate) async fn text(&self, path: &str, what: &str) -> Result<String, AskError> {
        self.send(Request::get(path), Vec::new(), what).await
    }

    async fn ask(&self, request: Builder, body: Vec<u8>, what: &str) -> Result<Value, AskError> {
        let text = self.send(request, body, what).await?;
        serde_json::from_str(&text).map_err(|_| {
            // A proxy before the API server, mostly: its login page.
            let message = "the answer is no JSON, so it is not from an API server".to_owned();
            AskError::Unreachable { what: what.to_owned(), message, url: self.url.clone() }
        })
    }

    async fn send(&self, request: Builder, body: Vec<u8>, what: &str) -> Result<String, AskError> {
        let unreachable =
            |message| AskError::Unreachable { what: what.to_owned(), message, url: self.url.clone() };
        let request = request.body(body).map_err(|error| unreachable(error.to_string()))?;
        let answer = tokio::time::timeout(self.timeout, self.client.request_text(request)).await;
        match answer.map_err(|_| unreachable(format!("no answer within {:?}", self.timeout)))? {
            Ok(text) => Ok(text),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(AskError::Forbidden { what: what.to_owned(), message: status.message.clone() })
            }
            Err(kube::Error::Api(status)) => {
                let message = if status.message.is_empty() { &status.reason } else { &status.message };
                Err(AskError::Refused {
                    what: what.to_owned(),
                    message: message.trim().to_owned(),
                    code: status.code,
                })
            }
            Err(error) => Err(unreachable(innermost(&error))),
        }
    }
}

impl From<AskError> for Hinted {
    fn from(error: AskError) -> Self {
        let hint = match &error {
            AskError::Forbidden { .. } => "kubectl auth can-i --list shows your rights".to_owned(),
            AskError::Refused { code: 401, .. } => {
                "the credentials of the context are not accepted: log in again".to_owned()
            }
            AskError::Refused { .. } => "the words after the colon are the API server's".to_owned(),
            AskError::Unreachable { url, .. } => {
                format!(
                    "is that the right cluster ({url}), and is it up? kubectl config current-context; kubectl version"
                )
            }
        };
        Self::new(error.to_string(), hint)
    }
}

/// The error at the root, whose words are those that help: the levels above repeat it, each in its own way.
fn innermost(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

/// For a query: everything but the unreserved characters of RFC 3986 section 2.3.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.extend(format!("%{other:02X}").chars()),
        }
    }
    encoded
}
