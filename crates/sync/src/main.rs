//! `outrigger-sync`: files of a git repository beside an app.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use outrigger_api::config::SidecarConfig;
use outrigger_api::names::{CONFIG_DIR, CONFIG_FILE, SYNC_ADMIN_PORT, SYNC_TREE};
use outrigger_runtime::bearer::Token;
use outrigger_runtime::log::{self, Format};
use outrigger_runtime::readiness::Readiness;
use outrigger_sync::admin::{self, Served};
use outrigger_sync::app::App;
use outrigger_sync::asking;
use outrigger_sync::config::{ConfigFile, LoadError};
use outrigger_sync::round;
use outrigger_sync::status::Statuses;
use outrigger_sync::worker::{Order, Worker};

/// Keeps files beside an app at the newest tag of a git repository.
#[derive(Debug, Parser)]
#[command(name = "outrigger-sync", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Step>,
    /// The sidecar config.
    #[arg(long, env = "OUTRIGGER_CONFIG", default_value_os_t = [CONFIG_DIR, CONFIG_FILE].iter().collect::<PathBuf>())]
    config: PathBuf,
    /// Port of the admin server: metrics, probes, stats, and `POST /sync`.
    #[arg(long, env = "OUTRIGGER_SYNC_ADMIN_PORT", default_value_t = SYNC_ADMIN_PORT)]
    admin_port: u16,
    /// The pod's address, at which the app is reached.
    #[arg(long, env = "POD_IP", default_value = "127.0.0.1")]
    pod_ip: String,
    /// How long an app may take to end when it is restarted, in seconds.
    #[arg(long, env = "OUTRIGGER_GRACE_SECONDS", default_value_t = 30)]
    grace_seconds: u64,
    /// How much to log to stderr, instead of what the config says: error, warn, info, debug, trace, or by module.
    #[arg(long, env = "OUTRIGGER_LOG_LEVEL")]
    log_level: Option<String>,
    /// How log lines look: json or text.
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", default_value = "json")]
    log_format: Format,
}

/// What this program starts itself for.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Step {
    /// One round of questions to a repository.
    #[command(name = asking::COMMAND, hide = true)]
    Round,
}

/// Of sysexits.h: told wrongly. Kubernetes shows it as the container's exit code, apart from crashes.
const EX_USAGE: u8 = 64;
/// How often the config's file is looked at.
const LOOK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // --help and --version are no failures.
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = match args.command {
        Some(Step::Round) => round::run().context("failed to go a round"),
        None => run(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-sync: {error:#}");
            ExitCode::from(if error.is::<LoadError>() { EX_USAGE } else { 1 })
        }
    }
}

/// Runs until SIGTERM. Workers need not be waited for: each step of theirs can be cut off.
fn run(args: &Args) -> anyhow::Result<()> {
    let mut file = ConfigFile::new(args.config.clone());
    let mut config = file.load()?;
    let log = log::init(args.log_level.as_deref().unwrap_or(config.log_level.as_str()), args.log_format)?;
    let readiness = Readiness::default();
    let names = config.sync.iter().map(|source| (source.spec.container.clone(), source.spec.path.clone()));
    let statuses = Statuses::new(names, readiness.condition("content"));
    let (workers, threads): (Vec<_>, Vec<_>) = follow(&config, args, &statuses)?.into_iter().unzip();
    let (stop, stopped) = mpsc::channel();
    let token = Token::new(config.token.clone());
    let config_refused = Arc::new(AtomicBool::new(false));
    let served = Served {
        statuses,
        config_refused: Arc::clone(&config_refused),
        readiness,
        token: token.clone(),
        log: log.clone(),
        workers: workers.clone(),
        stop,
    };
    admin::spawn(args.admin_port, served)
        .map_err(|error| anyhow::anyhow!("failed to listen on admin port {}: {error}", args.admin_port))?;
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if threads.iter().any(JoinHandle::is_finished) {
            // It goes on from what is on the disk when the kubelet has started it again.
            anyhow::bail!("a worker has panicked: its entry would be followed no more");
        }
        match file.changed(&config.sync) {
            None => {}
            Some(Err(error)) => {
                config_refused.store(true, Relaxed);
                tracing::error!(%error, "the last good config stays");
            }
            Some(Ok(new)) => {
                config_refused.store(false, Relaxed);
                token.replace(new.token.clone());
                if args.log_level.is_none() {
                    log.set_level(new.log_level.as_str())
                        .expect("levels of the config are levels of the log");
                }
                for ((worker, old), new) in workers.iter().zip(&config.sync).zip(&new.sync) {
                    if old != new {
                        worker.send(Order::Take(Box::new(new.clone())))?;
                    }
                }
                config = new;
            }
        }
    }
    Ok(())
}

/// Starts a worker for each entry. None ends while somebody may give it orders.
fn follow(
    config: &SidecarConfig,
    args: &Args,
    statuses: &Statuses,
) -> anyhow::Result<Vec<(Sender<Order>, JoinHandle<()>)>> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut workers = Vec::new();
    for (at, source) in config.sync.iter().enumerate() {
        let app = App {
            container: source.spec.container.clone(),
            path: source.spec.path.clone(),
            tree: Path::new(&source.directory).join(SYNC_TREE),
            host: args.pod_ip.clone(),
            grace: Duration::from_secs(args.grace_seconds),
        };
        let worker = Worker::new(source.clone(), app, statuses.clone(), at, program.clone());
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("sync-{at}"));
        workers.push((orders, thread.spawn(move || worker.run(&inbox))?));
    }
    Ok(workers)
}
