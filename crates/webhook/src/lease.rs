//! One replica of all, chosen by a Lease.
//!
//! As client-go does it: who finds the Lease without a holder, or with one that has not renewed it for as long as it promised
//! to, writes itself in, with the version that it read, so that of two one wins. Whether the holder is late is told by our
//! own clock since we saw the last renewal, never by comparing its clock with ours.
//! [kube-lease-manager](https://docs.rs/kube-lease-manager) compares clocks, and takes a lost Lease over without the version.
//!
//! Two may lead for a moment, where a leader can't reach the API server and does not know it yet. What a leader does must bear that.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use outrigger_runtime::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::lookup::why;

/// What a holder promises: to renew more often than this.
const DURATION: Duration = Duration::from_secs(30);
/// A leader that could not renew for so long stops, well before another may start.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often it is renewed, or looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A candidate.
pub struct Candidate {
    api: Api<KubeLease>,
    name: String,
    /// Who we are.
    identity: String,
    /// Of somebody else's Lease: what stood in it when it last changed, and when we saw that.
    seen: Option<(LeaseSpec, Instant)>,
    /// When we last wrote ourselves in.
    renewed: Option<Instant>,
}

impl Candidate {
    /// For the Lease of this name. It must exist: the chart makes it, so that we need no right to create.
    pub fn new(api: Api<KubeLease>, name: &str, identity: &str) -> Self {
        Self { api, name: name.to_owned(), identity: identity.to_owned(), seen: None, renewed: None }
    }

    /// Runs until `stop`, and then hands the Lease on. Says by `leading` whether we are the one.
    pub async fn run(mut self, leading: watch::Sender<bool>, stop: Shutdown) {
        let mut failing = false;
        while !stop.is_requested() {
            let now = Instant::now();
            let tried = tokio::time::timeout(TIMEOUT, self.try_once(now)).await;
            let error = match tried {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(why(&error)),
                Err(_) => Some("the API server did not answer in time".to_owned()),
            };
            if let Some(error) = error.as_ref().filter(|_| !failing) {
                tracing::warn!(
                    lease = self.name,
                    error,
                    "failed to hold lease, and tells no more of it until it succeeds"
                );
            }
            failing = error.is_some();
            let leads = self.leads(Instant::now());
            if leading.send_replace(leads) != leads {
                tracing::info!(
                    lease = self.name,
                    identity = self.identity,
                    leads,
                    "looks after running pods"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.requested() => {}
            }
        }
        if leading.send_replace(false) {
            // So that the next one need not wait for the end of our promise. What fails here costs that wait.
            let _ = tokio::time::timeout(TIMEOUT, self.release()).await;
        }
    }

    /// Whether we may do what only one may.
    pub fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now.duration_since(renewed) < DEADLINE)
    }

    /// Renews the Lease, or takes it where nobody has it.
    pub async fn try_once(&mut self, now: Instant) -> kube::Result<()> {
        let mut lease = self.api.get(&self.name).await?;
        let spec = lease.spec.take().unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(self.identity.as_str());
        if !ours && self.is_held(&spec, now) {
            self.renewed = None;
            return Ok(());
        }
        let time = MicroTime(Timestamp::now());
        let changes = spec.lease_transitions.unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: spec.acquire_time.filter(|_| ours).or_else(|| Some(time.clone())),
            renew_time: Some(time),
            lease_transitions: Some(if ours { changes } else { changes.saturating_add(1) }),
            ..LeaseSpec::default()
        });
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            // From before the request: the promise holds from when it was made.
            Ok(_) => self.renewed = Some(now),
            Err(kube::Error::Api(status)) if status.code == 409 => self.renewed = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether somebody else holds it, as far as we have seen.
    fn is_held(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        if spec.holder_identity.as_ref().is_none_or(String::is_empty) {
            return false;
        }
        let promised = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let promised = promised.map_or(DURATION, Duration::from_secs);
        match &self.seen {
            Some((seen, since)) if seen == spec => now.duration_since(*since) < promised,
            _ => {
                self.seen = Some((spec.clone(), now));
                true
            }
        }
    }

    async fn release(&self) -> kube::Result<()> {
        let mut lease = self.api.get(&self.name).await?;
        if let Some(spec) =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        {
            spec.holder_identity = None;
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}
