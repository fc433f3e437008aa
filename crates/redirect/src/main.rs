//! `outrigger-redirect`: the init container that sends a pod's traffic through its proxy.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use outrigger_api::cidr::Cidr;
use outrigger_api::names::{INBOUND_PORT, OUTBOUND_PORT, SIDECAR_UID};
use outrigger_redirect::kernel::{self, KernelError};
use outrigger_redirect::rules::{Inbound, TABLE, Wanted};

/// Sends what comes to this pod, and what leaves it, through the proxy beside the app: by one table of nftables rules, which a second
/// run replaces.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger-redirect",
    version,
    after_help = "Examples:\n  outrigger-redirect --skip-outbound-ports 5432   everything but calls to port 5432\n  \
                  outrigger-redirect --print                      the rules, and write nothing"
)]
struct Args {
    /// The user that the proxy runs as, whose connections are left alone.
    #[arg(long, default_value_t = u32::try_from(SIDECAR_UID).unwrap_or_default())]
    proxy_uid: u32,
    /// Ports of the pod that go through the proxy: all, none, or a list as 8080,8443.
    #[arg(long, default_value = "all")]
    inbound_ports: Inbound,
    /// Ports of the pod that do not.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    skip_inbound_ports: Vec<u16>,
    /// Ports elsewhere that are called directly.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    skip_outbound_ports: Vec<u16>,
    /// Addresses that are called directly, as `10.0.0.0/8,fd00::/8`.
    #[arg(long, value_delimiter = ',')]
    skip_outbound_cidrs: Vec<Cidr>,
    /// Users whose calls are direct, by number.
    #[arg(long, value_delimiter = ',')]
    skip_outbound_uids: Vec<u32>,
    /// Print the rules, in the language of nft, and write nothing.
    #[arg(long)]
    print: bool,
    /// Remove the rules instead.
    #[arg(long, conflicts_with = "print")]
    cleanup: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-redirect: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), KernelError> {
    let started = Instant::now();
    let (print, cleanup) = (args.print, args.cleanup);
    let wanted = Wanted::from(args);
    if print {
        print!("{wanted}");
        return Ok(());
    }
    let done = if cleanup {
        kernel::remove()?;
        format!("removed table inet {TABLE}")
    } else {
        kernel::write(&wanted)?;
        format!("wrote table inet {TABLE}: in by port {INBOUND_PORT}, out by port {OUTBOUND_PORT}")
    };
    eprintln!("outrigger-redirect: {done} ({:.1} ms)", started.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

impl From<Args> for Wanted {
    fn from(args: Args) -> Self {
        Self {
            proxy_uid: args.proxy_uid,
            inbound: args.inbound_ports,
            skip_inbound_ports: args.skip_inbound_ports,
            skip_outbound_ports: args.skip_outbound_ports,
            skip_outbound_cidrs: args.skip_outbound_cidrs,
            skip_outbound_uids: args.skip_outbound_uids,
        }
    }
}
