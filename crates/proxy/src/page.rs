//! Pages of `ConfigMap`s, which an open circuit breaker answers with.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use outrigger_api::circuit_breaker::{BodyFrom, MAX_PAGE};
use outrigger_api::config::Upstream;

use crate::secrets::{CONFIG_MAPS, Held};

/// What an upstream's fallback says.
#[derive(Debug)]
pub(crate) struct Page {
    from: BodyFrom,
    path: PathBuf,
    pub(crate) text: String,
}

/// Why a page can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It is not there.
    #[error("failed to read page {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is too large to be held in memory, and copied for each answer.
    #[error("page {} can't be used: it has more than {MAX_PAGE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is an image, or the like.
    #[error("page {} can't be used: it is no text in UTF-8", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
}

impl Held for Page {
    type Of = Upstream;
    type Error = PageError;

    fn load(upstream: &Upstream, secrets: &Path) -> Option<Result<Self, PageError>> {
        let from = from(upstream)?.clone();
        let path = secrets.join(CONFIG_MAPS).join(&from.config_map_name).join(&from.key);
        Some(read(&path).map(|text| Self { from, path, text }))
    }

    fn renewed(&self) -> Option<Result<Self, PageError>> {
        let renewed = read(&self.path);
        let is_same = renewed.as_ref().is_ok_and(|text| *text == self.text);
        let page = |text| Self { from: self.from.clone(), path: self.path.clone(), text };
        (!is_same).then(|| renewed.map(page))
    }

    fn is_of(&self, upstream: &Upstream) -> bool {
        from(upstream) == Some(&self.from)
    }
}

fn from(upstream: &Upstream) -> Option<&BodyFrom> {
    upstream.circuit_breaker.as_ref()?.fallback.body_from.as_ref()
}

fn read(path: &Path) -> Result<String, PageError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PAGE + 1).read_to_end(&mut bytes))
        .map_err(|error| PageError::Read { path: path.to_owned(), error })?;
    if bytes.len() as u64 > MAX_PAGE {
        return Err(PageError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| PageError::NoText { path: path.to_owned() })
}
