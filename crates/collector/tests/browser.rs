//! The page in a real Chromium. Pictures of what it showed stand in `target/tmp/dashboard`.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

mod support;
#[path = "support/webdriver.rs"]
mod webdriver;

use std::time::Duration;

use support::{Collector, FAST, Load, SLOW, Sidecar, eventually, pod, within};
use webdriver::Browser;

/// Four pods of `api` and one of `frontend`, which calls them; of the four, the third is slow.
fn four_and_one() -> (Collector, Vec<Sidecar>) {
    let api = [FAST, FAST, SLOW, FAST].map(Sidecar::start);
    let sidecars: Vec<_> = api.into_iter().chain([Sidecar::start(Load { calls: "api", ..FAST })]).collect();
    let pods: Vec<_> = (0..5)
        .map(|number| pod(if number < 4 { "api" } else { "frontend" }, number, sidecars[number].address))
        .collect();
    (Collector::start(&pods), sidecars)
}

/// The browser, or a failure where the tests must not be left out: in CI.
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    assert!(
        browser.is_some() || std::env::var_os("CI").is_none(),
        "there is no chromedriver: scripts/setup test"
    );
    if browser.is_none() {
        eprintln!("left out: there is no chromedriver (scripts/setup test installs it)");
    }
    browser
}

#[test]
fn of_four_pods_the_slow_one_alone_stands_out_and_changes_show_at_once() {
    let Some(browser) = browser() else { return };
    let (collector, mut sidecars) = four_and_one();
    browser.open(&format!("{}/#/services/shop/api", collector.url));
    eventually("one card is slow", || browser.texts(".pod.slow .who a") == ["api-5d9f-2"]);
    assert_eq!(browser.texts(".pod").len(), 4);
    assert_eq!(browser.texts(".pod.good").len(), 3);
    assert!(browser.texts(".pod.slow .why")[0].contains("its peers' is"), "it says beside what");
    browser.picture("service-light");

    sidecars[0].set(Load { errors_of_100: 40, ..FAST });
    within(Duration::from_secs(3), "errors show", || browser.texts(".pod.failing .who a") == ["api-5d9f-0"]);
    browser.picture("service-errors");

    sidecars.remove(3).kill();
    within(Duration::from_secs(5), "the dead pod is marked", || {
        browser.texts(".pod.gone .who a") == ["api-5d9f-3"]
    });
    browser.picture("service-dead");
    assert_eq!(browser.complaints(), [""; 0], "the console");
}

#[test]
fn the_mesh_leads_to_the_pod_by_the_keyboard_in_both_themes_and_on_a_phone() {
    let Some(browser) = browser() else { return };
    let (collector, _sidecars) = four_and_one();
    browser.prefers("light");
    browser.open(&collector.url);
    eventually("the service is slow", || browser.texts(".service.slow .who a") == ["api"]);
    eventually("curves are drawn", || browser.value("!!document.querySelector('.spark path[d*=L]')") == true);
    eventually("who calls whom is drawn", || {
        let edges = browser.value(
            "[...document.querySelectorAll('.edge')].map((edge) => edge.getAttribute('aria-label')).join()",
        );
        let edges = edges.as_str().unwrap();
        edges.starts_with("frontend calls api: 40/s") && edges.ends_with("circuit open")
    });
    let ground = || browser.value("getComputedStyle(document.body).backgroundColor");
    let light = ground();
    browser.picture("mesh-light");
    browser.prefers("dark");
    assert_ne!(ground(), light, "the system's theme is followed");
    browser.picture("mesh-dark");

    for (width, name) in [(360, "mesh-phone"), (1280, "mesh-dark")] {
        browser.resize(width, 800);
        let wide = browser.value("document.documentElement.scrollWidth");
        assert_eq!(wide, width, "nothing sticks out at {width} px");
        browser.picture(name);
    }
    // To the link of the service, and on to its slow pod.
    for (link, then) in [("api", "#/services/shop/api"), ("api-5d9f-2", "#/pods/shop/api-5d9f-2")] {
        eventually("the link is reached by tabs", || {
            browser.press("Tab");
            browser.value("document.activeElement.textContent") == link
        });
        browser.press("Enter");
        eventually("it opened", || browser.value("location.hash") == then);
    }
    eventually("the pod is shown", || browser.texts("h1") == ["api-5d9f-2"]);
    let text = browser.texts("body").concat();
    assert!(text.contains("(hidden)") && !text.contains(support::TOKEN), "the token is shown to nobody");
    browser.picture("pod-dark");
    browser.resize(360, 800);
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 360);
    browser.picture("pod-phone");
    assert_eq!(browser.complaints(), [""; 0], "the console");
}
