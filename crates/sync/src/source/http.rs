//! http and https: what carries git's protocol, by `ureq`.
//!
//! The backends that gix brings are curl, which is C and OpenSSL, and reqwest, which would bring a second TLS library and an
//! async runtime to wait for one answer at a time.

use std::fs;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gix_error::{ErrorExt, message};
use gix_transport::Protocol;
use gix_transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse, Transport, connect_http,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::allowance::{Allowance, Counted};
use super::secret::Secret;
use super::{SourceError, told};

/// The certificates of public CAs, in the image and on most systems.
const PUBLIC_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may send nothing.
const STALL: Duration = Duration::from_mins(1);

/// Connects lazily: the first request does it.
pub(super) fn connect(
    url: &str,
    secret: &Secret,
    allowance: &Allowance,
) -> Result<Transport<Https>, SourceError> {
    let broken = |why: String| SourceError::Broken { url: url.to_owned(), why };
    let parsed = gix_url::parse(url).map_err(|error| broken(told(&error)))?;
    let authorization = match secret.optional("password")? {
        None => None,
        Some(password) => {
            let user = secret.optional("username")?.unwrap_or_else(|| "git".to_owned());
            Some(STANDARD.encode(format!("{}:{}", user.trim_end(), password.trim_end())))
        }
    };
    // Some hundred kilobytes of certificates, which nobody asks for without TLS.
    let roots = if url.starts_with("https:") { roots(secret)? } else { Vec::new() };
    let https = Https { agent: agent(roots), authorization, allowance: allowance.clone() };
    Ok(connect_http(https, parsed, Protocol::V2, false))
}

/// Whom to trust: public CAs, and those of the Secret.
fn roots(secret: &Secret) -> Result<Vec<Certificate<'static>>, SourceError> {
    let own = secret.optional("ca.crt")?;
    let mut roots = Vec::new();
    // Without public CAs only those of one's own count.
    for pem in fs::read(PUBLIC_CAS).ok().into_iter().chain(own.map(String::into_bytes)) {
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| secret.unusable("ca.crt", error.to_string()))?;
            roots.push(Certificate::from_der(&certificate).to_owned());
        }
    }
    Ok(roots)
}

fn agent(roots: Vec<Certificate<'static>>) -> Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // Credentials would be sent wherever an answer points.
        .max_redirects(0)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(STALL))
        .timeout_per_read(Some(STALL))
        .build();
    config.new_agent()
}

/// What makes the requests.
pub(super) struct Https {
    agent: Agent,
    authorization: Option<String>,
    allowance: Allowance,
}

impl Https {
    fn prepare<B>(&self, mut request: ureq::RequestBuilder<B>, lines: &[String]) -> ureq::RequestBuilder<B> {
        for (name, value) in lines.iter().filter_map(|line| line.split_once(':')) {
            request = request.header(name, value.trim());
        }
        match &self.authorization {
            Some(authorization) => request.header("authorization", format!("Basic {authorization}")),
            None => request,
        }
    }
}

impl Http for Https {
    type Headers = Head;
    type ResponseBody = Content;
    type PostBody = Question;

    fn get(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix_error::Result<GetResponse<Head, Content>> {
        let lines: Vec<_> = headers.into_iter().map(|line| line.as_ref().to_owned()).collect();
        let answer = self.prepare(self.agent.get(url), &lines).call();
        let answer = answered(answer, &self.allowance).map_err(ErrorExt::raise)?;
        let exchange = Arc::new(Mutex::new(answer));
        Ok(GetResponse { headers: Head::of(&exchange), body: Content::of(&exchange) })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix_error::Result<PostResponse<Head, Content, Question>> {
        let lines: Vec<_> = headers.into_iter().map(|line| line.as_ref().to_owned()).collect();
        let request = self.prepare(self.agent.post(url), &lines);
        let (request, allowance) = (Box::new(request), self.allowance.clone());
        let exchange = Arc::new(Mutex::new(Exchange::Asking { request, body: Vec::new(), allowance }));
        Ok(PostResponse {
            post_body: Question(Arc::clone(&exchange)),
            headers: Head::of(&exchange),
            body: Content::of(&exchange),
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix_error::Result {
        Err(message("there is nothing to configure").raise())
    }
}

/// A request and its answer. A question of git's protocol is a few lines, so it is gathered and sent when somebody wants to read.
enum Exchange {
    Asking {
        request: Box<ureq::RequestBuilder<ureq::typestate::WithBody>>,
        body: Vec<u8>,
        allowance: Allowance,
    },
    Answered {
        head: Vec<u8>,
        body: Option<Stream>,
    },
    Over,
}

impl Exchange {
    fn answer(&mut self) -> io::Result<(&mut Vec<u8>, &mut Option<Stream>)> {
        if let Self::Asking { .. } = self {
            let Self::Asking { request, body, allowance } = std::mem::replace(self, Self::Over) else {
                unreachable!()
            };
            *self = answered(request.send(&body[..]), &allowance)?;
        }
        match self {
            Self::Answered { head, body } => Ok((head, body)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

fn answered(response: Result<Response<Body>, ureq::Error>, allowance: &Allowance) -> io::Result<Exchange> {
    let response = response.map_err(as_io)?;
    let status = response.status();
    if status.is_redirection() {
        let to = response.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
        // What follows may be a signature that opens the place to whoever reads this.
        let to = to.split(['?', '#']).next().unwrap_or_default();
        return Err(io::Error::other(format!(
            "the server answers {status} and points to {to}: use that URL"
        )));
    }
    if matches!(status.as_u16(), 401 | 403) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the server answers {status}")));
    }
    if status.is_server_error() {
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, format!("the server answers {status}")));
    }
    if !status.is_success() {
        return Err(io::Error::other(format!("the server answers {status}")));
    }
    let mut head = Vec::new();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.push(b'\n');
    }
    // ureq's own limit is for each answer, and ours for all of them.
    let inner = response.into_body().into_with_config().limit(u64::MAX).reader();
    Ok(Exchange::Answered { head, body: Some(Box::new(Counted { inner, allowance: allowance.clone() })) })
}

fn as_io(error: ureq::Error) -> io::Error {
    match error {
        // A certificate that is not trusted, or not the server's.
        ureq::Error::Io(error)
            if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) =>
        {
            io::Error::new(io::ErrorKind::PermissionDenied, error)
        }
        // The standard library has no kind of error for a name that nobody has.
        ureq::Error::Io(error) if error.to_string().starts_with("failed to lookup address") => {
            io::Error::new(io::ErrorKind::HostUnreachable, error)
        }
        ureq::Error::Io(error) => error,
        ureq::Error::Timeout(timeout) => io::Error::new(io::ErrorKind::TimedOut, timeout.to_string()),
        ureq::Error::HostNotFound => io::Error::new(io::ErrorKind::HostUnreachable, "no such host"),
        ureq::Error::ConnectionFailed => io::Error::new(io::ErrorKind::ConnectionRefused, "no connection"),
        ureq::Error::Rustls(error) => io::Error::new(io::ErrorKind::PermissionDenied, error),
        other => io::Error::other(other),
    }
}

type Shared = Arc<Mutex<Exchange>>;
/// What comes of an answer.
type Stream = Box<dyn Read + Send>;

/// What is asked.
pub(super) struct Question(Shared);

impl Write for Question {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Exchange::Asking { body, .. } => body.extend_from_slice(bytes),
            _ => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer's headers, line by line.
pub(super) struct Head {
    exchange: Shared,
    lines: Option<Cursor<Vec<u8>>>,
}

impl Head {
    fn of(exchange: &Shared) -> Self {
        Self { exchange: Arc::clone(exchange), lines: None }
    }

    fn lines(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if self.lines.is_none() {
            let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
            self.lines = Some(Cursor::new(std::mem::take(exchange.answer()?.0)));
        }
        Ok(self.lines.get_or_insert_default())
    }
}

/// The answer's body.
pub(super) struct Content {
    exchange: Shared,
    body: Option<BufReader<Stream>>,
}

impl Content {
    fn of(exchange: &Shared) -> Self {
        Self { exchange: Arc::clone(exchange), body: None }
    }

    fn body(&mut self) -> io::Result<&mut BufReader<Stream>> {
        if self.body.is_none() {
            let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
            let body = exchange.answer()?.1.take().unwrap_or_else(|| Box::new(io::empty()));
            self.body = Some(BufReader::with_capacity(64 * 1024, body));
        }
        self.body.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Read for Head {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lines()?.read(buffer)
    }
}

impl BufRead for Head {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.lines()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(lines) = &mut self.lines {
            lines.consume(amount);
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body()?.read(buffer)
    }
}

impl BufRead for Content {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.body()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(body) = &mut self.body {
            body.consume(amount);
        }
    }
}
