//! `outrigger dashboard`: the collector's page, in the browser.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use outrigger_runtime::shutdown;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::error::Verdict;
use crate::output::{plain, say};
use crate::reach::{Reach, ReachArgs};
use crate::runtime;

/// Opens the dashboard: forwards a port of this machine to the collector, and opens the browser
///
/// With your own right to forward ports, as `kubectl port-forward`; until Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger dashboard
  outrigger dashboard --port 8080 --no-open
  outrigger dashboard --context production")]
pub(crate) struct Args {
    #[command(flatten)]
    reach: ReachArgs,

    /// Port of this machine. Default: one that is free
    #[arg(short, long, default_value_t = 0, hide_default_value = true)]
    port: u16,

    /// Print the address and open nothing
    #[arg(long)]
    no_open: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    runtime::block_on(forward(args))
}

async fn forward(args: &Args) -> anyhow::Result<Verdict> {
    let (trigger, stop) = shutdown::channel();
    shutdown::on_signal(trigger)?;
    let reach = args.reach.find().await?;
    // Here and not with the browser: what is wrong is told once, and here.
    reach.ask("mesh").await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await;
    let listener = listener.with_context(|| format!("failed to listen on port {}", args.port))?;
    let url = format!("http://{}", listener.local_addr()?);
    plain(&format!("{url}\n"))?;
    if !args.no_open && !open(&url) {
        say("there is no browser that could be opened from here");
    }
    let reach = Arc::new(reach);
    loop {
        tokio::select! {
            () = stop.requested() => return Ok(Verdict::Good),
            accepted = listener.accept() => {
                let (browser, _) = accepted.context("failed to accept a connection")?;
                let reach = Arc::clone(&reach);
                tokio::spawn(async move {
                    if let Err(error) = pass(browser, &reach).await {
                        say(&format!("a connection ended: {error:#}"));
                    }
                });
            }
        }
    }
}

async fn pass(mut browser: TcpStream, reach: &Reach) -> anyhow::Result<()> {
    let mut collector = reach.stream().await?;
    // How either side ends is the browser's affair.
    let _ = copy_bidirectional(&mut browser, &mut collector).await;
    Ok(())
}

/// Whether a browser was told.
fn open(url: &str) -> bool {
    let told = |program: &str| {
        let mut command = Command::new(program);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    };
    ["xdg-open", "open"].into_iter().any(told)
}
