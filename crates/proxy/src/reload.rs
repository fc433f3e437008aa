//! The config's file, looked at while the proxy runs: what the pod's annotation says now is what is done.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use outrigger_api::config::SidecarConfig;
use outrigger_api::profile::AccessLog;
use outrigger_runtime::log::LogControl;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{self, LoadError, Loaded};
use crate::live::Live;
use crate::secrets::{Material, SecretError, Secrets};
use crate::sockets;

/// Between two looks at the file. It is read whole each time, a few kilobytes from memory: inotify sees no change of
/// what a symbolic link leads to, which is how the kubelet changes it, and a time stamp can miss one.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the worker is to serve from now on.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) config: SidecarConfig,
    /// For those that it does not serve yet, by the port that they listen on.
    pub(crate) sockets: Vec<(u16, TcpListener)>,
    /// What the ports go by that need Secrets.
    pub(crate) material: Material,
    pub(crate) access_log: AccessLog,
}

/// Watches a config's file.
#[derive(Debug)]
pub(crate) struct Watch {
    /// `None` where a flag has set the level for good.
    pub(crate) log: Option<LogControl>,
    /// Where a flag has set it for good.
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) live: Live,
    pub(crate) secrets: Secrets,
    pub(crate) worker: UnboundedSender<Change>,
}

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("failed to listen on port {port} for {name}: {error}")]
    Bind { port: u16, name: String, error: io::Error },
}

impl Watch {
    /// Looks at the file for ever, and puts in force what changes there. A document that can't be used is looked at again
    /// each time: what it lacks, such as a free port, may come.
    pub(crate) async fn run(mut self, started: Loaded) {
        let mut running = started;
        let mut looks = interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.look(&running) {
                Ok(None) => {
                    self.live.confirm();
                    self.look_at_secrets(&running);
                }
                Ok(Some((loaded, secrets, change))) => {
                    self.secrets = secrets;
                    self.put_in_force(&running, &loaded, change);
                    running = loaded;
                }
                Err(error) => {
                    if self.live.refuse(error.to_string()) {
                        tracing::warn!(%error, "config refused: the last good one stays in force");
                    }
                }
            }
        }
    }

    fn put_in_force(&self, running: &Loaded, loaded: &Loaded, change: Change) {
        let level = loaded.config.log_level;
        // Only where the document changes it: a level that somebody has set by hand is not the document's business.
        if let Some(log) = self.log.as_ref().filter(|_| level != running.config.log_level)
            && let Err(error) = log.set_level(level.as_str())
        {
            tracing::warn!(%error, "log level stays");
        }
        // Without a worker there is nothing to serve: the proxy stops.
        let _ = self.worker.send(change);
        self.live.replace(loaded, self.secrets.served(&loaded.config));
        tracing::info!(hash = loaded.hash(), ignored = ?loaded.ignored, "config taken");
    }

    /// Puts in force what has changed in the Secrets of the document in force.
    fn look_at_secrets(&mut self, running: &Loaded) {
        if !self.secrets.look() {
            return;
        }
        let config = running.config.clone();
        self.live.set_served(self.secrets.served(&config));
        let access_log = self.access_log.unwrap_or(config.access_log);
        let material = self.secrets.in_force();
        let _ = self.worker.send(Change { config, sockets: Vec::new(), material, access_log });
    }

    /// The file's document, with its Secrets read and its new sockets bound, if it is not the one in force.
    fn look(&self, running: &Loaded) -> Result<Option<(Loaded, Secrets, Change)>, ReloadError> {
        let text = config::read(&running.path)?;
        if text == running.text {
            return Ok(None);
        }
        let loaded = config::parse(&running.path, text)?;
        let secrets = self.secrets.of(&loaded.config)?;
        let mut sockets = Vec::new();
        let known = sockets::wanted(&running.config);
        for wanted in sockets::wanted(&loaded.config) {
            let port = wanted.port;
            if known.iter().all(|known| known.port != port) {
                let error = |error| ReloadError::Bind { port, name: wanted.name.to_owned(), error };
                sockets.extend(wanted.bind().map_err(error)?.into_iter().map(|socket| (port, socket)));
            }
        }
        let change = Change {
            config: loaded.config.clone(),
            sockets,
            material: secrets.in_force(),
            access_log: self.access_log.unwrap_or(loaded.config.access_log),
        };
        Ok(Some((loaded, secrets, change)))
    }
}
