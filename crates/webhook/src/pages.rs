//! Pods as the API server lists them: page by page, one pod at a time.

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Pods in a page. A usual one has 10 kB, so a page is half a megabyte of text, of which one pod at a time is taken apart.
const LIMIT: u32 = 50;

/// Where pods are listed.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// All pods of a namespace.
    Namespace(String),
    /// The pods with this label and value, in all namespaces.
    Label(&'static str, &'static str),
    /// All pods of the cluster.
    Everywhere,
}

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Page(String);

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    r#continue: Option<String>,
}

/// The first page, or the one that the last said to go on with.
///
/// In pages, and so not at resource version 0, for which the API server would send the whole list at once.
pub(crate) async fn page(client: &Client, place: &Place, token: Option<&str>) -> kube::Result<Page> {
    let url = match place {
        Place::Namespace(name) => format!("/api/v1/namespaces/{name}/pods"),
        Place::Label(..) | Place::Everywhere => "/api/v1/pods".to_owned(),
    };
    let mut params = ListParams::default().limit(LIMIT);
    if let Place::Label(key, value) = place {
        params = params.labels(&format!("{key}={value}"));
    }
    if let Some(token) = token {
        params = params.continue_token(token);
    }
    list(client, &url, &params).await
}

/// What one request for pods brings.
pub(crate) async fn list(client: &Client, url: &str, params: &ListParams) -> kube::Result<Page> {
    let request = Request::new(url).list(params).map_err(kube::Error::BuildRequest)?;
    Ok(Page(client.request_text(request).await?))
}

impl Page {
    #[cfg(test)]
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// Gives each pod to `look`, and says how to go on, if there is more.
    pub(crate) fn each(&self, mut look: impl FnMut(Value)) -> Result<Option<String>, serde_json::Error> {
        let list: List = serde_json::from_str(&self.0)?;
        for item in list.items {
            look(serde_json::from_str(item.get())?);
        }
        Ok(list.metadata.r#continue.filter(|token| !token.is_empty()))
    }
}
