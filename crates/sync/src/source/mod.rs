//! A repository: what it offers, and the objects of one version, over https, ssh or from a directory.
//!
//! Versions 0 to 2 of git's protocol are spoken by `gix-protocol`; only what carries it is ours. Nothing is ever told to the server
//! about what is here already: a version is fetched whole, at depth 1, so there is no history to keep, to repair or to grow.

mod http;
mod limited;
mod local;
mod secret;
mod ssh;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use gix_hash::{Kind, ObjectId};
use gix_object::bstr::{BString, ByteSlice};
use gix_pack::Bundle;
use gix_protocol::fetch::{Arguments, Response};
use gix_protocol::handshake::Ref;
use gix_protocol::ls_refs::RefPrefixes;
use gix_protocol::{Command, Handshake, LsRefsCommand};
use gix_transport::client::blocking_io::Transport;
use gix_transport::{Protocol, Service};
use gix_utils::progress::Discard;

use limited::Limited;
pub use secret::{Secret, SecretError};

/// The objects of a fetch, or of a repository on disk.
pub type Objects = gix_odb::Handle;

/// Why a repository could not be asked, or did not give what it has.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nobody there, or the connection broke.
    #[error("failed to reach {url}: {why}")]
    Unreachable {
        /// The repository.
        url: String,
        /// What the transport says.
        why: String,
    },
    /// No or wrong credentials, or a server that is not the one we know.
    #[error("{url} can't be read: {why}")]
    Denied {
        /// The repository.
        url: String,
        /// What was refused, and by whom.
        why: String,
    },
    /// A Secret without what it takes.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An answer that is none.
    #[error("failed to fetch from {url}: {why}")]
    Broken {
        /// The repository.
        url: String,
        /// What was wrong with it.
        why: String,
    },
    /// More than a version may be.
    #[error("{url} sends more than {most} bytes for one version: limits.size")]
    TooLarge {
        /// The repository.
        url: String,
        /// The bound.
        most: u64,
    },
    /// The disk, on our side.
    #[error("failed to store what {url} sends: {why}")]
    Disk {
        /// The repository.
        url: String,
        /// Why.
        why: String,
    },
}

impl SourceError {
    /// The code in metrics and `/stats`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Unreachable",
            Self::Denied { .. } | Self::Secret(_) => "Denied",
            Self::Broken { .. } => "BrokenAnswer",
            Self::TooLarge { .. } => "TooLarge",
            Self::Disk { .. } => "Disk",
        }
    }
}

/// A tag or branch of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its name without `refs/tags/` or `refs/heads/`.
    pub name: String,
    /// What it points to: a commit, or the object of an annotated tag.
    pub object: ObjectId,
    /// The commit in the end.
    pub commit: ObjectId,
}

/// A connection to a repository, for one round of questions.
pub struct Session {
    url: String,
    kind: Kind,
    carrier: Carrier,
}

enum Carrier {
    Remote { transport: Box<dyn Transport>, handshake: Box<Handshake> },
    Local(local::Repository),
}

impl Session {
    /// Connects. The Secret is read anew each time, so that a changed one counts from the next poll on.
    pub fn open(url: &str, secret: &Secret) -> Result<Self, SourceError> {
        if let Some(path) = url.strip_prefix("file://") {
            let repository = local::Repository::open(Path::new(path))
                .map_err(|error| SourceError::Unreachable { url: url.to_owned(), why: error.to_string() })?;
            return Ok(Self {
                url: url.to_owned(),
                kind: repository.kind(),
                carrier: Carrier::Local(repository),
            });
        }
        let mut transport: Box<dyn Transport> = if url.starts_with("http:") || url.starts_with("https:") {
            Box::new(http::connect(url, secret)?)
        } else {
            Box::new(ssh::connect(url, secret)?)
        };
        let nobody_to_ask = |_| Ok(None);
        let handshake = gix_protocol::handshake(
            &mut transport,
            Service::UploadPack,
            nobody_to_ask,
            Vec::new(),
            &mut Discard,
        )
        .map_err(|error| failure(url, &error))?;
        let format = handshake.capabilities.capability("object-format");
        let format = format.and_then(|format| format.value().map(|value| value.to_str_lossy().into_owned()));
        let kind = match format.as_deref() {
            None | Some("sha1") => Kind::Sha1,
            Some("sha256") => Kind::Sha256,
            Some(other) => {
                let why = format!("its objects are named by {other}, which is not known here");
                return Err(SourceError::Broken { url: url.to_owned(), why });
            }
        };
        Ok(Self {
            url: url.to_owned(),
            kind,
            carrier: Carrier::Remote { transport, handshake: Box::new(handshake) },
        })
    }

    /// The references whose full names begin so. At most one more request.
    pub fn references(&mut self, prefix: &str) -> Result<Vec<Reference>, SourceError> {
        let url = &self.url;
        let refs = match &mut self.carrier {
            Carrier::Local(repository) => {
                let refs = repository.references(prefix);
                return refs.map_err(|why| SourceError::Broken { url: url.clone(), why });
            }
            // Before version 2 the server has told them all without being asked.
            Carrier::Remote { handshake, .. } if handshake.refs.is_some() => {
                handshake.refs.clone().unwrap_or_default()
            }
            Carrier::Remote { transport, handshake } => {
                let mut prefixes = RefPrefixes::new();
                prefixes.extend([BString::from(prefix)]);
                LsRefsCommand::new(Some(prefixes), &handshake.capabilities, agent())
                    .invoke_blocking(transport, &mut Discard, false)
                    .map_err(|error| failure(url, &error))?
            }
        };
        Ok(refs.into_iter().filter_map(|reference| as_reference(reference, prefix)).collect())
    }

    /// Fetches these objects with all they consist of, without history, into the directory `into`, which is empty.
    pub fn fetch(&mut self, wanted: &[ObjectId], into: &Path, most: u64) -> Result<Objects, SourceError> {
        let url = self.url.clone();
        let disk = |error: std::io::Error| SourceError::Disk { url: url.clone(), why: error.to_string() };
        let objects = match &mut self.carrier {
            Carrier::Local(repository) => repository.objects(),
            Carrier::Remote { transport, handshake } => {
                let packs = into.join("pack");
                std::fs::create_dir_all(&packs).map_err(disk)?;
                receive(&url, transport, handshake, wanted, &packs, self.kind, most)?;
                into.to_owned()
            }
        };
        gix_odb::at(objects, self.kind).map_err(disk)
    }
}

fn receive(
    url: &str,
    transport: &mut Box<dyn Transport>,
    handshake: &Handshake,
    wanted: &[ObjectId],
    packs: &Path,
    kind: Kind,
    most: u64,
) -> Result<(), SourceError> {
    let broken = |why: String| SourceError::Broken { url: url.to_owned(), why };
    let version = handshake.server_protocol_version;
    let mut features = Command::Fetch.default_features(version, &handshake.capabilities);
    Response::check_required_features(version, &features).map_err(|error| broken(told(&error)))?;
    features.push(agent());
    let mut arguments = Arguments::new(version, features, false);
    if !arguments.can_use_deepen() {
        return Err(broken("the server can't leave out the history".to_owned()));
    }
    for object in wanted {
        arguments.want(object);
    }
    arguments.deepen(1);
    let mut answer = arguments.send(transport, true).map_err(|error| failure(url, &error))?;
    let response = Response::from_line_reader(version, &mut answer, true, false)
        .map_err(|error| failure(url, &error))?;
    if !response.has_pack() {
        return Err(broken("the server sends no objects".to_owned()));
    }
    // Progress comes beside the objects; without somebody who takes it, it would be taken for them.
    let ignored = |_: bool, _: &[u8]| std::ops::ControlFlow::Continue(());
    if version != Protocol::V0 || !response.shallow_updates().is_empty() {
        answer.set_progress_handler(Some(Box::new(ignored)));
    }
    let mut limited = Limited::new(answer, most);
    let options = gix_pack::bundle::write::Options {
        // An object is unpacked in memory, so a small pack must not hold a large one.
        alloc_limit_bytes: usize::try_from(most).ok(),
        ..Default::default()
    };
    let stored = Bundle::write_to_directory(
        &mut limited,
        Some(packs),
        &mut Discard,
        &AtomicBool::new(false),
        None::<gix_object::find::Never>,
        kind,
        options,
    );
    match stored {
        Ok(_) => Ok(()),
        Err(_) if limited.exceeded() => Err(SourceError::TooLarge { url: url.to_owned(), most }),
        Err(error) => Err(failure(url, &error)),
    }
}

fn agent() -> (&'static str, Option<String>) {
    ("agent", Some(concat!("outrigger-sync/", env!("CARGO_PKG_VERSION")).to_owned()))
}

fn as_reference(reference: Ref, prefix: &str) -> Option<Reference> {
    let (name, object, commit) = match reference {
        Ref::Peeled { full_ref_name, tag, object } => (full_ref_name, tag, object),
        Ref::Direct { full_ref_name, object } => (full_ref_name, object, object),
        Ref::Symbolic { full_ref_name, tag, object, .. } => (full_ref_name, tag.unwrap_or(object), object),
        Ref::Unborn { .. } => return None,
    };
    let name = name.to_str().ok()?;
    name.starts_with(prefix).then_some(())?;
    short(name).map(|name| Reference { name: name.to_owned(), object, commit })
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("refs/tags/").or_else(|| name.strip_prefix("refs/heads/"))
}

/// What an error of `gix` means to a user: its kinds are told apart by the I/O errors in it.
fn failure(url: &str, error: &(dyn std::error::Error + 'static)) -> SourceError {
    use std::io::ErrorKind;
    let (url, why) = (url.to_owned(), told(error));
    for error in causes(error) {
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::PermissionDenied) => return SourceError::Denied { url, why },
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem) => {
                return SourceError::Disk { url, why };
            }
            Some(
                ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NotConnected
                | ErrorKind::UnexpectedEof,
            ) => return SourceError::Unreachable { url, why },
            _ => {}
        }
    }
    SourceError::Broken { url, why }
}

/// An error with all its causes. Those of `gix` are a tree, of which `source` shows one branch at most.
fn causes<'a>(error: &'a (dyn std::error::Error + 'static)) -> Vec<&'a (dyn std::error::Error + 'static)> {
    // Deeper ones than this tell nobody anything.
    const MOST: usize = 32;
    let (mut found, mut open) = (Vec::new(), vec![error]);
    while let Some(error) = open.pop().filter(|_| found.len() < MOST) {
        if let Some(tree) = error.downcast_ref::<gix_error::Error>() {
            open.extend(tree.iter_errors().filter(|inner| !inner.is::<gix_error::Error>()));
        } else {
            found.push(error);
            open.extend(error.source());
        }
    }
    found
}

/// An error with all its causes, on one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = one_line(&error.to_string());
    for cause in causes(error) {
        let cause = one_line(&cause.to_string());
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
