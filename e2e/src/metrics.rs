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

/// A counter, summed over pods and over all of its series. A page without it counts as nought, since a counter that has
/// labels is not shown before it first counts; so a test of "none" wants another one that shows it counting.
pub async fn sum_over(client: &Client, pods: &[Pod], counter: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    for pod in pods {
        total += sum(&scrape(client, pod).await?, counter);
    }
    Ok(total)
}

/// The sum of a counter's series on one page.
fn sum(page: &str, counter: &str) -> u64 {
    let series = page.lines().filter_map(|line| line.strip_prefix(counter));
    let values =
        series.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit(' ').next());
    values.map(|value| value.parse::<u64>().expect("a counter of events is a whole number")).sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn the_series_of_one_counter_are_summed() {
        let page = "\
# TYPE requests counter
requests_total{port=\"http\",class=\"2xx\"} 3
requests_total{port=\"http\",class=\"5xx\"} 4
requests_total_other 9
";
        assert_eq!(sum(page, "requests_total"), 7);
        assert_eq!(sum(page, "quiet_total"), 0);
    }
}
