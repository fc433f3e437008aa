//! Which replica leads.

use std::time::Duration;

use kube::Api;
use outrigger_runtime::shutdown;
use outrigger_webhook::lease::Candidate;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::{self, LEASE, RELEASE};
use crate::until;

fn candidate(client: &kube::Client, identity: &str) -> Candidate {
    Candidate::new(Api::namespaced(client.clone(), RELEASE), "outrigger-webhook", identity)
}

#[tokio::test]
async fn one_leads_until_it_has_been_silent_for_as_long_as_it_promised() {
    let (api, client) = cluster::installed().await;
    let (mut first, mut second) = (candidate(&client, "first"), candidate(&client, "second"));
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    first.try_once(start).await.unwrap();
    second.try_once(start).await.unwrap();
    assert!(first.leads(start) && !second.leads(start));
    for second_look in [20, 40, 60] {
        first.try_once(after(second_look)).await.unwrap();
        second.try_once(after(second_look)).await.unwrap();
        assert!(first.leads(after(second_look)) && !second.leads(after(second_look)));
    }
    // The first is cut off: it stops by itself before the second starts.
    second.try_once(after(85)).await.unwrap();
    assert!(!first.leads(after(81)) && !second.leads(after(85)));
    second.try_once(after(91)).await.unwrap();
    assert!(second.leads(after(91)));
    first.try_once(after(92)).await.unwrap();
    assert!(!first.leads(after(92)));
    assert_eq!(api.object(LEASE)["spec"]["leaseTransitions"], 2);
}

/// A holder whose clock is an hour behind or ahead renews all the same.
#[tokio::test]
async fn clock_of_the_holder_does_not_matter() {
    let (api, client) = cluster::installed().await;
    for time in ["2000-01-01T00:00:00.000000Z", "2100-01-01T00:00:00.000000Z"] {
        let mut lease = api.object(LEASE);
        lease["spec"] = serde_json::json!({
            "holderIdentity": "skewed", "leaseDurationSeconds": 30, "renewTime": time, "leaseTransitions": 1,
        });
        api.put(LEASE, lease);
        let (mut second, start) = (candidate(&client, "second"), Instant::now());
        second.try_once(start).await.unwrap();
        assert!(!second.leads(start), "{time}");
        second.try_once(start + Duration::from_secs(31)).await.unwrap();
        assert!(second.leads(start + Duration::from_secs(31)), "{time}");
    }
}

#[tokio::test]
async fn two_that_take_it_at_once_end_with_one_leader() {
    for _ in 0..10 {
        let (_api, client) = cluster::installed().await;
        let (mut first, mut second) = (candidate(&client, "first"), candidate(&client, "second"));
        let now = Instant::now();
        let (one, other) = tokio::join!(first.try_once(now), second.try_once(now));
        one.and(other).unwrap();
        assert!(first.leads(now) != second.leads(now));
    }
}

#[tokio::test]
async fn leader_that_stops_hands_it_on_at_once() {
    let (api, client) = cluster::installed().await;
    let (leading, lead) = watch::channel(false);
    let (trigger, stop) = shutdown::channel();
    let task = tokio::spawn(candidate(&client, "first").run(leading, stop));
    until("the first leads", async || *lead.borrow()).await;
    trigger.request();
    task.await.unwrap();
    assert!(!*lead.borrow() && api.object(LEASE)["spec"]["holderIdentity"].is_null());
    let mut second = candidate(&client, "second");
    second.try_once(Instant::now()).await.unwrap();
    assert!(second.leads(Instant::now()));
}
