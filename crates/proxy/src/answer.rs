//! Our own answers, in the app's place: what both versions of HTTP write, each in its own words.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::labels::Direction;
use crate::reason::Reason;
use crate::request::Request;

/// An answer that we give.
#[derive(Clone, Debug)]
pub(crate) struct OwnAnswer {
    pub(crate) reason: Reason,
    pub(crate) status: StatusCode,
    /// What happened.
    pub(crate) sentence: &'static str,
    /// Beside the reason's and those that frame the body.
    pub(crate) headers: Vec<(Cow<'static, str>, HeaderValue)>,
    pub(crate) body: String,
}

impl OwnAnswer {
    /// The one for this reason, on a connection of this direction.
    pub(crate) fn of(reason: Reason, direction: Direction) -> Self {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        let sentence = reason.sentence(direction);
        Self {
            reason,
            status: reason.status(),
            sentence,
            headers: vec![("Content-Type".into(), text)],
            body: format!("outrigger: {sentence} ({})\n", reason.as_str()),
        }
    }

    /// A length of time as `Retry-After` has it: in whole seconds, at least one.
    pub(crate) fn seconds(time: Duration) -> HeaderValue {
        HeaderValue::from(time.as_secs() + u64::from(time.subsec_nanos() > 0).max(u64::from(time.is_zero())))
    }

    pub(crate) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// To a client that spoke plain HTTP where TLS is spoken: the same place with `https`. `None` where its request does not
    /// say which place that is.
    pub(crate) fn redirect(request: &Request<'_>) -> Option<Self> {
        let host = request.host().filter(|host| !host.is_empty())?;
        let target = request.target;
        if !target.starts_with(b"/") {
            return None;
        }
        let location = HeaderValue::from_bytes(&[b"https://", host, target].concat()).ok()?;
        let mut answer = Self::of(Reason::PlainHttp, Direction::Inbound).with("Location", location);
        // 308 and not 301, by which clients make a GET of a POST.
        answer.status = StatusCode::PERMANENT_REDIRECT;
        Some(answer)
    }
}
