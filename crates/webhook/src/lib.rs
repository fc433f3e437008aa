//! The admission webhook.
//!
//! Two ports. The TLS port (10250) answers `POST /mutate` and nothing else; the admin port (15190) answers `/live`,
//! `/ready` and `/metrics` in plain HTTP, because probes and scrapers then need no authority and can't be locked out by
//! the very certificate that they are to tell about.
//!
//! Ready when all of these hold; `/ready` names the ones that don't:
//! - `certificate`: an API server that went by our webhook configuration as it stood at the last look would accept what
//!   we serve. The looks are at most 30 s apart, and there is no watch: for that we would need the right to list;
//! - `namespaces`, `profiles`, `nodes`: these caches have been complete once;
//! - `version of the API server`: it has told;
//! - `customresourcedefinition sidecarprofiles.outrigger.dev`: the cluster knows the resource.
//!
//! What it may do in the cluster, and why:
//!
//! | resource | verbs | scope | why |
//! |---|---|---|---|
//! | secrets | get, update; get, list, watch with `--tls-mode secret` | Role, `resourceNames` our own | the certificate; created empty by the chart, so no create; PUT with `resourceVersion`, so no patch |
//! | mutatingwebhookconfigurations | get, patch; get where cert-manager keeps the caBundle | `ClusterRole`, `resourceNames` our own | the caBundle, by a JSON patch of that field alone; read back before the certificate is served |
//! | nodes | list, watch | `ClusterRole` | the oldest kubelet: what kind of containers pods get |
//! | namespaces | get, list, watch | `ClusterRole` | opt-in label and profile of the pod's namespace; get where the watch is behind |
//! | pods | list | `ClusterRole` | how those that run stand beside what they would get now |
//! | pods | patch | `ClusterRole`, with live reload | the sidecar config of those that run |
//! | sidecarprofiles/status | patch | `ClusterRole` | whether a profile is valid, how many pods use it |
//! | leases | get, update | Role, `resourceNames` our own | which replica looks after running pods; created empty by the chart |
//! | events.events.k8s.io | create, patch | `ClusterRole` | what was decided about a pod, on its owner |
//! | sidecarprofiles.outrigger.dev | get, list, watch | `ClusterRole` | the profiles; get where the watch is behind |
//!
//! A pod's way through it: [`server`] (TLS, HTTP) -> [`mutate`] (metrics, log) -> [`body`] (limits) -> [`review`] (JSON
//! in) -> [`decision`] (caches, and questions where they are behind) -> `outrigger_inject::inject` -> [`answer`] (JSON
//! out), and [`events`] for the pod's owner.

pub mod answer;
mod audit;
pub mod body;
pub mod certificate;
mod connections;
pub mod decision;
pub mod events;
mod finisher;
pub mod known;
pub mod lease;
pub mod lookup;
pub mod metrics;
pub mod mutate;
pub mod nodes;
pub mod options;
pub mod overseer;
mod pages;
mod profile_status;
pub mod provided;
pub mod registration;
pub mod review;
pub mod rotation;
mod run;
pub mod secret;
pub mod served;
pub mod server;
pub mod watch;
pub mod x509;

pub use options::Options;
pub use run::{RunError, run};
