//! `outrigger tap`: live requests of a workload's pods.

mod open;
mod pods;
mod row;

use std::num::{NonZeroU32, NonZeroUsize};

use anyhow::Context as _;
use outrigger_api::span::Span;
use outrigger_runtime::shutdown;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};

use crate::cluster::{Cluster, ClusterArgs};
use crate::error::{Hinted, Verdict};
use crate::flag;
use crate::output::{self, say};
use crate::runtime;
use pods::{Source, Tapped};
use row::Rows;

/// Pods at a time: each is a connection through the API server.
const MOST_PODS: usize = 50;
/// Lines that wait to be printed. A slow terminal holds up the connections, and there the proxies count what they leave out.
const WAITING: usize = 64;

/// Shows live requests of a workload's pods, each when it ends
///
/// Off unless the profile of the pods says proxy.tap.enabled: true. Nothing is shown of bodies, queries or credentials. With your own
/// right to read the pods, whose token it takes, and to forward ports to them. Pods that come later are not among them.
///
/// Exit code: 0 it was watched until it was ended; 2 no pod could be tapped.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger tap deploy/api -n shop
  outrigger tap svc/api --status 5xx                    only what fails
  outrigger tap pod/api-5d9f-x2x4z --path /carts --min-latency 200ms
  outrigger tap deploy/web --direction outbound         whom it calls, and how that goes
  outrigger tap deploy/api --count 100 -o json | jq -r .path | sort | uniq -c")]
pub(crate) struct Args {
    /// Whose requests: as deploy/api, pod/api-5d9f-x2x4z, svc/api, or ns/shop for all pods there
    #[arg(value_name = "KIND/NAME")]
    what: Source,

    /// Namespace of the workload. Default: that of the context
    #[arg(short, long, value_name = "NAMESPACE", value_parser = flag::namespace)]
    namespace: Option<String>,

    #[command(flatten)]
    only: Only,

    /// At most so many a second of each pod. Default: as many as its profile allows; more it never is
    #[arg(long, value_name = "NUMBER")]
    rate: Option<NonZeroU32>,

    /// End after so many
    #[arg(long, value_name = "NUMBER")]
    count: Option<NonZeroUsize>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// How to print; json is an object a line
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
}

/// Which requests.
#[derive(clap::Args)]
#[command(next_help_heading = "Which requests")]
struct Only {
    /// By this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,

    /// Whose path begins so
    #[arg(long, value_name = "PREFIX", value_parser = path)]
    path: Option<String>,

    /// Answered so: 503, or 5xx for all of them
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<String>,

    /// That took so long at least, as 250ms or 2s
    #[arg(long, value_name = "DURATION")]
    min_latency: Option<Span>,

    /// What comes to the app, or what it asks of others. Default: both
    #[arg(long, value_enum)]
    direction: Option<Direction>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Direction {
    Inbound,
    Outbound,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; fields are added in later versions, and never renamed.
    Json,
}

impl Args {
    /// As the proxy's `/tap` takes it.
    fn query(&self) -> String {
        let Only { method, path, status, min_latency, direction } = &self.only;
        let direction = direction.map(|direction| match direction {
            Direction::Inbound => "inbound".to_owned(),
            Direction::Outbound => "outbound".to_owned(),
        });
        let milliseconds = min_latency.as_ref().map(|span| span.length().as_millis().to_string());
        let parameters = [
            ("direction", direction),
            ("method", method.clone()),
            ("path", path.clone()),
            ("status", status.clone()),
            ("minMilliseconds", milliseconds),
            ("perSecond", self.rate.map(|rate| rate.to_string())),
        ];
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let pairs: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", crate::cluster::encode(&value))).collect();
        pairs.join("&")
    }
}

/// As the proxy takes it. What is wrong is told here and once, and not by each of fifty sidecars.
fn status(text: &str) -> Result<String, String> {
    let is_class = matches!(text.as_bytes(), [b'1'..=b'5', b'x', b'x']);
    let is_code = text.parse().is_ok_and(|code: u16| (100..=599).contains(&code));
    (is_class || is_code)
        .then(|| text.to_owned())
        .ok_or_else(|| "a status is 100 to 599, or 5xx for all of them".to_owned())
}

fn path(text: &str) -> Result<String, String> {
    text.starts_with('/').then(|| text.to_owned()).ok_or_else(|| "a path begins with /, as /carts".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    runtime::block_on(tap(args))
}

async fn tap(args: &Args) -> anyhow::Result<Verdict> {
    let (trigger, stop) = shutdown::channel();
    shutdown::on_signal(trigger).context("failed to catch signals")?;
    let cluster = args.cluster.connect().await?;
    let namespace = args.namespace.as_deref().unwrap_or(&cluster.namespace);
    let mut pods = args.what.pods(&cluster, namespace).await?;
    if pods.len() > MOST_PODS {
        say(&format!("{} pods: the first {MOST_PODS} of them are tapped", pods.len()));
        pods.truncate(MOST_PODS);
    }
    let mut rows = Rows::of(pods.iter().map(|pod| pod.name.as_str()));
    let (sender, mut events) = channel(WAITING);
    let query = args.query();
    for pod in pods {
        tokio::spawn(follow(cluster.clone(), pod, query.clone(), sender.clone()));
    }
    drop(sender);

    // While nobody is heard, what is wrong is mostly the same with all: it is said once then, at the end.
    let (mut shown, mut heard, mut faults) = (0, false, Vec::<(Tapped, anyhow::Error)>::new());
    loop {
        let event = tokio::select! {
            () = stop.requested() => return Ok(Verdict::Good),
            event = events.recv() => event,
        };
        match event {
            Some((_, Event::Heard)) => {
                heard = true;
                faults.drain(..).for_each(|(pod, error)| tell(&pod, &error));
            }
            Some((pod, Event::Request(request))) => {
                let printed = match args.output {
                    Format::Text => output::coloured(&rows.row(&pod, &request))?,
                    Format::Json => output::plain(&format!("{}\n", named(&pod, request)))?,
                };
                shown += 1;
                if !printed || args.count.is_some_and(|count| shown >= count.get()) {
                    return Ok(Verdict::Good);
                }
            }
            Some((pod, Event::Ended(error))) if heard => tell(&pod, &error),
            Some((pod, Event::Ended(error))) => faults.push((pod, error)),
            None if heard => return Ok(Verdict::Good),
            None => return Err(one_of(faults)),
        }
    }
}

fn tell(pod: &Tapped, error: &anyhow::Error) {
    say(&format!("{}: {error:#}", pod.name));
}

/// The first of them. Others that say something else are told before.
fn one_of(faults: Vec<(Tapped, anyhow::Error)>) -> anyhow::Error {
    let mut faults = faults.into_iter();
    let Some((_, first)) = faults.next() else {
        return Hinted::new("no pod could be tapped", "outrigger explain").into();
    };
    faults
        .filter(|(_, error)| error.to_string() != first.to_string())
        .for_each(|(pod, error)| tell(&pod, &error));
    first
}

/// What comes of a pod.
enum Event {
    /// The sidecar listens: requests that begin from now on are told.
    Heard,
    Request(Value),
    /// Nothing comes any more, and why.
    Ended(anyhow::Error),
}

/// Passes on what a pod tells until it ends, or nobody wants it any more.
async fn follow(cluster: Cluster, pod: Tapped, query: String, events: Sender<(Tapped, Event)>) {
    let result = async {
        let mut lines = open::open(&cluster, &pod, &query).await?;
        let _ = events.send((pod.clone(), Event::Heard)).await;
        while let Some(line) = lines.next().await? {
            if events.send((pod.clone(), Event::Request(line))).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let why = result.await.err().unwrap_or_else(|| {
        anyhow::anyhow!("its sidecar has ended the answer: the pod goes, or its profile changed")
    });
    let _ = events.send((pod, Event::Ended(why))).await;
}

/// With the pod that it is of, which stands first.
fn named(pod: &Tapped, request: Value) -> Value {
    let mut named = json!({"namespace": pod.namespace, "pod": pod.name});
    if let (Some(named), Value::Object(fields)) = (named.as_object_mut(), request) {
        named.extend(fields);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once it was each sidecar that refused it, in its parser's words.
    #[test]
    fn a_status_that_is_none_and_a_path_that_begins_nowhere_are_refused() {
        for good in ["503", "5xx", "100"] {
            assert_eq!(status(good).as_deref(), Ok(good));
        }
        for wrong in ["99", "6xx", "xx", "5xxx", "600", ""] {
            assert!(status(wrong).is_err(), "{wrong}");
        }
        assert!(path("/carts").is_ok() && path("carts").is_err());
    }
}
