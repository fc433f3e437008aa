//! The rotation loop against an API server with `resourceVersion`s.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use kube::{Api, Client};
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown;
use outrigger_webhook::certificate::{Material, Policy};
use outrigger_webhook::metrics::Metrics;
use outrigger_webhook::registration::Registration;
use outrigger_webhook::rotation::Rotation;
use outrigger_webhook::secret::Store;
use outrigger_webhook::served::Served;
use outrigger_webhook::x509::verify;
use serde_json::json;

use crate::cluster::{self, CONFIGURATION, NAME, SECRET, bundles};
use crate::{DEADLINE, until};
use outrigger_fake_api::FakeApi;

const DAY: Duration = Duration::from_hours(24);

fn rotation(client: &Client) -> Rotation {
    Rotation {
        secret: Store::new(client.clone(), cluster::RELEASE, "outrigger-webhook-certificate"),
        registration: registration(client, &Readiness::default()),
        policy: Policy { name: NAME.into(), lifetime: 30 * DAY },
    }
}

pub(crate) fn registration(client: &Client, readiness: &Readiness) -> Registration {
    Registration {
        api: Api::all(client.clone()),
        name: "outrigger-webhook".into(),
        server_name: NAME.into(),
        served: Served::default(),
        accepted: readiness.condition("certificate"),
        metrics: Metrics::unregistered(),
    }
}

fn material(api: &FakeApi) -> Material {
    let secret = serde_json::from_value::<k8s_openapi::api::core::v1::Secret>(api.object(SECRET)).unwrap();
    Material::parse(&secret.data.unwrap()).unwrap()
}

#[tokio::test]
async fn empty_secret_becomes_a_certificate_that_the_configuration_accepts() {
    let (api, client) = cluster::installed().await;
    let rotation = rotation(&client);
    rotation.settle(SystemTime::now).await.unwrap();
    let bundles = bundles(&api);
    assert_eq!(bundles.len(), 2);
    for bundle in bundles {
        material(&api).verify(bundle.as_bytes(), NAME, SystemTime::now()).unwrap();
    }
    assert!(rotation.registration.served.certificate().is_some());
    assert_eq!(rotation.registration.metrics.ca_bundle_patches.get(), 1);
    assert_eq!(api.object(CONFIGURATION)["metadata"]["labels"]["kept"], "yes");
}

#[tokio::test]
async fn settled_cluster_is_only_read() {
    let (api, client) = cluster::installed().await;
    rotation(&client).settle(SystemTime::now).await.unwrap();
    let before = (api.object(SECRET), api.object(CONFIGURATION));
    rotation(&client).settle(SystemTime::now).await.unwrap();
    assert_eq!((api.object(SECRET), api.object(CONFIGURATION)), before);
}

#[tokio::test]
async fn replicas_that_start_together_end_with_one_certificate() {
    for _ in 0..10 {
        let (api, client) = cluster::installed().await;
        let replicas = [rotation(&client), rotation(&client), rotation(&client)];
        let settled = replicas.each_ref().map(|replica| replica.settle(SystemTime::now));
        for result in futures::future::join_all(settled).await {
            result.unwrap();
        }
        let expected = material(&api).certified_key().unwrap().cert[0].to_vec();
        for replica in replicas {
            assert_eq!(replica.registration.served.certificate().as_ref(), Some(&expected));
        }
        assert!(bundles(&api).iter().all(|bundle| bundle.as_bytes() == material(&api).bundle()));
    }
}

#[tokio::test]
async fn certificate_is_renewed_under_the_same_authority_and_shared() {
    let (api, client) = cluster::installed().await;
    let (first, second) = (rotation(&client), rotation(&client));
    first.settle(SystemTime::now).await.unwrap();
    let before = (bundles(&api), first.registration.served.certificate());
    let later = || SystemTime::now() + 21 * DAY;
    let settled = first.settle(later).await.unwrap();
    assert!(settled.expiry > SystemTime::now() + 50 * DAY);
    assert_eq!(bundles(&api), before.0);
    assert_ne!(first.registration.served.certificate(), before.1);
    second.settle(later).await.unwrap();
    assert_eq!(second.registration.served.certificate(), first.registration.served.certificate());
}

/// A draining replica went on renewing, by flags that its successors no longer had.
#[tokio::test]
async fn rotation_ends_with_the_stop() {
    let (api, client) = cluster::installed().await;
    let (trigger, stop) = shutdown::channel();
    let running = tokio::spawn(rotation(&client).run(stop.clone()));
    until("the first certificate", async || bundles(&api)[0].contains("BEGIN")).await;
    trigger.request();
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap();
    let before = api.requests("");
    rotation(&client).run(stop).await;
    assert_eq!(api.requests(""), before, "not even one look");
}

#[tokio::test]
async fn garbage_is_made_anew() {
    let (api, client) = cluster::installed().await;
    let rotation = rotation(&client);
    rotation.settle(SystemTime::now).await.unwrap();
    let mut secret = api.object(SECRET);
    secret["data"]["tls.key"] = "Z2FyYmFnZQ==".into();
    secret["data"]["mine"] = "a2VwdA==".into();
    api.put(SECRET, secret);
    rotation.settle(SystemTime::now).await.unwrap();
    assert!(bundles(&api).iter().all(|bundle| bundle.as_bytes().starts_with(&material(&api).bundle())));
    assert_eq!(api.object(SECRET)["data"]["mine"], "a2VwdA==", "other people's keys stay");
}

/// `helm upgrade --force`, or somebody's `kubectl replace`.
#[tokio::test]
async fn ca_bundle_that_was_taken_away_comes_back() {
    let (api, client) = cluster::installed().await;
    let rotation = rotation(&client);
    rotation.settle(SystemTime::now).await.unwrap();
    let good = bundles(&api);
    let mut configuration = api.object(CONFIGURATION);
    configuration["webhooks"][1]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    configuration["webhooks"][1]["timeoutSeconds"] = json!(7);
    api.put(CONFIGURATION, configuration);
    rotation.settle(SystemTime::now).await.unwrap();
    assert_eq!(bundles(&api), good);
    assert_eq!(api.object(CONFIGURATION)["webhooks"][1]["timeoutSeconds"], 7);
}

/// Every step of a change of authority, with a replica that is one step behind.
#[tokio::test]
async fn change_of_authority_leaves_every_replica_accepted_throughout() {
    let (api, client) = cluster::installed().await;
    let (quick, slow) = (rotation(&client), rotation(&client));
    let begin = SystemTime::now();
    let accepted = |rotation: &Rotation, at: SystemTime| {
        let certificate = rotation.registration.served.certificate().unwrap().into();
        bundles(&api).iter().all(|bundle| verify(&certificate, bundle.as_bytes(), NAME, at).is_ok())
    };
    // 3650 days of authority: due after 2433.3.
    for (day, authorities) in [(0, 1), (2432, 1), (2434, 2)] {
        let at = begin + day * DAY;
        quick.settle(|| at).await.unwrap();
        assert!(day != 2434 || accepted(&slow, at), "slow has not heard of it yet");
        slow.settle(|| at).await.unwrap();
        assert!(accepted(&quick, at) && accepted(&slow, at));
        assert_eq!(bundles(&api)[0].matches("BEGIN").count(), authorities);
    }
    let before = quick.registration.served.certificate();
    let settled = begin + 2434 * DAY + Duration::from_mins(2);
    quick.settle(|| settled).await.unwrap();
    assert_ne!(quick.registration.served.certificate(), before, "signed by the new authority now");
    assert!(accepted(&quick, settled) && accepted(&slow, settled));
    slow.settle(|| settled).await.unwrap();
    assert_eq!(quick.registration.served.certificate(), slow.registration.served.certificate());
}

/// Somebody else's caBundle, and no right to put ours back: an API server would refuse us.
#[tokio::test]
async fn readiness_ends_while_the_configuration_trusts_somebody_else() {
    let (api, client) = cluster::installed().await;
    let readiness = Readiness::default();
    let rotation = Rotation { registration: registration(&client, &readiness), ..rotation(&client) };
    assert_eq!(readiness.missing(), ["certificate"]);
    rotation.settle(SystemTime::now).await.unwrap();
    assert!(readiness.missing().is_empty());
    let mut configuration = api.object(CONFIGURATION);
    configuration["webhooks"][1]["clientConfig"]["caBundle"] = "Zm9yZWlnbg==".into();
    api.put(CONFIGURATION, configuration);
    api.refuse("PATCH", StatusCode::FORBIDDEN, "no such right");
    let message = rotation.settle(SystemTime::now).await.unwrap_err().to_string();
    assert!(message.contains("failed to write mutatingwebhookconfiguration outrigger-webhook"), "{message}");
    assert_eq!(readiness.missing(), ["certificate"]);
}

/// Another replica serves the old certificate until its next look.
#[tokio::test]
async fn secret_that_was_emptied_leaves_every_replica_accepted() {
    let (api, client) = cluster::installed().await;
    let readiness = Readiness::default();
    let quick = rotation(&client);
    let slow = Rotation { registration: registration(&client, &readiness), ..rotation(&client) };
    slow.settle(SystemTime::now).await.unwrap();
    let mut secret = api.object(SECRET);
    secret.as_object_mut().unwrap().remove("data");
    api.put(SECRET, secret);
    quick.settle(SystemTime::now).await.unwrap();
    assert_ne!(quick.registration.served.certificate(), slow.registration.served.certificate());
    for served in [&quick.registration.served, &slow.registration.served] {
        let certificate = served.certificate().unwrap().into();
        for bundle in bundles(&api) {
            verify(&certificate, bundle.as_bytes(), NAME, SystemTime::now()).unwrap();
        }
    }
    slow.settle(SystemTime::now).await.unwrap();
    assert!(readiness.missing().is_empty());
    assert_eq!(quick.registration.served.certificate(), slow.registration.served.certificate());
    slow.settle(|| SystemTime::now() + Duration::from_mins(2)).await.unwrap();
    assert_eq!(bundles(&api)[0].as_bytes(), material(&api).bundle(), "the lost authority is forgotten");
}

/// `all` over nothing held, so it was ready.
#[tokio::test]
async fn configuration_without_webhooks_is_not_ready_and_says_so() {
    let (api, client) = cluster::installed().await;
    let readiness = Readiness::default();
    let rotation = Rotation { registration: registration(&client, &readiness), ..rotation(&client) };
    rotation.settle(SystemTime::now).await.unwrap();
    for webhooks in [json!([]), json!(null)] {
        let mut configuration = api.object(CONFIGURATION);
        configuration["webhooks"] = webhooks;
        api.put(CONFIGURATION, configuration);
        let message = rotation.settle(SystemTime::now).await.unwrap_err().to_string();
        assert!(message.contains("outrigger-webhook has no webhooks"), "{message}");
        assert_eq!(readiness.missing(), ["certificate"]);
    }
}

/// Every 422 was taken for a lost race, and after ten of them somebody else was blamed.
#[tokio::test]
async fn patch_that_is_not_allowed_is_told_in_the_words_of_the_api_server() {
    let (api, client) = cluster::installed().await;
    api.refuse("PATCH", StatusCode::UNPROCESSABLE_ENTITY, "caBundle: not on a Tuesday");
    let message = rotation(&client).settle(SystemTime::now).await.unwrap_err().to_string();
    assert!(message.contains("caBundle: not on a Tuesday (422)"), "{message}");
    assert_eq!(api.requests("PATCH"), 1);
}

#[tokio::test]
async fn what_the_chart_should_have_made_is_named() {
    let (api, client) = cluster::installed().await;
    let rotation = rotation(&client);
    api.delete(CONFIGURATION);
    let message = rotation.settle(SystemTime::now).await.unwrap_err().to_string();
    assert!(message.contains("mutatingwebhookconfiguration outrigger-webhook"), "{message}");
}

/// It waited for a `helm upgrade`, and the certificate ran out meanwhile.
#[tokio::test]
async fn secret_that_was_deleted_is_made_again() {
    let (api, client) = cluster::installed().await;
    let (first, second) = (rotation(&client), rotation(&client));
    first.settle(SystemTime::now).await.unwrap();
    second.settle(SystemTime::now).await.unwrap();
    api.delete(SECRET);
    let (one, other) = tokio::join!(first.settle(SystemTime::now), second.settle(SystemTime::now));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(first.registration.served.certificate(), second.registration.served.certificate());
    material(&api).verify(bundles(&api)[0].as_bytes(), NAME, SystemTime::now()).unwrap();
    assert_eq!(api.requests("POST"), 0, "no right to create other Secrets is needed");

    api.delete(SECRET);
    api.refuse("PATCH", StatusCode::FORBIDDEN, "no such right");
    let message = first.settle(SystemTime::now).await.unwrap_err().to_string();
    assert!(message.contains("failed to create secret outrigger-webhook-certificate"), "{message}");
}
