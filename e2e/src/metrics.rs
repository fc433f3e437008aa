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

/// What counts things, summed over pods and over all of its series, or over those with the labels that are given with it:
/// `requests_total{port="http"}`. A page without it counts as nought, since what has labels is not shown before it first
/// counts; so a test of "none" wants another one that shows it counting.
pub async fn sum_over(client: &Client, pods: &[Pod], selector: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    for pod in pods {
        total += sum(&scrape(client, pod).await?, selector);
    }
    Ok(total)
}

/// The sum of the selected series on one page.
fn sum(page: &str, selector: &str) -> u64 {
    let (name, labels) = selector.split_once('{').unwrap_or((selector, ""));
    let labels = labels.trim_end_matches('}');
    let series = page.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    let wanted = series.filter(|(series, _)| {
        (series.is_empty() || series.starts_with('{'))
            && labels.split(',').all(|label| series.contains(label))
    });
    wanted.map(|(_, value)| value.parse::<u64>().expect("a count is a whole number")).sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn the_selected_series_are_summed() {
        let page = "\
# TYPE requests counter
requests_total{port=\"http\",class=\"2xx\"} 3
requests_total{port=\"http\",class=\"5xx\"} 4
requests_total_other 9
";
        assert_eq!(sum(page, "requests_total"), 7);
        assert_eq!(sum(page, "requests_total{class=\"5xx\"}"), 4);
        assert_eq!(sum(page, "requests_total{port=\"http\",class=\"4xx\"}"), 0);
        assert_eq!(sum(page, "quiet_total"), 0);
    }
}
