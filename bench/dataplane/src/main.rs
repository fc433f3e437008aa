//! Measures the data plane beside other proxies; `bench/dataplane/run` calls it with what it needs.

mod about;
mod bulk;
mod contender;
mod counted;
mod limits;
mod load;
mod measure;
mod memory;
mod paced;
mod page;
mod process;
mod report;
mod sample;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};

use crate::contender::{Bench, Ports};

/// Measures Outrigger's proxy, HAProxy, nginx, Envoy and two bare relays side by side, and writes the figures into a page.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds, of which the medians are taken.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 5)]
    rounds: usize,
    /// How long each load goes on in each round.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 2)]
    seconds: u64,
    /// The CPU of what is measured.
    #[arg(long, env = "BENCH_PROXY_CPU", default_value_t = 0)]
    proxy_cpu: usize,
    /// The CPU of the load and of the app; this program should be pinned there too.
    #[arg(long, env = "BENCH_LOAD_CPU", default_value_t = 1)]
    load_cpu: usize,
    /// `outrigger-proxy`, a release build.
    #[arg(long)]
    proxy: PathBuf,
    /// Directory of `bare_relay` and `hyper_relay`.
    #[arg(long)]
    relays: PathBuf,
    /// The program `envoy`.
    #[arg(long)]
    envoy: PathBuf,
    /// An empty directory to work in.
    #[arg(long)]
    work: PathBuf,
    /// The page that the figures go to.
    #[arg(long)]
    page: PathBuf,
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything, with a short soak.
    Standard,
    /// Only our proxy's memory, over a long time.
    Soak {
        /// How long, in seconds.
        #[arg(default_value_t = 600)]
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let bench = Bench {
        work: args.work,
        proxy: args.proxy,
        relays: args.relays,
        envoy: args.envoy,
        proxy_cpu: args.proxy_cpu,
        load_cpu: args.load_cpu,
        app: Ports::free().context("failed to find free ports")?,
    };
    load::write_files(&bench.work, bulk::BODY)?;
    bulk::start_source(bench.app.tcp)?;
    let _app = bench.start_app()?;
    let (name, section, faults) = match args.command {
        Task::Standard => {
            let results = measure::all(&bench, args.rounds, args.seconds)?;
            let command = format!("BENCH_ROUNDS={} BENCH_SECONDS={} make bench", args.rounds, args.seconds);
            ("make bench", report::standard(&results, &about::run(&bench, &command)), results.faults.len())
        }
        Task::Soak { seconds } => {
            let soak = memory::soak(&bench, seconds)?;
            let command = format!("bench/dataplane/run soak {seconds}");
            ("make bench-soak", report::soak(&soak, &about::run(&bench, &command)), 0)
        }
    };
    print!("{section}");
    page::write(&args.page, name, &section)?;
    if faults > 0 {
        bail!("{faults} measurements failed; the page names them");
    }
    Ok(())
}
