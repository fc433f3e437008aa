//! `outrigger-proxy`: the traffic proxy beside an app.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use outrigger_api::names::{ADMIN_PORT, CONFIG_DIR, CONFIG_FILE, SECRETS_DIR};
use outrigger_api::profile::AccessLog;
use outrigger_proxy::config::{self, LoadError};
use outrigger_proxy::hook;
use outrigger_proxy::limits::{self, Limits};
use outrigger_proxy::open_files;
use outrigger_proxy::proxy::{self, Proxy, Sockets};
use outrigger_runtime::log::{self, Format};
use outrigger_runtime::{duration, shutdown};

/// Takes over an app's ports, passes traffic on to the app, and counts it.
#[derive(Debug, Parser)]
#[command(name = "outrigger-proxy", version)]
struct Args {
    /// The sidecar config.
    #[arg(long, env = "OUTRIGGER_CONFIG", default_value_os_t = default_config())]
    config: PathBuf,
    /// Port of the admin server: metrics, probes, stats.
    #[arg(long, env = "OUTRIGGER_ADMIN_PORT", default_value_t = ADMIN_PORT)]
    admin_port: u16,
    /// Where the app is reached, to be tried in this order: in Kubernetes the pod's own addresses, from status.podIPs.
    /// Loopback reaches what apps open only to themselves.
    #[arg(long, env = "POD_IPS", value_delimiter = ',', default_value = "127.0.0.1,::1")]
    app_address: Vec<IpAddr>,
    /// Where each Secret that the config names has a directory of its name.
    #[arg(long, env = "OUTRIGGER_SECRETS", default_value = SECRETS_DIR)]
    secrets: PathBuf,
    /// How long a stop waits for what is in flight, as 25s or 1m. Keep it below the pod's terminationGracePeriodSeconds.
    #[arg(long, env = "OUTRIGGER_DRAIN_TIMEOUT", default_value = "25s", value_parser = duration::parse)]
    drain_timeout: Duration,
    /// How much to log, instead of what the config says: error, warn, info, debug, trace, or by module.
    #[arg(long, env = "OUTRIGGER_LOG_LEVEL")]
    log_level: Option<String>,
    /// One line on stdout for each request, instead of what the config says: none or json.
    #[arg(long, env = "OUTRIGGER_ACCESS_LOG", value_parser = access_log)]
    access_log: Option<AccessLog>,
    /// How many connections clients may have at a time, on all ports together; less where the limit of open files has no room.
    #[arg(long, env = "OUTRIGGER_MAX_CONNECTIONS", default_value_t = Limits::default().connections, value_parser = at_least_one)]
    max_connections: usize,
    /// How log lines look: json or text.
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", default_value = "json")]
    log_format: Format,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell the proxy that runs here that the pod goes: its clients connect elsewhere. For the pod's preStop hook.
    Drain {
        /// Then wait, for as long as this, until the app has ended: 25s. For a container that is no native sidecar,
        /// which would be stopped together with the app.
        #[arg(long, value_parser = duration::parse)]
        until_app_ends: Option<Duration>,
    },
    /// Wait until the proxy that runs here is ready. For the pod's postStart hook, which holds the app's start.
    Wait {
        /// For as long as this.
        #[arg(long, default_value = "60s", value_parser = duration::parse)]
        timeout: Duration,
    },
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match text {
        "none" => Ok(AccessLog::None),
        "json" => Ok(AccessLog::Json),
        _ => Err(format!("access log {text:?} is not known: none or json")),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{text:?} is not a number from 1 on"))
}

fn default_config() -> PathBuf {
    [CONFIG_DIR, CONFIG_FILE].iter().collect()
}

/// Of sysexits.h: told wrongly. Kubernetes shows it as the container's exit code, apart from crashes.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // --help and --version are no failures.
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-proxy: {error:#}");
            let code = if error.is::<LoadError>() { EX_USAGE } else { 1 };
            ExitCode::from(code)
        }
    }
}

fn run_hook(args: &Args, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Drain { until_app_ends } => {
            hook::drain(args.admin_port).context("failed to reach the proxy")?;
            if let Some(at_most) = until_app_ends {
                hook::wait_for_end(&config::load(&args.config)?.config, *at_most);
            }
            Ok(())
        }
        Command::Wait { timeout } => hook::wait(args.admin_port, *timeout)
            .with_context(|| format!("the proxy was not ready in {} s", timeout.as_secs())),
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(command) = &args.command {
        return run_hook(args, command);
    }
    let loaded = config::load(&args.config)?;
    let level = args.log_level.as_deref().unwrap_or(loaded.config.log_level.as_str());
    let log = log::init(level, args.log_format)?;
    let (trigger, shutdown) = shutdown::channel();
    let connections = open_files::make_room(args.max_connections);
    let buffers = limits::buffers(connections);
    let limits = Limits { drain: args.drain_timeout, connections, buffers, ..Limits::default() };
    proxy::run(Proxy {
        sockets: Sockets::bind(&loaded.config, args.admin_port)?,
        loaded,
        app: args.app_address.clone(),
        secrets: args.secrets.clone(),
        limits,
        log,
        access_log: args.access_log,
        log_level_follows: args.log_level.is_none(),
        trigger,
        shutdown,
        catch_signals: true,
    })?;
    Ok(())
}
