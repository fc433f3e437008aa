//! Namespaces that last as long as a test.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::FutureExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client, Resource, ResourceExt};
use outrigger_api::profile::SidecarProfile;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::manifest::{fetch_job, with};
use crate::{cluster, eventually, release};

/// Far longer than anything takes, also on a slow machine that builds something else meanwhile: it is spent by failures alone.
pub const DEADLINE: Duration = Duration::from_mins(5);

/// A namespace and what tests do in it.
#[derive(Clone)]
pub struct Namespace {
    /// For what the methods do not cover.
    pub client: Client,
    /// Its name.
    pub name: String,
}

/// Runs a test in a namespace of its own, with these labels, which is deleted after: also when the test fails.
pub async fn with_namespace<Test, Running>(labels: &[(&str, &str)], test: Test)
where
    Test: FnOnce(Namespace) -> Running,
    Running: Future<Output = ()>,
{
    let namespace = Namespace::new(labels).await;
    let outcome = AssertUnwindSafe(test(namespace.clone())).catch_unwind().await;
    if outcome.is_err() {
        namespace.print_state().await;
    }
    namespace.delete().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl Namespace {
    /// A namespace that is there already.
    pub fn existing(client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned() }
    }

    async fn new(labels: &[(&str, &str)]) -> Self {
        let client = cluster::client().await;
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        // Most tests are about named ports; those of redirection say so.
        let annotations = json!({"outrigger.dev/interception": "ports"});
        let manifest =
            json!({"metadata": {"generateName": "e2e-", "labels": labels, "annotations": annotations}});
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let created = namespaces.create(&PostParams::default(), &from_json(manifest)).await.unwrap();
        let namespace = Self { client, name: created.name_any() };
        // Until then, every pod is refused for the lack of it.
        eventually("the default service account", DEADLINE, || async {
            Ok(namespace.api::<ServiceAccount>().get("default").await?)
        })
        .await;
        namespace
    }

    /// Does not wait for the end: it takes seconds, and names are never used twice.
    async fn delete(&self) {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        if let Err(error) = namespaces.delete(&self.name, &DeleteParams::default()).await {
            eprintln!("could not delete namespace {}: {error}", self.name);
        }
    }

    /// Sets an annotation of the namespace.
    pub async fn annotate(&self, key: &str, value: &str) {
        self.change(json!({"metadata": {"annotations": {key: value}}})).await;
    }

    /// Sets a label of the namespace.
    pub async fn label(&self, (key, value): (&str, &str)) {
        self.change(json!({"metadata": {"labels": {key: value}}})).await;
    }

    async fn change(&self, change: Value) {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        namespaces.patch(&self.name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// The objects of one kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates what the manifest says.
    pub async fn create<K>(&self, manifest: Value) -> kube::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        self.api().create(&PostParams::default(), &from_json(manifest)).await
    }

    /// Creates a profile, right or wrong: untyped, because the types would refuse a wrong one before the API server could.
    /// Returns it as it is stored.
    pub async fn create_profile(&self, name: &str, spec: Value) -> kube::Result<DynamicObject> {
        let kind = ApiResource::erase::<SidecarProfile>(&());
        let profile = DynamicObject::new(name, &kind).data(json!({ "spec": spec }));
        self.profiles().create(&PostParams::default(), &profile).await
    }

    /// Changes a profile: an RFC 7386 merge of its spec.
    pub async fn change_profile(&self, name: &str, spec: Value) {
        let change = Patch::Merge(json!({ "spec": spec }));
        let changed = self.profiles().patch(name, &PatchParams::default(), &change).await;
        changed.expect("the schema takes the profile");
    }

    /// The profiles in it, untyped.
    pub fn profiles(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<SidecarProfile>(&());
        Api::namespaced_with(self.client.clone(), &self.name, &kind)
    }

    /// Has the Deployment replace its pods, as `kubectl rollout restart` does; does not wait.
    pub async fn restart(&self, deployment: &str) {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let restarted = json!({"annotations": {"kubectl.kubernetes.io/restartedAt": now}});
        let change = Patch::Merge(json!({"spec": {"template": {"metadata": restarted}}}));
        self.api::<Deployment>().patch(deployment, &PatchParams::default(), &change).await.unwrap();
    }

    /// What would be created: passes admission like any other, and is not kept. Untyped on its way, because the types would
    /// refuse a wrong pod before the API server could.
    pub async fn dry_run(&self, mut pod: Value) -> kube::Result<Pod> {
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        let uri = format!("/api/v1/namespaces/{}/pods?dryRun=All", self.name);
        let request = http::Request::post(uri).header(http::header::CONTENT_TYPE, "application/json");
        let request = request.body(pod.to_string().into_bytes()).expect("the parts are valid");
        self.client.request(request).await
    }

    /// The pods that have these labels.
    pub async fn pods(&self, selector: &str) -> kube::Result<Vec<Pod>> {
        let params = ListParams::default().labels(selector);
        Ok(self.api::<Pod>().list(&params).await?.items)
    }

    /// The Events about objects of this kind that have this reason.
    pub async fn events(&self, kind: &str, reason: &str) -> kube::Result<Vec<Event>> {
        let params = ListParams::default().fields(&format!("involvedObject.kind={kind},reason={reason}"));
        Ok(self.api::<Event>().list(&params).await?.items)
    }

    /// Waits until the pod is ready, all its containers are.
    pub async fn pod_ready(&self, name: &str) -> Pod {
        eventually(&format!("pod {name} to be ready"), DEADLINE, || async {
            let pod = self.api::<Pod>().get(name).await?;
            ensure!(is_ready(&pod), "{}", summary(&pod));
            Ok(pod)
        })
        .await
    }

    /// Waits until the Deployment has rolled out: as many pods as it wants, of its newest template, ready, and no other.
    pub async fn rolled_out(&self, name: &str) -> Vec<Pod> {
        eventually(&format!("deployment {name} to roll out"), DEADLINE, || async {
            let deployment = self.api::<Deployment>().get(name).await?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            // A number that is absent is zero.
            let counts = [status.updated_replicas, status.available_replicas, status.replicas];
            ensure!(
                status.observed_generation == deployment.metadata.generation
                    && counts.iter().all(|count| count.unwrap_or_default() == wanted),
                "{}",
                serde_json::to_string(&status)?
            );
            // Pods that are going away do not count in `replicas`, yet they may still answer.
            let labels = deployment.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
            let selector =
                labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
            let pods = self.pods(&selector).await?;
            let summaries: Vec<_> = pods.iter().map(summary).collect();
            ensure!(pods.len() == usize::try_from(wanted)?, "{}", summaries.join("; "));
            Ok(pods)
        })
        .await
    }

    /// Waits until the node leads calls of this Service to its pods of now, and to no other. Its kube-proxy hears of pods later than
    /// those do who ask the API server, and what is sent to a pod that has gone gets no answer.
    ///
    /// What kube-proxy hears, it hears in order: when a Service that came after is reached, it knows all that was before.
    pub async fn leads_to_its_pods(&self, service: &str) {
        let service = self.api::<Service>().get(service).await.expect("the Service is there");
        let (name, spec) = (service.name_any(), service.spec.unwrap_or_default());
        eventually(&format!("service {name} to have its pods"), DEADLINE, || async {
            let selector = spec.selector.iter().flatten().map(|(key, value)| format!("{key}={value}"));
            let pods = self.pods(&selector.collect::<Vec<_>>().join(",")).await?;
            let ready: BTreeSet<_> = pods.iter().filter(|pod| is_ready(pod)).filter_map(address).collect();
            let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
            let slices = self.api::<EndpointSlice>().list(&of_service).await?.items;
            let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
            let led = endpoints.filter(|endpoint| {
                endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
            });
            let led: BTreeSet<_> = led.flat_map(|endpoint| endpoint.addresses).collect();
            ensure!(!led.is_empty() && led == ready, "it leads to {led:?}, and {ready:?} are ready");
            Ok(())
        })
        .await;
        let ports = spec.ports.iter().flatten().take(1);
        let ports = ports.map(|port| json!({"port": 80, "targetPort": port.target_port})).collect::<Vec<_>>();
        let after = json!({"metadata": {"generateName": format!("{name}-")}, "spec": {"selector": spec.selector, "ports": ports}});
        let after = self.create::<Service>(after).await.expect("a Service like it").name_any();
        let outside =
            json!({"spec": {"template": {"metadata": {"labels": {"outrigger.dev/inject": "disabled"}}}}});
        let reach = with(fetch_job(&after, &format!("http://{after}/"), 0), outside);
        self.create::<Job>(reach).await.expect("a Job");
        self.job_completed(&after).await;
        let gone = DeleteParams::background();
        self.api::<Service>().delete(&after, &gone).await.expect("it is there");
        self.api::<Job>().delete(&after, &gone).await.expect("it is there");
    }

    /// Waits until the Job has completed; fails at once if it failed.
    pub async fn job_completed(&self, name: &str) {
        eventually(&format!("job {name} to complete"), DEADLINE, || async {
            let job = self.api::<Job>().get(name).await?;
            let conditions = job.status.clone().and_then(|status| status.conditions).unwrap_or_default();
            let has = |kind: &str| conditions.iter().any(|c| c.type_ == kind && c.status == "True");
            assert!(!has("Failed"), "job {name} failed: {}", self.logs_of(&format!("job-name={name}")).await);
            ensure!(has("Complete"), "{}; {}", serde_json::to_string(&job.status)?, self.states().await?);
            Ok(())
        })
        .await;
    }

    /// The last of the logs of the application containers of these pods.
    pub async fn logs_of(&self, selector: &str) -> String {
        let mut logs = String::new();
        for pod in self.pods(selector).await.unwrap_or_default() {
            let app = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|app| app.name.clone());
            let params = LogParams { container: app, tail_lines: Some(200), ..LogParams::default() };
            let text = self.api::<Pod>().logs(&pod.name_any(), &params).await;
            logs.push_str(&text.unwrap_or_else(|error| error.to_string()));
        }
        logs
    }

    async fn states(&self) -> kube::Result<String> {
        let pods = self.pods("").await?;
        Ok(pods.iter().map(summary).collect::<Vec<_>>().join("; "))
    }

    /// For the report of a failed test.
    async fn print_state(&self) {
        let webhook = Self::existing(self.client.clone(), release::NAMESPACE);
        eprintln!(
            "the webhook's last words:\n{}",
            webhook.logs_of("app.kubernetes.io/component=webhook").await
        );
        eprintln!("pods in {}: {}", self.name, self.states().await.unwrap_or_else(|error| error.to_string()));
        for event in self.api::<Event>().list(&ListParams::default()).await.into_iter().flatten() {
            let object = event.involved_object;
            eprintln!(
                "  {} {}: {}: {}",
                object.kind.unwrap_or_default(),
                object.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            );
        }
    }
}

/// Whether the pod is ready and stays: one that is being deleted is not.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

/// A pod's state in one line.
pub fn summary(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
    let lines: Vec<_> = containers
        .map(|c| format!("{} {}", c.name, serde_json::to_string(&c.state).unwrap_or_default()))
        .collect();
    let going = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    format!("{}: {}{going} [{}]", pod.name_any(), status.phase.unwrap_or_default(), lines.join(", "))
}

/// The typed object of a manifest.
pub fn from_json<K: DeserializeOwned>(manifest: Value) -> K {
    let text = manifest.to_string();
    serde_json::from_value(manifest).with_context(|| text).expect("the test's manifest is of its kind")
}
