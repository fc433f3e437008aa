//! The certificate that somebody else keeps in the Secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::Client;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown;
use outrigger_webhook::certificate::{Material, Policy};
use outrigger_webhook::provided::{Memory, Provided};
use outrigger_webhook::secret::Store;
use outrigger_webhook::x509::verify;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{self, CONFIGURATION, NAME, RELEASE, SECRET, bundles};
use crate::rotation::registration;
use crate::until;
use outrigger_fake_api::FakeApi;

const SETTLES: Duration = Duration::from_secs(10);

/// A replica and its memory.
struct Replica {
    provided: Provided,
    memory: Memory,
    readiness: Readiness,
}

impl Replica {
    fn new(client: &Client) -> Self {
        let readiness = Readiness::default();
        let secret = Store::new(client.clone(), RELEASE, "outrigger-webhook-certificate");
        let registration = registration(client, &readiness);
        let provided = Provided { secret, registration, settles: SETTLES };
        Self { provided, memory: Memory::default(), readiness }
    }

    /// Looks once, `seconds` after the start; the error's text, if there is one.
    async fn look(&mut self, start: Instant, seconds: u64) -> Result<(), String> {
        let after = Duration::from_secs(seconds);
        let looked = self.provided.look(&mut self.memory, SystemTime::now() + after, start + after).await;
        looked.map(|_| ()).map_err(|error| error.to_string())
    }

    fn served(&self) -> Vec<u8> {
        self.provided.registration.served.certificate().unwrap()
    }

    /// Whether an API server would accept it, by every entry of the configuration.
    fn is_accepted(&self, api: &FakeApi) -> bool {
        let served = self.served().into();
        let accepts = |bundle: String| verify(&served, bundle.as_bytes(), NAME, SystemTime::now()).is_ok();
        bundles(api).into_iter().all(accepts)
    }
}

fn material(begin: SystemTime) -> Material {
    Material::create(&Policy { name: NAME.into(), lifetime: Duration::from_hours(1) }, begin).unwrap()
}

/// As cert-manager writes it.
pub(crate) fn provide(api: &FakeApi, material: &Material) {
    let mut data = serde_json::to_value(material.data()).unwrap();
    data.as_object_mut().unwrap().remove("ca.key");
    api.put(SECRET, json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data}));
}

async fn provided() -> (FakeApi, Client, Material) {
    let (api, client) = cluster::installed().await;
    let material = material(SystemTime::now());
    provide(&api, &material);
    (api, client, material)
}

fn annotate(api: &FakeApi, key: &str) {
    let mut configuration = api.object(CONFIGURATION);
    configuration["metadata"]["annotations"] = json!({key: "outrigger/outrigger-webhook"});
    api.put(CONFIGURATION, configuration);
}

fn set_bundles(api: &FakeApi, bundle: &Value) {
    let mut configuration = api.object(CONFIGURATION);
    for entry in configuration["webhooks"].as_array_mut().unwrap() {
        entry["clientConfig"]["caBundle"] = bundle.clone();
    }
    api.put(CONFIGURATION, configuration);
}

#[tokio::test]
async fn certificate_of_the_secret_is_served_and_its_authority_registered_and_the_secret_never_written() {
    let (api, client, material) = provided().await;
    let secret = api.object(SECRET);
    let (mut replica, start) = (Replica::new(&client), Instant::now());
    replica.look(start, 0).await.unwrap();
    assert!(replica.readiness.missing().is_empty());
    assert_eq!(
        bundles(&api),
        [material.bundle(), material.bundle()].map(|pem| String::from_utf8(pem).unwrap())
    );
    let configuration = api.object(CONFIGURATION);
    for seconds in [30, 200] {
        replica.look(start, seconds).await.unwrap();
    }
    assert_eq!(
        (api.object(SECRET), api.object(CONFIGURATION)),
        (secret, configuration),
        "settled is only read"
    );
}

#[tokio::test]
async fn bundle_that_others_keep_is_left_to_them() {
    // The second is the chart's, for `tls.caBundle`: the Secret's `ca.crt` took the place of what the user had given.
    for keeper in ["cert-manager.io/inject-ca-from", "outrigger.dev/ca-bundle"] {
        let (api, client, material) = provided().await;
        annotate(&api, keeper);
        let (mut replica, start) = (Replica::new(&client), Instant::now());
        assert!(replica.look(start, 0).await.unwrap_err().contains("would be refused"));
        assert_eq!((replica.readiness.missing(), api.requests("PATCH")), (vec!["certificate"], 0));
        let data = serde_json::to_value(material.data()).unwrap();
        set_bundles(&api, &data["ca.crt"]);
        replica.look(start, 1).await.unwrap();
        assert!(replica.readiness.missing().is_empty());
        assert_eq!(api.requests("PATCH"), 0);
    }
}

/// linkerd2#1898, vault-helm#331: what one replica served was refused, or two wrote the configuration in turn.
#[tokio::test]
async fn change_of_authority_leaves_every_replica_accepted_and_none_writes_twice() {
    let (api, client, _) = provided().await;
    let (mut quick, mut slow) = (Replica::new(&client), Replica::new(&client));
    let start = Instant::now();
    quick.look(start, 0).await.unwrap();
    slow.look(start, 0).await.unwrap();
    let old = quick.served();
    let new = material(SystemTime::now());
    provide(&api, &new);
    for seconds in 100..140 {
        quick.look(start, seconds).await.unwrap();
        if seconds >= 129 {
            slow.look(start, seconds).await.unwrap();
        }
        assert!(quick.is_accepted(&api) && slow.is_accepted(&api), "at {seconds}");
        assert_eq!(
            quick.served() == old,
            seconds < 110,
            "API servers have until then to hear of the new one"
        );
        assert_eq!(slow.served() == old, seconds < 139);
    }
    for seconds in [200, 221, 240, 260] {
        quick.look(start, seconds).await.unwrap();
        slow.look(start, seconds).await.unwrap();
        assert!(quick.is_accepted(&api) && slow.is_accepted(&api), "at {seconds}");
    }
    assert_eq!(bundles(&api)[0].as_bytes(), new.bundle(), "the old authority is forgotten");
    let patches =
        [&quick, &slow].map(|replica| replica.provided.registration.metrics.ca_bundle_patches.get());
    assert_eq!(patches.iter().sum::<u64>(), 3, "the first, the new one beside it, the new one alone");
}

#[tokio::test]
async fn secret_that_is_gone_or_broken_leaves_what_is_served_until_it_is_back() {
    let (api, client, _) = provided().await;
    let (mut replica, start) = (Replica::new(&client), Instant::now());
    replica.look(start, 0).await.unwrap();
    let (served, good) = (replica.served(), api.object(SECRET));
    api.delete(SECRET);
    let message = replica.look(start, 1).await.unwrap_err();
    assert!(
        message.contains("outrigger-webhook-certificate: with --tls-mode secret somebody else makes it"),
        "{message}"
    );
    let stranger = serde_json::to_value(material(SystemTime::now()).data()).unwrap();
    let breaks: [(&str, Value, &str); 4] = [
        ("tls.crt", Value::Null, "tls.crt is missing"),
        ("tls.crt", "Z2FyYmFnZQ==".into(), "tls.crt is not PEM"),
        ("tls.key", stranger["tls.key"].clone(), "tls.key does not belong to tls.crt"),
        ("ca.crt", "LS0tLS1CRUdJTg==".into(), ""),
    ];
    for (key, value, wanted) in breaks {
        let mut secret = good.clone();
        let data = secret["data"].as_object_mut().unwrap();
        data.remove(key);
        data.extend((!value.is_null()).then(|| (key.to_owned(), value)));
        api.put(SECRET, secret);
        let message = replica.look(start, 2).await.err().unwrap_or_default();
        assert!(message.contains(wanted), "{key}: {message}");
        assert!(replica.served() == served && replica.readiness.missing().is_empty(), "{key}");
    }
    let renewed = material(SystemTime::now());
    provide(&api, &renewed);
    replica.look(start, 3).await.unwrap();
    replica.look(start, 14).await.unwrap();
    assert!(
        replica.served() != served && replica.is_accepted(&api) && replica.readiness.missing().is_empty()
    );
}

/// Our clock is an hour behind: to us the certificate is not valid yet, to API servers it may well be.
#[tokio::test]
async fn certificate_of_the_future_is_served_and_accepted_by_itself_later() {
    let (api, client) = cluster::installed().await;
    provide(&api, &material(SystemTime::now() + Duration::from_hours(1)));
    let (mut replica, start) = (Replica::new(&client), Instant::now());
    let message = replica.look(start, 0).await.unwrap_err();
    assert!(message.contains("not valid yet"), "{message}");
    assert!(!replica.served().is_empty());
    assert_eq!(replica.readiness.missing(), ["certificate"]);
    replica.look(start, 3600).await.unwrap();
    assert!(replica.readiness.missing().is_empty());
}

/// The loop as it runs: a new Secret is found by the watch and not by the next look.
#[tokio::test]
async fn renewed_secret_is_served_soon() {
    let (api, client, _) = provided().await;
    let mut replica = Replica::new(&client);
    replica.provided.settles = Duration::ZERO;
    let served = replica.provided.registration.served.clone();
    let (trigger, stop) = shutdown::channel();
    let task = tokio::spawn(replica.provided.run(client, RELEASE.into(), stop));
    until("the first", async || served.certificate().is_some()).await;
    let first = served.certificate();
    for _ in 0..3 {
        let next = Arc::new(material(SystemTime::now()));
        provide(&api, &next);
        let wanted = next.certified_key().unwrap().cert[0].to_vec();
        until("the next", async || served.certificate().is_some_and(|served| served == wanted)).await;
    }
    assert_ne!(served.certificate(), first);
    trigger.request();
    task.await.unwrap();
}
