//! The dashboard's files, which are part of the program: nothing is fetched from elsewhere, nothing has to be built.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Where it is served, its type, and the file.
const FILES: [(&str, &str, &str); 12] = [
    ("/", HTML, include_str!("../page/index.html")),
    ("/style.css", CSS, include_str!("../page/style.css")),
    ("/mark.svg", SVG, include_str!("../page/mark.svg")),
    ("/main.js", JS, include_str!("../page/main.js")),
    ("/dom.js", JS, include_str!("../page/dom.js")),
    ("/words.js", JS, include_str!("../page/words.js")),
    ("/curve.js", JS, include_str!("../page/curve.js")),
    ("/files.js", JS, include_str!("../page/files.js")),
    ("/graph.js", JS, include_str!("../page/graph.js")),
    ("/mesh.js", JS, include_str!("../page/mesh.js")),
    ("/service.js", JS, include_str!("../page/service.js")),
    ("/pod.js", JS, include_str!("../page/pod.js")),
];

/// One route for each file.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        // Asked for anew each time: after an upgrade, an old script would meet a new API.
        let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")];
        router.route(path, get(async move || (headers, text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        assert!(FILES.iter().map(|(_, _, text)| text.len()).sum::<usize>() < 150 * 1024);
        for (path, kind, text) in FILES {
            // A name space is no address.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{path} names another site");
            if kind == HTML {
                assert!(!text.contains("<style") && !text.contains(" style="), "{path}");
            }
        }
    }
}
