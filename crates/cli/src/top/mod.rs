//! `outrigger top`: which services, or pods, are slow or failing, as a live table.

mod screen;
mod table;

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Hinted, Verdict};
use crate::output::{self, Format};
use crate::reach::{Reach, ReachArgs};
use crate::runtime;
use screen::Screen;
use table::Sort;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Shows services, or the pods of one, with rate, errors and percentiles
///
/// Each second anew on a terminal, until q; once where the output is no terminal, or with -o. The figures are of the last 10 to
/// 15 seconds; states are explained in docs/dashboard.md.
///
/// Exit code: 0 nothing is slow, failing or gone, or it was watched; 1 something is; 2 it could not be found out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger top                                         all services
  outrigger top ns/shop                                 those of a namespace
  outrigger top shop/api --sort p95                     the pods of a service, the slowest first
  outrigger top -o json | jq '.services[].state'
  outrigger top --collector 127.0.0.1:15195             beside make demo")]
pub(crate) struct Args {
    /// ns/NAMESPACE for its services, or NAMESPACE/SERVICE for its pods. Default: all services
    #[arg(value_name = "ns/NAMESPACE|NAMESPACE/SERVICE", value_parser = What::parse)]
    what: Option<What>,

    /// By which column
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,

    /// Print once, also on a terminal
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    reach: ReachArgs,

    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Namespace(String),
    Service(String, String),
}

impl What {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("ns" | "namespace", name)) if !name.is_empty() => Ok(Self::Namespace(name.to_owned())),
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::Service(namespace.to_owned(), name.to_owned()))
            }
            _ => Err("it is ns/shop for a namespace, or shop/api for a service".to_owned()),
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    runtime::block_on(async {
        let reach = args.reach.find().await?;
        let live = args.output == Format::Text && !args.once && std::io::stdout().is_terminal();
        if !live {
            let view = look(args, &reach).await?;
            output::print(args.output, &view, |view| table::text(view, args.sort, usize::MAX))?;
            return Ok(Verdict::findings(table::is_troubled(&view)));
        }
        // An error before the first picture is told as any other.
        let mut view = look(args, &reach).await?;
        let mut screen = Screen::open()?;
        let mut note = String::new();
        loop {
            screen.show(&table::text(&view, args.sort, screen.size().0), &note)?;
            let next = async {
                tokio::time::sleep(EVERY).await;
                look(args, &reach).await
            };
            tokio::select! {
                () = screen.quit() => return Ok(Verdict::Good),
                // The collector may be there again a moment later: what is shown stays.
                looked = next => match looked {
                    Ok(new) => (view, note) = (new, String::new()),
                    Err(error) => note = format!("old figures: {error:#}"),
                },
            }
        }
    })
}

async fn look(args: &Args, reach: &Reach) -> anyhow::Result<Value> {
    let path = match &args.what {
        Some(What::Service(namespace, name)) => format!("services/{namespace}/{name}"),
        _ => "mesh".to_owned(),
    };
    let view = reach.ask(&path).await?;
    let mut view = view.ok_or_else(|| {
        Hinted::new(format!("there is no {path} with injected pods"), "outrigger top lists all services")
    })?;
    if let (Some(What::Namespace(namespace)), Some(services)) = (&args.what, view["services"].as_array_mut())
    {
        services.retain(|service| service["namespace"] == namespace.as_str());
        if services.is_empty() {
            let message = format!("there is no namespace {namespace} with injected pods");
            return Err(Hinted::new(message, "outrigger top lists all services").into());
        }
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_or_a_service_can_be_named() {
        assert_eq!(What::parse("ns/shop"), Ok(What::Namespace("shop".to_owned())));
        assert_eq!(What::parse("shop/api"), Ok(What::Service("shop".to_owned(), "api".to_owned())));
        for wrong in ["api", "ns/", "/api", ""] {
            assert!(What::parse(wrong).is_err(), "{wrong}");
        }
    }
}
