//! Looks after the pods that run, in one replica of all.
//!
//! Admission sees a pod once. A pod that was created before its label, or while no replica answered, has no sidecars; one
//! whose profile has changed since has old ones. So all of them are looked at time and again, page by page, and each is compared
//! with what it would get now. What is found stands in a metric, in the profiles' status and, where a user has to act, in an Event.
//!
//! Never in the way of admissions: pages are small, and are taken apart on a thread of their own.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::runtime::events::EventType;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::audit::{Census, Found, Scope, UNKNOWN, look};
use crate::events::Events;
use crate::finisher;
use crate::known::Known;
use crate::lookup::why;
use crate::metrics::{Metrics, Outcome, PodStanding};
use crate::pages::{Place, page};
use crate::profile_status::{self, Unwritten};

/// Between two writes to pods: a change of a profile that thousands use takes minutes, and the API server notices little.
const PACE: Duration = Duration::from_millis(50);
/// What is remembered as told. One more is told again at the next look.
const TOLD: usize = 10_000;

/// Reason of the Event about a pod without the sidecars that it should have.
const MISSING: &str = "SidecarsMissing";
/// Reason of the Event about a pod that needs a successor to be up to date.
const RESTART: &str = "RestartNeeded";
/// Reason of the Event about a pod that was brought up to date as it ran.
const RECONFIGURED: &str = "Reconfigured";

/// What it works on.
pub struct Overseer {
    /// Lists and patches.
    pub client: Client,
    /// Namespaces, profiles and settings.
    pub known: Known,
    /// Name of the `MutatingWebhookConfiguration`, which names the namespaces that are left out.
    pub configuration: String,
    /// Where it tells owners of pods.
    pub events: Events,
    /// Where it counts.
    pub metrics: Metrics,
    /// From the end of one look to the next; less where a profile or a namespace changes.
    pub interval: Duration,
    /// Whether pods are brought up to date as they run.
    pub live_reload: bool,
}

/// Why a look came to no end.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("{}", why(.0))]
    Api(#[from] kube::Error),
    #[error("failed to parse list of pods: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("failed to look at pods: this is a bug, and the log says where")]
    Panic(#[from] tokio::task::JoinError),
}

/// What one look leaves for the next.
#[derive(Default)]
struct Memory {
    totals: BTreeMap<&'static str, i64>,
    told: Told,
    unwritten: Unwritten,
}

/// What was told of whom: the owner's UID, or the pod, the reason, and what differs. Once and not at each look; again where it was
/// mended between, and where something else differs.
#[derive(Default)]
struct Told {
    /// At the last look.
    before: HashSet<Telling>,
    /// At this one.
    now: HashSet<Telling>,
}

type Telling = (String, &'static str, String);

impl Told {
    fn is_new(&mut self, telling: Telling) -> bool {
        let new = !self.before.contains(&telling) && !self.now.contains(&telling);
        if self.now.len() < TOLD {
            self.now.insert(telling);
        }
        new
    }
}

impl Overseer {
    /// Works while `leading`, for ever.
    pub async fn run(self, mut leading: watch::Receiver<bool>) {
        // Kept while another leads: one that leads again has not forgotten what it told.
        let mut memory = Memory::default();
        while leading.wait_for(|leads| *leads).await.is_ok() {
            self.metrics.leading.set(1);
            tokio::select! {
                ((), ()) = async { tokio::join!(self.audits(&mut memory), self.finishes()) } => {}
                _ = leading.wait_for(|leads| !*leads) => {}
            }
            // Another replica tells of them now.
            self.metrics.leading.set(0);
            self.metrics.pods.clear();
        }
        // Nobody leads any more: the process is about to end.
        std::future::pending::<()>().await;
    }

    async fn finishes(&self) {
        finisher::run(self.client.clone(), self.events.clone(), self.metrics.clone()).await;
    }

    async fn audits(&self, memory: &mut Memory) {
        loop {
            if let Err(error) = self.audit(memory).await {
                self.metrics.audit_failures.inc();
                tracing::warn!(%error, "failed to look at the pods that run");
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                // What changes together comes together.
                () = async {
                    self.known.changed().await;
                    tokio::time::sleep(self.interval / 10).await;
                } => {}
            }
        }
    }

    async fn audit(&self, memory: &mut Memory) -> Result<(), AuditError> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let scope = Scope::new(&self.known, &configurations.get(&self.configuration).await?);
        let mut census = Census::default();
        // Of a look that failed half-way: what it told is told.
        let told = std::mem::take(&mut memory.told.now);
        memory.told.before.extend(told);
        for place in scope.places() {
            let mut token = None;
            loop {
                let found;
                (found, token) = self.look(&scope, &place, token.as_deref()).await?;
                for mut pod in found {
                    self.act(&mut pod, &mut memory.told).await;
                    census.count(&pod);
                }
                if token.is_none() {
                    break;
                }
            }
        }
        memory.told.before = std::mem::take(&mut memory.told.now);
        self.report(&census, memory);
        memory.unwritten =
            profile_status::write(&self.client, &census, &self.metrics, &memory.unwritten).await?;
        Ok(())
    }

    async fn look(
        &self,
        scope: &Scope,
        place: &Place,
        token: Option<&str>,
    ) -> Result<(Vec<Found>, Option<String>), AuditError> {
        let page = page(&self.client, place, token).await?;
        let (scope, place, known) = (scope.clone(), place.clone(), self.known.clone());
        let judge = move || scope.judge(&page, &place, |pod| look(pod, &known, &scope));
        Ok(tokio::task::spawn_blocking(judge).await??)
    }

    /// Does for one pod what can be done, and tells its owner what can't.
    async fn act(&self, pod: &mut Found, told: &mut Told) {
        let differences = pod.differences.join("; ");
        let (kind, reason, note) = match pod.standing {
            "missing" => {
                let note = "runs without its sidecars: it was created before its label, or while the webhook was not \
                            reached. `kubectl rollout restart` of what made it brings them";
                (EventType::Warning, MISSING, note.to_owned())
            }
            "outdated" if self.live_reload => {
                (EventType::Normal, RESTART, format!("needs a restart to be up to date: {differences}"))
            }
            "reconfigurable" if self.live_reload && self.reload(pod).await => {
                pod.standing = "current";
                (EventType::Normal, RECONFIGURED, format!("brought up to date as it runs: {differences}"))
            }
            UNKNOWN => {
                let name = format!("{}/{}", pod.namespace, pod.name);
                if told.is_new((name.clone(), UNKNOWN, String::new())) {
                    tracing::error!(pod = name, "failed to judge pod: this is a bug, and the log says where");
                }
                return;
            }
            _ => return,
        };
        let Some(owner) = pod.owner.clone() else { return };
        let telling = (owner.uid.clone().unwrap_or_default(), reason, differences);
        // It is current now: the same again is another change.
        if reason == RECONFIGURED {
            told.before.remove(&telling);
        }
        if told.is_new(telling) {
            self.events.tell(owner, kind, reason, format!("pod {}: {note}", pod.name));
        }
    }

    async fn reload(&self, pod: &Found) -> bool {
        let Some(patch) = pod.patch.clone() else { return false };
        tokio::time::sleep(PACE).await;
        let written = self.write(pod, patch).await;
        self.metrics.reloads.get_or_create(&Outcome::of(&written)).inc();
        let (namespace, name, differences) = (&pod.namespace, &pod.name, pod.differences.join("; "));
        match &written {
            Ok(()) => tracing::info!(namespace, pod = name, differences, "brought pod up to date"),
            Err(error) => {
                tracing::warn!(namespace, pod = name, why = why(error), "failed to bring pod up to date");
            }
        }
        written.is_ok()
    }

    /// Not by `kube::Api`, which would parse the pod that comes back and log all of it where it does not fit.
    async fn write(&self, pod: &Found, patch: json_patch::Patch) -> kube::Result<()> {
        let pods = Request::new(format!("/api/v1/namespaces/{}/pods", pod.namespace));
        let patch = Patch::Json::<()>(patch);
        let request =
            pods.patch(&pod.name, &PatchParams::default(), &patch).map_err(kube::Error::BuildRequest)?;
        self.client.request_text(request).await.map(|_| ())
    }

    fn report(&self, census: &Census, memory: &mut Memory) {
        self.metrics.pods.clear();
        for ((namespace, standing), count) in census.series() {
            let labels = PodStanding { namespace: namespace.to_owned(), standing };
            self.metrics.pods.get_or_create(&labels).set(count);
        }
        self.metrics.audits.inc();
        let totals = census.totals();
        if totals != memory.totals {
            let of = |standing| totals.get(standing).copied().unwrap_or(0);
            tracing::info!(
                unknown = of(UNKNOWN),
                missing = of("missing"),
                refused = of("refused"),
                outdated = of("outdated"),
                reconfigurable = of("reconfigurable"),
                current = of("current"),
                "pods that run"
            );
            memory.totals = totals;
        }
    }
}
