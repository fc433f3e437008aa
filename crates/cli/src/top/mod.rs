//! `outrigger top`: which services, or pods, are slow or failing, as a live table.

mod screen;
mod table;
mod what;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::error::{Hinted, Verdict};
use crate::flag;
use crate::output::{self, Format};
use crate::reach::{Reach, ReachArgs};
use crate::runtime;
use screen::Screen;
use table::Sort;
use what::{Shown, What};

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
  outrigger top deploy/api --sort p95                   the pods of a service, the slowest first
  outrigger top shop/api                                of the service api in namespace shop
  outrigger top -o json | jq '.services[].state'
  outrigger top --collector 127.0.0.1:15195             beside make demo")]
pub(crate) struct Args {
    /// A service, whose pods are shown, as api, deploy/api, svc/api or NAMESPACE/api; or ns/NAMESPACE. Default: all services
    #[arg(value_name = "SERVICE|ns/NAMESPACE")]
    what: Option<What>,

    /// Namespace of the service. Default: any
    #[arg(short, long, value_name = "NAMESPACE", value_parser = flag::namespace)]
    namespace: Option<String>,

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

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    runtime::block_on(async {
        let reach = args.reach.find().await?;
        let shown = shown(args, &reach).await?;
        let live = args.output == Format::Text && !args.once && std::io::stdout().is_terminal();
        if !live {
            let view = look(&shown, &reach).await?;
            output::print(args.output, &view, |view| table::text(view, args.sort, usize::MAX))?;
            return Ok(Verdict::findings(table::is_troubled(&view)));
        }
        // An error before the first picture is told as any other.
        let mut view = look(&shown, &reach).await?;
        let mut screen = Screen::open().context("failed to set up the terminal")?;
        let mut note = String::new();
        loop {
            screen.show(&table::text(&view, args.sort, screen.size().0), &note)?;
            let next = async {
                tokio::time::sleep(EVERY).await;
                look(&shown, &reach).await
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

/// What the user names, as it is there now.
async fn shown(args: &Args, reach: &Reach) -> anyhow::Result<Shown> {
    let namespace = args.namespace.as_deref();
    let Some(what) = args.what.clone().or_else(|| namespace.map(What::namespace)) else {
        return Ok(Shown::All);
    };
    let mesh = reach.ask("mesh").await?.unwrap_or_default();
    Ok(what.find(&mesh, namespace)?)
}

async fn look(shown: &Shown, reach: &Reach) -> anyhow::Result<Value> {
    let gone = || {
        Hinted::new(
            format!("there is no {shown} with injected pods any more"),
            "outrigger top lists all services",
        )
    };
    let mut view = reach.ask(&shown.path()).await?.ok_or_else(gone)?;
    if let (Shown::Namespace(namespace), Some(services)) = (shown, view["services"].as_array_mut()) {
        services.retain(|service| service["namespace"] == namespace.as_str());
        if services.is_empty() {
            return Err(gone().into());
        }
    }
    Ok(view)
}
