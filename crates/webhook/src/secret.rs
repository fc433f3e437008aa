//! The Secret that keeps the certificate, read and written.
//!
//! Not by `kube::Api`: where an answer does not fit the type, that logs all of it, and here it would be private keys.
//! For the same reason no error of this module quotes what it could not parse.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{GetParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::json;

use crate::registration::FIELD_MANAGER;

/// Where the Secret is.
#[derive(Clone)]
pub struct Store {
    client: Client,
    url: String,
    /// Its name.
    pub name: String,
}

/// Why the Secret can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The answer is something else.
    #[error("the answer is no secret")]
    NoSecret,
}

impl Store {
    /// The Secret of this name and namespace.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { client, url: Secret::url_path(&(), Some(namespace)), name: name.to_owned() }
    }

    /// As it is now.
    pub async fn read(&self) -> Result<Secret, StoreError> {
        let request = Request::new(&self.url).get(&self.name, &GetParams::default());
        let text = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        serde_json::from_str(&text).map_err(|_| StoreError::NoSecret)
    }

    /// Makes it, empty; one that is there meanwhile stays as it is.
    ///
    /// By server-side apply and not `POST`: that alone is a `create` that the chart can narrow to this one name.
    pub async fn create(&self) -> Result<(), StoreError> {
        let empty = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name}});
        let params = PatchParams::apply(FIELD_MANAGER);
        let request = Request::new(&self.url).patch(&self.name, &params, &Patch::Apply(empty));
        self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        Ok(())
    }

    /// Puts `secret` in the place of the one that it was read as; a 409 if that has changed since.
    pub async fn replace(&self, secret: &Secret) -> Result<(), StoreError> {
        let body = serde_json::to_vec(secret).map_err(|_| StoreError::NoSecret)?;
        let request = Request::new(&self.url).replace(&self.name, &PostParams::default(), body);
        self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        Ok(())
    }
}
