//! `outrigger hpa`: a `HorizontalPodAutoscaler` that goes by the requests that sidecars count.

use anyhow::ensure;
use clap::ArgGroup;
use serde_json::{Map, Value, json};

use crate::error::{Hinted, Verdict};
use crate::output::{self, Format};
use crate::target::Target;

/// Prints an autoscaler that goes by requests
///
/// It asks custom.metrics.k8s.io, which the chart's collector serves (customMetrics.enabled), or Prometheus' adapter as
/// docs/autoscaling.md sets it up. No cluster is asked. With several targets, the one that wants the most pods wins.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("target").required(true).multiple(true))]
#[command(after_help = "Examples:
  outrigger hpa deploy/web -n shop --min 2 --max 6 --rps 20 | kubectl apply -f -
  outrigger hpa deploy/web --max 10 --active 5
  outrigger hpa sts/search --max 4 --rps 50 --p95 0.25")]
pub(crate) struct Args {
    /// The workload, as deploy/web
    workload: Target,

    /// Its namespace. Default: left out of the manifest, and so kubectl's
    #[arg(short, long)]
    namespace: Option<String>,

    /// The fewest pods
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    min: u32,

    /// The most pods
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max: u32,

    /// Requests a second for each pod to aim at
    #[arg(long, group = "target", value_parser = amount)]
    rps: Option<f64>,

    /// Requests in flight for each pod to aim at; better than --rps where requests last long
    #[arg(long, group = "target", value_parser = amount)]
    active: Option<f64>,

    /// Seconds that nineteen of twenty requests may take, in the average of the pods
    #[arg(long, group = "target", value_name = "SECONDS", value_parser = amount)]
    p95: Option<f64>,

    /// json, or yaml; text is yaml
    #[arg(short, long, default_value = "yaml")]
    output: Format,
}

/// More than nothing, and at least what a quantity can say: a thousandth.
fn amount(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.001..=1e9).contains(&value) { Ok(value) } else { Err("it is from 0.001 to 1000000000".to_owned()) }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    ensure!(
        args.min <= args.max,
        Hinted::new(
            format!("--min {} is more than --max {}", args.min, args.max),
            "raise --max, or lower --min"
        )
    );
    let manifest = manifest(args)?;
    let format = if args.output == Format::Text { Format::Yaml } else { args.output };
    output::print(format, &manifest, ToString::to_string)?;
    Ok(Verdict::Good)
}

fn manifest(args: &Args) -> anyhow::Result<Value> {
    let Some((api_version, kind)) = args.workload.scaled() else {
        let hint = "a Deployment, a StatefulSet, a ReplicaSet or a ReplicationController can";
        return Err(Hinted::new(format!("{} can't be scaled", args.workload), hint).into());
    };
    let metrics = [
        ("outrigger_http_requests_per_second", args.rps),
        ("outrigger_http_active_requests", args.active),
        ("outrigger_http_request_duration_p95_seconds", args.p95),
    ];
    let metrics: Vec<_> =
        metrics.into_iter().filter_map(|(name, target)| Some(metric(name, target?))).collect();
    let mut metadata = Map::from_iter([("name".to_owned(), args.workload.name.as_str().into())]);
    if let Some(namespace) = &args.namespace {
        metadata.insert("namespace".to_owned(), namespace.as_str().into());
    }
    Ok(json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": args.workload.name},
            "minReplicas": args.min,
            "maxReplicas": args.max,
            "metrics": metrics,
        },
    }))
}

#[allow(clippy::cast_possible_truncation)] // at most 1e9
fn metric(name: &str, target: f64) -> Value {
    let thousandths = (target * 1000.0).round() as i64;
    let whole = thousandths % 1000 == 0;
    let quantity = if whole { (thousandths / 1000).to_string() } else { format!("{thousandths}m") };
    json!({"type": "Pods", "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": quantity}}})
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn of(args: &str) -> anyhow::Result<Value> {
        manifest(&Cli::try_parse_from(std::iter::once("hpa").chain(args.split(' ')))?.args)
    }

    #[test]
    fn the_manifest_aims_at_what_is_asked() {
        let manifest = of("deploy/web -n shop --min 2 --max 6 --rps 20 --p95 0.25").unwrap();
        assert_eq!(manifest["metadata"], json!({"name": "web", "namespace": "shop"}));
        let spec = &manifest["spec"];
        assert_eq!(
            spec["scaleTargetRef"],
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
        );
        assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&json!(2), &json!(6)));
        assert_eq!(spec["metrics"][0]["pods"]["metric"]["name"], "outrigger_http_requests_per_second");
        assert_eq!(spec["metrics"][0]["pods"]["target"]["averageValue"], "20");
        assert_eq!(spec["metrics"][1]["pods"]["target"]["averageValue"], "250m");
    }

    #[test]
    fn what_can_not_work_is_refused() {
        for args in [
            "deploy/web --max 6",
            "pod/web --max 6 --rps 2",
            "deploy/web --max 0 --rps 2",
            "deploy/web --max 6 --rps 0",
        ] {
            assert!(of(args).is_err(), "{args}");
        }
    }
}
