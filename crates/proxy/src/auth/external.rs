//! Somebody else who is asked whether a request may go on.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderName};
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use outrigger_api::auth::ExternalSpec;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer::OwnAnswer;
use crate::auth::{Allowed, Decision, Denied};
use crate::connect;
use crate::headers::Edits;
use crate::labels::Direction;
use crate::own_time;
use crate::reason::Reason;
use crate::request::Request;
use crate::request_target;
use crate::target::{Name, Target};

/// Idle connections that are kept for the next request.
const KEPT: usize = 32;
/// Questions under way: each holds a connection, and whoever makes requests that nobody has judged yet would else choose how many.
const MOST_ASKED: usize = 128;
/// The longest body of an answer that is passed on, in bytes.
const LONGEST: usize = 64 * 1024;
/// Between two warnings.
const WARNING_PAUSE: Duration = Duration::from_mins(1);
/// Says that a request is such a question. One that comes with it to a port that would ask in turn came from ourselves, or from a pod like
/// this one, and would go round for ever.
const QUESTION: &str = "outrigger-question";

/// What belongs to one connection (RFC 9110 section 7.6.1), to a body that is not sent, or asks for a part of an answer.
const NOT_SENT: [HeaderName; 13] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    RANGE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    pub(crate) is_tls: bool,
    pub(crate) client: Option<IpAddr>,
}

pub(super) struct External {
    spec: ExternalSpec,
    target: Target,
    authority: HeaderValue,
    path: String,
    idle: RefCell<Vec<SendRequest<Empty<Bytes>>>>,
    free: Semaphore,
    warned: Cell<Option<Instant>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("failed to connect: {0}")]
    Connect(#[from] io::Error),
    #[error("failed to exchange a request: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the body of the answer can't be read, or exceeds 64 KiB: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("none came in time")]
    Late,
    #[error("it has status {0}")]
    Status(StatusCode),
}

impl External {
    /// `None` where the URL is none, which admission has refused.
    pub(super) fn new(spec: &ExternalSpec) -> Option<Self> {
        let place = spec.place()?;
        Some(Self {
            spec: spec.clone(),
            target: Target::Name(Rc::new(Name::new(place.host, place.port))),
            authority: HeaderValue::from_str(place.authority).ok()?,
            path: place.path.to_owned(),
            idle: RefCell::default(),
            free: Semaphore::new(MOST_ASKED),
            warned: Cell::new(None),
        })
    }

    /// Asks about a request, which is told with these edits; those that its answer brings are put to them. Where as many questions are under way
    /// as may be, it waits for its turn, and is refused where that does not come in time: not the server's failure, so never let through for it.
    pub(super) async fn judge(
        &self,
        request: &Request<'_>,
        came: Came,
        mut to_app: Edits,
    ) -> Result<Allowed, Denied> {
        if request.headers.first(QUESTION).is_some() {
            return Err(Denied::Loop);
        }
        let question = headers(request, came, &to_app);
        let patience = self.spec.timeout.length();
        let Ok(Ok(_turn)) = timeout(patience, self.free.acquire()).await else { return Err(Denied::Busy) };
        let asked = timeout(patience, self.ask(&question)).await;
        match asked.unwrap_or(Err(NoAnswer::Late)) {
            Ok((head, _)) if head.status.is_success() => {
                put(&mut to_app, &self.spec.headers_to_app, &head.headers);
                let mut to_client = Edits::default();
                put(&mut to_client, &self.spec.headers_to_client, &head.headers);
                let to_client = Some(to_client).filter(|edits| !edits.lines_to_add().is_empty());
                Ok(Allowed { by: Decision::Allowed, to_app, to_client })
            }
            Ok((head, body)) => Err(Denied::Answered(Box::new(answer(&head, body)))),
            Err(error) => {
                self.warn(&error);
                let unchecked = Allowed { by: Decision::Unchecked, to_app, to_client: None };
                self.spec.fail_open.then_some(unchecked).ok_or(Denied::Unavailable)
            }
        }
    }

    async fn ask(&self, headers: &HeaderMap) -> Result<(http::response::Parts, Bytes), NoAnswer> {
        loop {
            let kept = self.idle.borrow_mut().pop();
            let is_fresh = kept.is_none();
            let mut connection = match kept {
                Some(kept) if kept.is_ready() => kept,
                Some(_) => continue,
                None => self.connect().await?,
            };
            let mut question = http::Request::get(&*self.path).body(Empty::new()).expect("a path is a URI");
            headers.clone_into(question.headers_mut());
            question.headers_mut().insert(HOST, self.authority.clone());
            let answer = match connection.send_request(question).await {
                Ok(answer) => answer,
                // It had been closed just now.
                Err(_) if !is_fresh => continue,
                Err(error) => return Err(error.into()),
            };
            let (head, body) = read(answer).await?;
            if self.idle.borrow().len() < KEPT {
                self.idle.borrow_mut().push(connection);
            }
            return if head.status.is_server_error() {
                Err(NoAnswer::Status(head.status))
            } else {
                Ok((head, body))
            };
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, NoAnswer> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in &*self.target.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    connect::prepare(&stream);
                    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
                    tokio::task::spawn_local(own_time::apart(Box::pin(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "connection to the authoriser ended");
                        }
                    })));
                    return Ok(requests);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    }

    /// Once a minute, as every request may fail.
    fn warn(&self, error: &NoAnswer) {
        let now = Instant::now();
        if self.warned.get().is_some_and(|last| now - last < WARNING_PAUSE) {
            return;
        }
        self.warned.set(Some(now));
        let (url, open) = (&self.spec.url, self.spec.fail_open);
        tracing::warn!(%error, url, fail_open = open, "no answer of the authoriser");
    }
}

/// Puts the headers of these names to the others.
fn put(edits: &mut Edits, names: &[String], headers: &HeaderMap) {
    for name in names {
        headers.get_all(name).iter().for_each(|value| edits.add(name, value.clone()));
    }
}

async fn read(answer: Response<Incoming>) -> Result<(http::response::Parts, Bytes), NoAnswer> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, LONGEST).collect().await.map_err(NoAnswer::Body)?;
    Ok((head, body.to_bytes()))
}

/// The head of the question: that of the request.
fn headers(request: &Request<'_>, came: Came, edits: &Edits) -> HeaderMap {
    let mut headers = request.headers.to_map();
    let (path, query) = request_target::parts(request.target);
    let host = request.host().and_then(|host| HeaderValue::from_bytes(host).ok());
    for name in NOT_SENT {
        headers.remove(name);
    }
    join_cookies(&mut headers);
    edits.apply(&mut headers);
    let mut told = Edits::default();
    told.set(
        "X-Forwarded-Method",
        HeaderValue::from_bytes(request.method_name).unwrap_or(HeaderValue::from_static("")),
    );
    told.set(
        "X-Forwarded-Uri",
        HeaderValue::from_bytes(&[path, query].concat()).unwrap_or(HeaderValue::from_static("/")),
    );
    told.set("X-Forwarded-Proto", HeaderValue::from_static(if came.is_tls { "https" } else { "http" }));
    match host {
        Some(host) => told.set("X-Forwarded-Host", host),
        None => told.remove("X-Forwarded-Host"),
    }
    if let Some(client) = came.client.and_then(|client| HeaderValue::from_str(&client.to_string()).ok()) {
        // Beside those that others have named: the last is the one that was seen.
        told.add("X-Forwarded-For", client);
    }
    told.set(QUESTION, HeaderValue::from_static("1"));
    told.apply(&mut headers);
    headers
}

/// Makes one line of cookies that came by HTTP/2 in several: RFC 9113 section 8.2.3. Who reads the first line alone would miss the session.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(all) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, all);
    }
}

/// The client's, as it came.
fn answer(head: &http::response::Parts, body: Bytes) -> OwnAnswer {
    let reason =
        if head.status == StatusCode::UNAUTHORIZED { Reason::Unauthenticated } else { Reason::Forbidden };
    let mut answer = OwnAnswer::of(reason, Direction::Inbound);
    answer.status = head.status;
    answer.body = body;
    let passed = head.headers.iter().filter(|(name, _)| **name == CONTENT_TYPE || !NOT_SENT.contains(name));
    answer.headers = passed.map(|(name, value)| (name.as_str().to_owned().into(), value.clone())).collect();
    answer
}
