//! Our own answers, in the app's place: what both versions of HTTP write, each in its own words.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;

use crate::headers::Edits;
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
    pub(crate) body: Bytes,
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
            body: format!("outrigger: {sentence} ({})\n", reason.as_str()).into(),
        }
    }

    /// A length of time as `Retry-After` has it: in whole seconds, at least one.
    pub(crate) fn seconds(time: Duration) -> HeaderValue {
        HeaderValue::from(time.as_secs() + u64::from(time.subsec_nanos() > 0).max(u64::from(time.is_zero())))
    }

    /// What `Retry-After` says, RFC 9110 10.2.3: seconds, or a date, which is `now` at the earliest. `None` where it is neither.
    pub(crate) fn retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
        let text = std::str::from_utf8(value).ok()?.trim();
        if let Ok(seconds) = text.parse::<u32>() {
            return Some(Duration::from_secs(seconds.into()));
        }
        let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
    }

    pub(crate) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// With further headers for the client.
    pub(crate) fn tell(&mut self, headers: Option<&Edits>) {
        let told = headers.into_iter().flat_map(Edits::added);
        self.headers.extend(told.map(|(name, value)| (name.clone().into(), value.clone())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, wanted) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let found = OwnAnswer::retry_after(value.as_bytes(), now);
            assert_eq!(found, wanted.map(Duration::from_secs), "{value}");
        }
    }
}
