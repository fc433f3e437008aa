//! `outrigger-logs`: log files beside an app become JSON lines.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Parser;
use outrigger_api::names::{CONFIG_DIR, CONFIG_FILE, LOGS_ADMIN_PORT, LOGS_DIR};
use outrigger_logs::admin::{self, Served};
use outrigger_logs::config::{self, LoadError, Watched};
use outrigger_logs::metrics::Metrics;
use outrigger_logs::source::{self, Pod};
use outrigger_logs::stdout;
use outrigger_logs::tail::{TailError, Tailer};
use outrigger_runtime::bearer::Token;
use outrigger_runtime::log::{self, Format};

/// Follows the log files of an app and writes their lines to stdout as JSON.
#[derive(Debug, Parser)]
#[command(name = "outrigger-logs", version)]
struct Args {
    /// The sidecar config.
    #[arg(long, env = "OUTRIGGER_CONFIG", default_value_os_t = [CONFIG_DIR, CONFIG_FILE].iter().collect::<PathBuf>())]
    config: PathBuf,
    /// Where to remember how far each file was read. It must outlive the container, as the files do.
    #[arg(long, env = "OUTRIGGER_CHECKPOINT", default_value_os_t = [LOGS_DIR, ".outrigger-logs.json"].iter().collect::<PathBuf>())]
    checkpoint: PathBuf,
    /// How long all files must be quiet before a stop is done, in seconds: for where the app is stopped at the same time.
    #[arg(long, env = "OUTRIGGER_QUIET_SECONDS")]
    quiet_seconds: Option<u64>,
    /// Port of the admin server: metrics, probes, stats.
    #[arg(long, env = "OUTRIGGER_LOGS_ADMIN_PORT", default_value_t = LOGS_ADMIN_PORT)]
    admin_port: u16,
    /// Name of the pod, for the output.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod: String,
    /// Namespace of the pod, for the output.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    namespace: String,
    /// How much to log to stderr, instead of what the config says: error, warn, info, debug, trace, or by module.
    #[arg(long, env = "OUTRIGGER_LOG_LEVEL")]
    log_level: Option<String>,
    /// How our own log lines look: json or text.
    #[arg(long, env = "OUTRIGGER_LOG_FORMAT", default_value = "json")]
    log_format: Format,
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
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-logs: {error:#}");
            let code =
                if error.is::<LoadError>() || matches!(error.downcast_ref(), Some(TailError::Source(_))) {
                    EX_USAGE
                } else {
                    1
                };
            ExitCode::from(code)
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    // Before it is read, so that no change falls between.
    let mut watched = Watched::new(args.config.clone());
    let config = config::load(&args.config)?;
    let level = args.log_level.as_deref().unwrap_or(config.log_level.as_str());
    let log = log::init(level, args.log_format)?;
    let pod = Pod { name: args.pod, namespace: args.namespace };
    let metrics = Arc::new(Metrics::default());
    let mut tailer = Tailer::new(config.logs, &pod, args.checkpoint, stdout()?, Arc::clone(&metrics))?;
    if let Some(seconds) = args.quiet_seconds {
        tailer = tailer.quiet_for(Duration::from_secs(seconds));
    }
    let token = Token::new(config.token);
    let stop = tailer.stop();
    let served = Served { metrics: Arc::clone(&metrics), token: token.clone(), log: log.clone(), stop };
    admin::spawn(args.admin_port, served)
        .map_err(|error| anyhow::anyhow!("failed to listen on admin port {}: {error}", args.admin_port))?;
    tailer.run(&pod, || match watched.changed()? {
        Ok(config) => {
            // All or nothing: the token of a config whose sources are refused would lock out who has read the last good one.
            if let Err(error) = source::check(&config.logs) {
                metrics.config_refused.store(true, Relaxed);
                tracing::error!(%error, "the last good config stays");
                return None;
            }
            metrics.config_refused.store(false, Relaxed);
            token.replace(config.token);
            if args.log_level.is_none() {
                log.set_level(config.log_level.as_str()).expect("levels of the config are levels of the log");
            }
            Some(config.logs)
        }
        Err(error) => {
            metrics.config_refused.store(true, Relaxed);
            tracing::error!(%error, "the last good config stays");
            None
        }
    })?;
    tracing::info!("everything is written out");
    Ok(())
}
