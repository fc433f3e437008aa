//! A repository: what it offers, and the objects of one version, over https, ssh or from a directory.
//!
//! Versions 0 to 2 of git's protocol are spoken by `gix-protocol`; only what carries it is ours. Nothing is ever told to the server
//! about what is here already: a version is fetched whole, at depth 1, so there is no history to keep, to repair or to grow.

mod allowance;
mod http;
mod local;
mod secret;
mod ssh;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use gix_error::{Class, ResourceExhaustionKind};
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

use outrigger_api::sync::SyncLimits;

use crate::failure::Reason;
use allowance::Allowance;
pub use secret::{Secret, SecretError};

/// What a server may send before a version is asked for: some hundred thousand references.
const REFERENCES: u64 = 8 << 20;
/// What it may send beside a version: heads of answers, progress, and a thousandth for the packets of the protocol.
const BESIDE: u64 = 64 << 10;

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
    /// A file that would take more memory than there is, or too many of them.
    #[error(
        "{url} sends an object, or a table of objects, of more than {most} bytes: limits.file, limits.files"
    )]
    ObjectTooLarge {
        /// The repository.
        url: String,
        /// The bound.
        most: u64,
    },
    /// A list of references without end.
    #[error(
        "{url} sends more than {REFERENCES} bytes before a version is asked for: are so many tags or branches meant?"
    )]
    TooManyReferences {
        /// The repository.
        url: String,
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
    /// Its kind.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } => Reason::Unreachable,
            Self::Denied { .. } | Self::Secret(_) => Reason::Denied,
            Self::Broken { .. } | Self::TooManyReferences { .. } => Reason::BrokenAnswer,
            Self::TooLarge { .. } | Self::ObjectTooLarge { .. } => Reason::TooLarge,
            Self::Disk { .. } => Reason::Disk,
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
    allowance: Allowance,
}

enum Carrier {
    Remote { transport: Box<dyn Transport>, handshake: Box<Handshake> },
    Local(local::Repository),
}

impl Session {
    /// Connects. The Secret is read anew each time, so that a changed one counts from the next poll on.
    pub fn open(url: &str, secret: &Secret) -> Result<Self, SourceError> {
        let allowance = Allowance::new(REFERENCES);
        if let Some(path) = url.strip_prefix("file://") {
            let repository = local::Repository::open(Path::new(path))
                .map_err(|error| SourceError::Unreachable { url: url.to_owned(), why: error.to_string() })?;
            return Ok(Self {
                url: url.to_owned(),
                kind: repository.kind(),
                carrier: Carrier::Local(repository),
                allowance,
            });
        }
        let mut transport: Box<dyn Transport> = if url.starts_with("http:") || url.starts_with("https:") {
            Box::new(http::connect(url, secret, &allowance)?)
        } else {
            Box::new(ssh::connect(url, secret, &allowance)?)
        };
        let nobody_to_ask = |_| Ok(None);
        let handshake = gix_protocol::handshake(
            &mut transport,
            Service::UploadPack,
            nobody_to_ask,
            Vec::new(),
            &mut Discard,
        )
        .map_err(|error| asked_in_vain(url, &allowance, &error))?;
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
            allowance,
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
                    .map_err(|error| asked_in_vain(url, &self.allowance, &error))?
            }
        };
        Ok(refs.into_iter().filter_map(|reference| as_reference(reference, prefix)).collect())
    }

    /// Whether the server can leave out files and directories, so that only dates and messages come.
    pub fn can_leave_out_files(&self) -> bool {
        match &self.carrier {
            Carrier::Local(_) => true,
            Carrier::Remote { handshake, .. } => {
                arguments(&self.url, handshake).is_ok_and(|arguments| arguments.can_use_filter())
            }
        }
    }

    /// Fetches these objects with all they consist of, or without files and directories, in any case without history, into the directory
    /// `into`, which is empty.
    pub fn fetch(
        &mut self,
        wanted: &[ObjectId],
        with_files: bool,
        into: &Path,
        limits: &SyncLimits,
    ) -> Result<Objects, SourceError> {
        let url = &self.url;
        let disk = |error: std::io::Error| SourceError::Disk { url: url.clone(), why: error.to_string() };
        let objects = match &mut self.carrier {
            Carrier::Local(repository) => repository.objects(),
            Carrier::Remote { transport, handshake } => {
                let packs = into.join("pack");
                std::fs::create_dir_all(&packs).map_err(disk)?;
                let most = limits.size.bytes();
                self.allowance.set(most.saturating_add(most / 1000 + BESIDE));
                let mut arguments = arguments(url, handshake)?;
                for object in wanted {
                    arguments.want(object);
                }
                if !with_files {
                    arguments.filter("tree:0");
                }
                let version = handshake.server_protocol_version;
                receive(url, transport, version, arguments, &packs, self.kind, limits).map_err(|error| {
                    if self.allowance.exceeded() {
                        SourceError::TooLarge { url: url.clone(), most }
                    } else {
                        error
                    }
                })?;
                into.to_owned()
            }
        };
        gix_odb::at(objects, self.kind).map_err(disk)
    }
}

/// A request for objects, by what this server can do.
fn arguments(url: &str, handshake: &Handshake) -> Result<Arguments, SourceError> {
    let version = handshake.server_protocol_version;
    let mut features = Command::Fetch.default_features(version, &handshake.capabilities);
    Response::check_required_features(version, &features)
        .map_err(|error| SourceError::Broken { url: url.to_owned(), why: told(&error) })?;
    features.push(agent());
    Ok(Arguments::new(version, features, false))
}

fn receive(
    url: &str,
    transport: &mut Box<dyn Transport>,
    version: Protocol,
    mut arguments: Arguments,
    packs: &Path,
    kind: Kind,
    limits: &SyncLimits,
) -> Result<(), SourceError> {
    let broken = |why: &str| SourceError::Broken { url: url.to_owned(), why: why.to_owned() };
    if !arguments.can_use_deepen() {
        return Err(broken("the server can't leave out the history"));
    }
    arguments.deepen(1);
    let mut answer = arguments.send(transport, true).map_err(|error| failure(url, &error))?;
    let response = Response::from_line_reader(version, &mut answer, true, false)
        .map_err(|error| failure(url, &error))?;
    if !response.has_pack() {
        return Err(broken("the server sends no objects"));
    }
    // Progress comes beside the objects; without somebody who takes it, it would be taken for them.
    let ignored = |_: bool, _: &[u8]| std::ops::ControlFlow::Continue(());
    if version != Protocol::V0 || !response.shallow_updates().is_empty() {
        answer.set_progress_handler(Some(Box::new(ignored)));
    }
    // An object is unpacked in memory, so a small pack must not hold a large one; the same bound holds for the table of all of them.
    let most = limits.file.bytes().max(u64::from(limits.files) << 10);
    let options = gix_pack::bundle::write::Options {
        alloc_limit_bytes: usize::try_from(most).ok(),
        ..Default::default()
    };
    let stored = Bundle::write_to_directory(
        &mut answer,
        Some(packs),
        &mut Discard,
        &AtomicBool::new(false),
        None::<gix_object::find::Never>,
        kind,
        options,
    );
    match stored {
        Ok(_) => Ok(()),
        Err(error) if takes_too_much(&error) => {
            Err(SourceError::ObjectTooLarge { url: url.to_owned(), most })
        }
        Err(error) => Err(failure(url, &error)),
    }
}

/// Whether an object is larger than it was allowed to be, or than there is memory.
pub fn takes_too_much(error: &gix_error::Error) -> bool {
    let kinds = [ResourceExhaustionKind::AllocationLimit, ResourceExhaustionKind::AllocationFailure];
    kinds.into_iter().any(|kind| error.classify().has(Class::ResourceExhaustion(kind)))
}

/// Why a server did not tell what it has.
fn asked_in_vain(url: &str, allowance: &Allowance, error: &(dyn std::error::Error + 'static)) -> SourceError {
    if allowance.exceeded() {
        return SourceError::TooManyReferences { url: url.to_owned() };
    }
    failure(url, error)
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
