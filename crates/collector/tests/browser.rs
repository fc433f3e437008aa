//! The page in a real Chromium. Pictures of what it showed stand in `target/tmp/dashboard`.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

mod support;
#[path = "support/webdriver.rs"]
mod webdriver;

use support::{Collector, FAST, Load, SLOW, Sidecar, content_sync, eventually, pod, pod_with_files};
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
    eventually("errors show", || browser.texts(".pod.failing .who a") == ["api-5d9f-0"]);
    browser.picture("service-errors");

    sidecars.remove(3).kill();
    eventually("the dead pod is marked", || browser.texts(".pod.gone .who a") == ["api-5d9f-3"]);
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
    browser.value("document.querySelector('.skip').click()");
    assert_eq!(browser.value("document.activeElement.id"), "main", "the link to the content moves the focus");
    assert!(
        browser.value("location.hash").as_str().is_some_and(|hash| hash.starts_with("#/pods/")),
        "and no more"
    );
    browser.picture("pod-dark");
    browser.resize(360, 800);
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 360);
    browser.picture("pod-phone");
    assert_eq!(browser.complaints(), [""; 0], "the console");
}

/// A browser has six connections to one address. Once each tab kept one, also where nobody saw it: the seventh never got its page.
#[test]
fn tabs_behind_others_ask_for_nothing_and_go_on_when_they_are_seen() {
    const MANY: usize = 7;
    let Some(browser) = browser() else { return };
    let (collector, sidecars) = four_and_one();
    let url = format!("{}/#/services/shop/api", collector.url);
    browser.open(&url);
    let first = browser.tab();
    for _ in 1..MANY {
        eventually("the page is there", || browser.texts(".pod").len() == 4);
        browser.open_tab(&url);
    }
    eventually("the last page is there, too", || browser.texts(".pod").len() == 4);
    sidecars[0].set(Load { errors_of_100: 40, ..FAST });
    eventually("and goes on", || browser.texts(".pod.failing .who a") == ["api-5d9f-0"]);
    browser.show_tab(&first);
    eventually("the first goes on", || browser.texts(".pod.failing .who a") == ["api-5d9f-0"]);
    assert_eq!(browser.complaints(), [""; 0], "the console");
}

/// Once, states were known by name alone: with two services of one name, changes that were none were read aloud each second. And a
/// link that was cut off in the middle of a character left the page empty.
#[test]
fn namesakes_are_two_and_a_broken_link_leads_to_the_mesh() {
    let Some(browser) = browser() else { return };
    let (good, bad) = (Sidecar::start(FAST), Sidecar::start(Load { errors_of_100: 40, ..FAST }));
    let mut namesake = pod("api", 0, bad.address);
    namesake["metadata"]["namespace"] = "prod".into();
    let collector = Collector::start(&[pod("api", 0, good.address), namesake]);
    browser.open(&format!("{}/#/services/%", collector.url));
    eventually("one of the two fails", || {
        browser.texts(".service.failing .who .quiet") == ["prod · 1 pod"]
            && browser.texts(".service.good .who .quiet") == ["shop · 1 pod"]
    });
    browser.value("document.getElementById('news').textContent = ''");
    browser.value("new EventSource(`api/v1/events/mesh`).onmessage = () => { window.updates = (window.updates ?? 0) + 1; }");
    eventually("updates come", || browser.value("window.updates ?? 0").as_u64() >= Some(3));
    assert_eq!(browser.texts("#news"), [""], "nothing has changed");
    assert_eq!(browser.complaints(), [""; 0], "the console");
}

#[test]
fn a_pods_files_are_shown_with_their_version_and_why_one_is_not_taken() {
    let Some(browser) = browser() else { return };
    let sidecar = Sidecar::start(FAST);
    let since = "2026-01-01T10:00:00Z";
    let why = "v3 was bad: the app was not ready 1m after it came; a newer one is waited for";
    let pods: Vec<_> = [("v2", None), ("v2", None), ("v1", Some(("BadVersion", why)))]
        .into_iter()
        .enumerate()
        .map(|(number, (version, wrong))| {
            pod_with_files("site", number, sidecar.address, content_sync(version, since, wrong))
        })
        .collect();
    let collector = Collector::start(&pods);
    browser.prefers("light");
    browser.open(&format!("{}/#/services/shop/site", collector.url));
    eventually("all have told of their files", || {
        browser.texts(".facts dd") == ["v1 on 1 pod, v2 on 2 pods"]
    });
    assert_eq!(browser.texts(".facts dt"), ["app:/srv/www"]);
    let chip = &browser.texts(".pod.elevated .chip")[0];
    assert!(chip.starts_with("/srv/www: v1 for ") && chip.ends_with(", BadVersion"), "{chip}");
    assert!(browser.texts(".pod.elevated .why")[0].contains(why));
    assert_eq!(browser.texts(".pod.good .chip").len(), 2);
    browser.picture("files-service");
    browser.open(&format!("{}/#/pods/shop/site-5d9f-2", collector.url));
    eventually("the pod's files are shown", || {
        let cells = browser.texts(".files tbody tr > *");
        cells.len() == 5
            && cells[1].starts_with("v1 4b825dc642")
            && cells[3].contains(why)
            && cells[4] == "v3"
    });
    browser.picture("files-pod");
    browser.resize(360, 800);
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 360);
    browser.picture("files-phone");
    assert_eq!(browser.complaints(), [""; 0], "the console");
}

/// What the page may cost. Work is told by the CPU time of the page's main thread; paint and an update by the fastest of several, since other
/// programs of the machine can only add to them. Once an update was 147 ms of work: all rows were built anew, in sight or not.
#[test]
fn sixty_pods_and_two_hundred_endpoints_scroll_smoothly_and_the_page_is_small_and_soon_there() {
    const UPDATES: usize = 5;
    const PIXELS_A_FRAME: f64 = 50.0;
    let Some(browser) = browser() else { return };
    let sidecars: Vec<_> = (0..60)
        .map(|number| Sidecar::start(Load { routes: if number == 0 { 200 } else { 3 }, ..FAST }))
        .collect();
    let pods: Vec<_> =
        sidecars.iter().enumerate().map(|(number, sidecar)| pod("api", number, sidecar.address)).collect();
    let collector = Collector::start(&pods);
    let number = |expression: &str| browser.value(expression).as_f64().unwrap();
    let paint = (0..5).map(|_| {
        browser.open(&collector.url);
        eventually("it is painted", || number("performance.getEntriesByType('paint').length") > 0.0);
        number("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    });
    let paint = paint.fold(f64::INFINITY, f64::min);
    assert!(paint < 300.0, "first paint after {paint} ms");

    browser.open(&format!("{}/#/services/shop/api", collector.url));
    eventually("all pods and endpoints are shown", || {
        browser.texts(".pod").len() == 60 && browser.texts("tbody tr").len() >= 200
    });
    let sizes = "performance.getEntries().reduce((sum, entry) => sum + (entry.encodedBodySize || 0), 0)";
    assert!((20e3..150e3).contains(&number(sizes)), "{} bytes", number(sizes));
    let foreign = "performance.getEntriesByType('resource').filter((entry) => !entry.name.startsWith(location.origin)).length";
    assert_eq!(browser.value(foreign), 0, "nothing from elsewhere");

    // Work for so many pixels and not for a frame: a busy machine shows fewer frames, each of which moves the page further.
    browser.watch_work();
    let work = browser.worked();
    let frames = browser.frames_while(|| browser.scroll(6000));
    let scrolled = number("window.scrollY");
    assert!(scrolled > 3000.0, "it has scrolled");
    let each = (browser.worked() - work) / scrolled * PIXELS_A_FRAME;
    assert!(each < 12.0, "{each} ms of work a frame, of the 16 that there are");
    // Told and not judged: other programs of the machine are in it.
    let at = |percent: usize| frames[(frames.len() - 1) * percent / 100];
    eprintln!("{each:.1} ms of work a frame that moves the page by {PIXELS_A_FRAME} px");
    eprintln!(
        "{} frames: p50 {:.1} ms, p95 {:.1} ms, longest {:.1} ms",
        frames.len(),
        at(50),
        at(95),
        at(100)
    );

    browser.value("new EventSource(`api/v1/events/services/shop/api`).onmessage = () => { window.updates = (window.updates ?? 0) + 1; }");
    eventually("updates come", || number("window.updates ?? 0") >= 1.0);
    let updates = (0..UPDATES).map(|_| {
        let (work, before) = (browser.worked(), number("window.updates"));
        eventually("one more", || number("window.updates") > before);
        (browser.worked() - work) / (number("window.updates") - before)
    });
    let each = updates.fold(f64::INFINITY, f64::min);
    assert!(each < 75.0, "{each} ms of work an update");
    eprintln!(
        "first paint {paint:.0} ms, {:.0} kB in all, {each:.0} ms of work an update",
        number(sizes) / 1000.0
    );

    what_is_out_of_sight_waits_but_for_its_state(&browser, &sidecars);
    assert_eq!(browser.complaints(), [""; 0], "the console");
}

/// Until it is in sight.
fn what_is_out_of_sight_waits_but_for_its_state(browser: &Browser, sidecars: &[Sidecar]) {
    let stale = "!!document.querySelector('tbody tr:last-child').late";
    browser.value("window.scrollTo(0, 0)");
    eventually("a row out of sight waits", || browser.value(stale) == true);
    browser.value("document.querySelector('tbody tr:last-child').scrollIntoView()");
    eventually("a row in sight is up to date", || browser.value(stale) == false);
    sidecars[59].set(Load { errors_of_100: 60, ..FAST });
    eventually("a pod out of sight fails", || browser.texts(".pod.failing .who a") == ["api-5d9f-59"]);
}
