//! `outrigger-local`: the demo without a cluster.
//!
//! The webhook, the proxies, the apps and the collector are the real programs. What stands in for Kubernetes: a small API
//! server for their watches, [`admission`] for the API server's call of the webhook, [`kubelet`] for containers, [`service`]
//! for kube-proxy.

mod addresses;
mod admission;
mod cluster;
mod commands;
mod demo;
mod http;
mod kubelet;
mod process;
mod room;
mod service;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

/// Runs the demo without a cluster
///
/// Starts the webhook, has it admit the pods of a small shop, and starts what it injected as processes of this machine, with a
/// dashboard. Linux only: each pod has a loopback address of its own.
#[derive(Debug, Parser)]
#[command(name = "outrigger-local", version, max_term_width = 100)]
struct Args {
    /// Where the dashboard is served.
    #[arg(long, default_value = "127.0.0.1:15195")]
    dashboard: SocketAddr,
    /// Second number of all its loopback addresses, as in 127.0.10.1: for a second demo beside the first.
    #[arg(long, default_value_t = 0)]
    block: u8,
    /// End by itself after so many seconds. Default: when told to.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// How it starts its processes: see [`process::command`].
    #[arg(long, hide = true, num_args = 2.., allow_hyphen_values = true)]
    child: Vec<OsString>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.child.is_empty() {
        return failed(&process::become_child(&args.child));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(demo::run(&args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(2)
}

/// A line for whoever reads. That nobody does any more (`| head`) ends nothing: `println!` would panic, and leave the processes behind.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
