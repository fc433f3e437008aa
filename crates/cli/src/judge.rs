//! What would become of a pod in this cluster now.

use std::collections::BTreeMap;

use outrigger_api::Reason;
use outrigger_api::names::{ENABLED, INJECT_LABEL, PROXY_CONTAINER};
use outrigger_inject::{
    Context, Decision, Explanation, Namespace, Profiles, Settings, Standing, Version, explain, standing,
};
use serde_json::{Value, json};

use crate::cluster::{AskError, Cluster};
use crate::inject::Install;
use crate::installation::{self, Installation};
use crate::output::str_at;

/// All that a decision takes beside the pod.
pub(crate) struct Judge {
    pub(crate) install: Install,
    /// None where nobody may see it, or there is none.
    pub(crate) installation: Option<Installation>,
    /// None where nobody may see the webhook's Deployment.
    pub(crate) settings: Option<Settings>,
    pub(crate) profiles: Profiles,
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    /// What could not be looked at, and what is supposed in its place.
    pub(crate) notes: Vec<String>,
}

impl Judge {
    /// Knows what the flags say, and no cluster.
    pub(crate) fn offline(install: Install, profiles: Profiles) -> Self {
        let settings = Some(install.settings());
        Self {
            install,
            installation: None,
            settings,
            profiles,
            namespaces: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Knows this installation, and no profile yet. Where nobody may see how it injects, the API server's version stands for
    /// those of the nodes too.
    pub(crate) fn knowing(
        installation: Installation,
        settings: Option<Settings>,
        server: Option<Version>,
    ) -> Self {
        let install = Install {
            release_namespace: installation.namespace.clone(),
            kubernetes_version: server,
            ..Install::default()
        };
        let profiles = Profiles::new(install.release_namespace.as_str());
        let mut judge = Self::offline(install, profiles);
        (judge.installation, judge.settings) = (Some(installation), settings);
        judge
    }

    /// Knows the cluster's installation, and the profiles of the release namespace. What the user may not see is supposed to
    /// be as the flags say, with a note.
    pub(crate) async fn of(cluster: &Cluster, mut install: Install) -> Result<Self, AskError> {
        let mut notes = Vec::new();
        // For who may not see how the webhook injects: everybody may ask for the version.
        if install.kubernetes_version.is_none() {
            let server = may(installation::server_version(cluster).await, &mut notes)?;
            install.kubernetes_version = server.and_then(|version| version.parse().ok());
        }
        let installation =
            may(Installation::all(cluster).await, &mut notes)?.unwrap_or_default().into_iter().next();
        let mut settings = None;
        if let Some(installation) = &installation {
            install.release_namespace.clone_from(&installation.namespace);
            if let Some(Some(deployment)) = may(installation.deployment(cluster).await, &mut notes)? {
                settings = installation::settings(&deployment, installation::versions(cluster).await?);
            }
        } else if notes.is_empty() {
            notes.push("Outrigger is not installed in this cluster: this is what it would do".to_owned());
        }
        let mut profiles = Profiles::new(install.release_namespace.as_str());
        let release = install.release_namespace.clone();
        may(installation::add_profiles(cluster, Some(&release), &mut profiles).await, &mut notes)?;
        Ok(Self { install, installation, settings, profiles, namespaces: BTreeMap::new(), notes })
    }

    /// Gets to know a namespace and its profiles; one that is not there is taken to be without labels.
    pub(crate) async fn learn(&mut self, cluster: &Cluster, name: &str) -> Result<(), AskError> {
        if self.namespaces.contains_key(name) {
            return Ok(());
        }
        let found = may(installation::namespace(cluster, name).await, &mut self.notes)?.flatten();
        let unknown = || Namespace { name: name.to_owned(), ..Namespace::default() };
        self.namespaces.insert(name.to_owned(), found.unwrap_or_else(unknown));
        if name != self.install.release_namespace {
            let added = installation::add_profiles(cluster, Some(name), &mut self.profiles).await;
            may(added, &mut self.notes)?;
        }
        Ok(())
    }

    /// Where a pod of this namespace stands.
    pub(crate) fn standing(&self, pod: &Value, namespace: &str) -> Standing {
        let namespace = self.namespace(namespace);
        let settings = self.settings_for(pod);
        let standing = standing(pod, &self.context(&namespace, &settings));
        let left_out = matches!(standing, Standing::Missing | Standing::Refused { .. });
        match self.not_asked(&namespace, pod).filter(|_| left_out) {
            Some(message) => Standing::Outside { reason: Reason::ExcludedNamespace, message },
            None => standing,
        }
    }

    /// The decision about a pod, or the template of one, of this namespace.
    pub(crate) fn explain(&self, pod: &Value, namespace: &str) -> Explanation {
        let namespace = self.namespace(namespace);
        let settings = self.settings_for(pod);
        let mut explanation = explain(pod, &self.context(&namespace, &settings));
        let not_asked = if matches!(explanation.decision, Decision::Skipped { .. }) {
            // Nobody is told to label what no label would bring to the webhook.
            self.not_asked(&labelled(namespace), &with_label(pod))
        } else {
            self.not_asked(&namespace, pod)
        };
        if let Some(message) = not_asked {
            let reason = Reason::ExcludedNamespace;
            explanation.decision = Decision::Skipped { reason, message, remedy: reason.remedy() };
            explanation.once_opted_in = None;
        }
        explanation
    }

    fn context<'a>(&'a self, namespace: &'a Namespace, settings: &'a Settings) -> Context<'a> {
        // No token: nothing that is explained or compared holds one, and a pod keeps its own.
        Context { namespace, profiles: &self.profiles, settings, token: "" }
    }

    fn namespace(&self, name: &str) -> Namespace {
        let unknown = || Namespace { name: name.to_owned(), ..Namespace::default() };
        self.namespaces.get(name).cloned().unwrap_or_else(unknown)
    }

    /// Why the API server does not ask about this pod, where the labels alone would have it ask.
    fn not_asked(&self, namespace: &Namespace, pod: &Value) -> Option<String> {
        let name = &namespace.name;
        let excluded = match &self.installation {
            Some(installation) => {
                let labels = pod.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
                !installation.is_asked(namespace, &labels)
            }
            None => self.install.excludes(name),
        };
        excluded.then(|| format!("the API server does not ask the webhook about pods of namespace {name}"))
    }

    /// How the webhook would inject; where that can't be seen, as the pod was injected, so that only what its profile and
    /// annotations say is compared.
    fn settings_for(&self, pod: &Value) -> Settings {
        if let Some(settings) = &self.settings {
            return settings.clone();
        }
        let mut settings = self.install.settings();
        let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
        let mut containers = lists.into_iter().filter_map(Value::as_array).flatten();
        if let Some(proxy) = containers.find(|container| container["name"] == PROXY_CONTAINER) {
            str_at(proxy, "/image").clone_into(&mut settings.sidecar_image);
            settings.image_pull_policy = proxy["imagePullPolicy"].as_str().map(str::to_owned);
        }
        settings
    }
}

fn labelled(mut namespace: Namespace) -> Namespace {
    namespace.labels.insert(INJECT_LABEL.to_owned(), ENABLED.to_owned());
    namespace
}

/// The labels alone: no more of the pod is looked at.
fn with_label(pod: &Value) -> Value {
    let mut labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(INJECT_LABEL.to_owned(), ENABLED.into());
    json!({"metadata": {"labels": labels}})
}

/// The answer, or none with a note where the user has not the right to it.
fn may<T>(answer: Result<T, AskError>, notes: &mut Vec<String>) -> Result<Option<T>, AskError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(AskError::Forbidden { what, .. }) => {
            notes.push(format!("you are not allowed to {what}: without it, this may be incomplete"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
