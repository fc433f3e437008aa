//! ssh, by `russh`: no ssh program in the image, and no user database that it would want to find itself in.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use gix_transport::Protocol;
use gix_transport::client::git::ConnectMode;
use gix_transport::client::git::blocking_io::Connection;
use russh::ChannelStream;
use russh::client::{self, Handle, Msg};
use russh::keys::known_hosts::check_known_hosts_path;
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::runtime::Runtime;

use super::SourceError;
use super::allowance::{Allowance, Counted};
use super::secret::Secret;

/// How long connecting may take, with all that is asked on the way.
const CONNECT: Duration = Duration::from_secs(20);
/// How long the server may send nothing, or take nothing.
const STALL: Duration = Duration::from_mins(1);

/// Where a repository is found.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    user: &'a str,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl<'a> Place<'a> {
    /// `ssh://user@host:port/path`, or `user@host:path` with a path that begins at the user's home.
    fn parse(url: &'a str) -> Option<Self> {
        let (authority, path) = match url.strip_prefix("ssh://") {
            Some(rest) => rest.split_at(rest.find('/')?),
            None => url.split_once(':')?,
        };
        let (user, host) = authority.rsplit_once('@').unwrap_or(("git", authority));
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (host, 22),
        };
        Some(Self { user, host, port, path })
    }

    /// The server's shell reads the command, so the path is one word of it.
    fn command(&self) -> String {
        format!("git-upload-pack '{}'", self.path.replace('\'', r"'\''"))
    }
}

/// Connects, asks who the server is, says who we are, and starts `git-upload-pack` there.
pub(super) fn connect(
    url: &str,
    secret: &Secret,
    allowance: &Allowance,
) -> Result<Connection<Counted<From>, To>, SourceError> {
    let unreachable = |why: String| SourceError::Unreachable { url: url.to_owned(), why };
    let place = Place::parse(url).ok_or_else(|| unreachable("it is no URL of ssh".to_owned()))?;
    let key = secret.required("ssh-privatekey")?;
    secret.required("known_hosts")?;
    let key = decode_secret_key(&key, None)
        .map_err(|error| secret.unusable("ssh-privatekey", error.to_string()))?;
    let known = Known { host: place.host.to_owned(), port: place.port, secret: secret.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unreachable(error.to_string()))?;
    let started = async {
        let config =
            Arc::new(client::Config { inactivity_timeout: Some(STALL), nodelay: true, ..Default::default() });
        let mut session = client::connect(config, (place.host, place.port), known).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        if !session.authenticate_publickey(place.user, key).await?.success() {
            return Err(russh::Error::NotAuthenticated);
        }
        let channel = session.channel_open_session().await?;
        // Servers that do not let it be set speak an older version, which is understood too.
        channel.set_env(false, "GIT_PROTOCOL", "version=2").await?;
        channel.exec(false, place.command()).await?;
        Ok((session, channel.into_stream()))
    };
    let started = runtime.block_on(async { tokio::time::timeout(CONNECT, started).await });
    let (session, stream) = match started {
        Ok(Ok(started)) => started,
        Ok(Err(russh::Error::UnknownKey)) => {
            let why = format!("the key that {} shows is not in known_hosts of the Secret", place.host);
            return Err(SourceError::Denied { url: url.to_owned(), why });
        }
        Ok(Err(russh::Error::NotAuthenticated)) => {
            let why = "the server does not take ssh-privatekey of the Secret".to_owned();
            return Err(SourceError::Denied { url: url.to_owned(), why });
        }
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
    };
    let runtime = Arc::new(runtime);
    let (read, write) = split(stream);
    let inner = From { runtime: Arc::clone(&runtime), half: Some(read) };
    let from = Counted { inner, allowance: allowance.clone() };
    let to = To { runtime, half: Some(write), _session: session };
    let host = None::<(&str, _)>;
    Ok(Connection::new(from, to, Protocol::V2, place.path, host, ConnectMode::Process, false))
}

/// Knows the server by the Secret's `known_hosts`. A server that is not in it is refused: there is nobody to ask.
struct Known {
    host: String,
    port: u16,
    secret: Secret,
}

impl client::Handler for Known {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let path = self.secret.path("known_hosts");
        Ok(check_known_hosts_path(&self.host, self.port, key, path).unwrap_or(false))
    }
}

/// What the server writes, for who waits for it.
pub(super) struct From {
    runtime: Arc<Runtime>,
    half: Option<ReadHalf<ChannelStream<Msg>>>,
}

/// What the server reads.
pub(super) struct To {
    runtime: Arc<Runtime>,
    half: Option<WriteHalf<ChannelStream<Msg>>>,
    /// The connection ends with it.
    _session: Handle<Known>,
}

async fn in_time<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STALL, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let half = self.half.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.runtime.block_on(in_time(half.read(buffer)))
    }
}

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let half = self.half.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.runtime.block_on(in_time(half.write(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        let half = self.half.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.runtime.block_on(in_time(half.flush()))
    }
}

/// A channel says goodbye on a task, so it has to go where there is a runtime.
impl Drop for From {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.half = None;
    }
}

impl Drop for To {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.half = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_repositories() {
        for (url, wanted) in [
            ("ssh://git@h:2222/a/b.git", ("git", "h", 2222, "/a/b.git")),
            ("ssh://h/a", ("git", "h", 22, "/a")),
            ("me@h:a/b.git", ("me", "h", 22, "a/b.git")),
        ] {
            let (user, host, port, path) = wanted;
            assert_eq!(Place::parse(url), Some(Place { user, host, port, path }), "{url}");
        }
        assert_eq!(Place::parse("ssh://h:x/a"), None);
    }

    #[test]
    fn a_path_is_one_word_of_the_command() {
        let place = Place::parse("ssh://h/a b'; rm -rf '").unwrap();
        assert_eq!(place.command(), r"git-upload-pack '/a b'\''; rm -rf '\'''");
    }
}
