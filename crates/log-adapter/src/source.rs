//! A source of the config, ready to work.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use outrigger_api::logs::{DEFAULT_LINE_BYTES, LogSource, MAX_LINE_BYTES};

use crate::convert::Converter;
use crate::formats::Parser;
use crate::frame::Framer;
use crate::glob;
use crate::metrics::{Metrics, SourceMetrics};
use crate::multiline::Rule;
use crate::output::{Origin, Writer};

/// The pod, as the downward API gives it.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Its name; empty outside Kubernetes.
    pub name: String,
    /// Its namespace; empty outside Kubernetes.
    pub namespace: String,
}

/// One directory of log files.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) config: LogSource,
    pub(crate) directory: PathBuf,
    pub(crate) framer: Framer,
    parser: Option<Rc<Parser>>,
    pub(crate) metrics: Arc<SourceMetrics>,
    /// Files that can't be opened, counted anew at each scan.
    pub(crate) unreadable: u64,
    pod: Pod,
}

/// Why a source can't be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to compile {field} of the logs in {path} of container {container}: {error}")]
pub struct SourceError {
    field: &'static str,
    path: String,
    container: String,
    error: regex::Error,
}

/// Whether all of them can be used.
pub fn check(sources: &[LogSource]) -> Result<(), SourceError> {
    sources.iter().try_for_each(|source| compile(source).map(|_| ()))
}

fn compile(config: &LogSource) -> Result<(Option<Parser>, Rule), SourceError> {
    let fault = |field| {
        let (path, container) = (config.path.clone(), config.container.clone());
        move |error| SourceError { field, path, container, error }
    };
    let parser = Parser::new(config.format, config.pattern.as_deref()).map_err(fault("pattern"))?;
    let rule = Rule::new(config.multiline, config.format, config.start.as_deref()).map_err(fault("start"))?;
    Ok((parser, rule))
}

impl Source {
    pub(crate) fn new(config: LogSource, pod: &Pod, metrics: &Metrics) -> Result<Self, SourceError> {
        let (parser, rule) = compile(&config)?;
        let limit = match config.max_line_bytes {
            0 => DEFAULT_LINE_BYTES,
            most => most.min(MAX_LINE_BYTES),
        };
        Ok(Self {
            directory: PathBuf::from(&config.directory),
            framer: Framer { limit: limit as usize, rule },
            parser: parser.map(Rc::new),
            metrics: metrics.source(&config.container, &config.path),
            unreadable: 0,
            pod: pod.clone(),
            config,
        })
    }

    /// What turns the events of the file of that name into lines.
    pub(crate) fn converter(&self, name: &str) -> Converter {
        let path = self.shown(name);
        let origin = Origin {
            pod: &self.pod.name,
            namespace: &self.pod.namespace,
            container: &self.config.container,
            path: &path,
        };
        Converter::new(self.parser.clone(), Writer::new(self.config.schema, &origin))
    }

    /// Whether a file of that name is to be followed.
    pub(crate) fn means(&self, name: &str) -> bool {
        self.config.files.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// A file's path, as the app sees it.
    pub(crate) fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.config.path)
    }
}
