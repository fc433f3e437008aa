//! What pods say about themselves, read as a person would: by the API server's proxy to the admin port.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use outrigger_api::names::ADMIN_PORT;

/// The page of one pod.
pub async fn scrape(client: &Client, pod: &Pod) -> anyhow::Result<String> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}:{ADMIN_PORT}/proxy/metrics");
    let page = client.request_text(http::Request::get(uri).body(Vec::new())?).await;
    page.with_context(|| format!("the metrics of {name}"))
}

/// A counter, summed over pods and over all of its series. A family that a pod does not have counts as an error, not as
/// nought: a renamed metric must not look like a quiet one.
pub async fn sum_over(client: &Client, pods: &[Pod], counter: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    for pod in pods {
        let page = scrape(client, pod).await?;
        total +=
            sum(&page, counter).with_context(|| format!("{} has no {counter}:\n{page}", pod.name_any()))?;
    }
    Ok(total)
}

/// The sum of a counter's series on one page; none where the page does not know the counter.
fn sum(page: &str, counter: &str) -> Option<u64> {
    let family = counter.strip_suffix("_total").unwrap_or(counter);
    let known = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .any(|line| line.split(' ').next().is_some_and(|name| name == family || name == counter));
    let series = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(counter)?;
        let value = rest.rsplit(' ').next()?;
        rest.starts_with(['{', ' ']).then(|| value.parse::<u64>().ok())?
    });
    known.then(|| series.sum())
}

#[cfg(test)]
mod tests {
    use super::sum;

    const PAGE: &str = "\
# HELP requests Requests.
# TYPE requests counter
requests_total{port=\"http\",class=\"2xx\"} 3
requests_total{port=\"http\",class=\"5xx\"} 4
requests_total_other 9
# TYPE silent counter
";

    #[test]
    fn series_are_summed_and_unknown_counters_are_not_nought() {
        assert_eq!(sum(PAGE, "requests_total"), Some(7));
        assert_eq!(sum(PAGE, "silent_total"), Some(0));
        assert_eq!(sum(PAGE, "renamed_total"), None);
    }
}
