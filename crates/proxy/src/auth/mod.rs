//! Who may ask what. Decisions: time is an argument, and keys come as they were read.
//!
//! `jwt` takes tokens apart, `keys` holds what credentials are judged by: `jwks` an issuer's, `users` names and hashes of passwords, which
//! `basic` has compared beside the worker, those that `line` lets wait; `rules` says what the credential allows, and `external` asks a server.

mod basic;
mod external;
#[cfg(test)]
mod fuzz;
mod jwks;
mod jwt;
mod keys;
mod line;
mod remembered;
mod rules;
mod users;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use outrigger_api::auth::AuthSpec;
use serde_json::{Map, Value};

use crate::answer::OwnAnswer;
use crate::auth::external::External;
use crate::headers::Edits;
use crate::request::Request;
use crate::request_target;

pub(crate) use external::Came;
pub(crate) use keys::{Keys, KeysError};

/// Tokens that were verified, and need not be again.
const KNOWN: usize = 256;

/// What a token or a key says of its bearer.
type Claims = Map<String, Value>;

/// What a port asks of requests.
pub(crate) struct Auth {
    spec: AuthSpec,
    /// Takes out what would be taken for ours.
    strip: Edits,
    known: RefCell<Known>,
    passwords: basic::Verifier,
    external: Option<External>,
}

/// Tokens by their SHA-256, as these keys have verified them.
#[derive(Default)]
struct Known {
    keys: Option<Arc<Keys>>,
    tokens: HashMap<[u8; 32], Rc<Claims>>,
}

/// Who has been here is nobody's business.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Why a request may not go on.
#[derive(Clone, Debug)]
pub(crate) enum Denied {
    /// It has no credential.
    Missing,
    /// It has one that is not good, for this reason. Never a part of it.
    Invalid(&'static str),
    /// It has a good one, which does not allow this.
    Forbidden,
    /// Too many wait to have theirs looked at.
    Busy,
    /// By the server that was asked, which has this to say.
    Answered(Box<OwnAnswer>),
    /// The server that had to be asked did not answer.
    Unavailable,
    /// It is such a question itself.
    Loop,
}

/// A request that may go on.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    pub(crate) by: Decision,
    /// What is done to its headers.
    pub(crate) to_app: Edits,
    /// What the client is told beside the headers of its answer; `None` where that is nothing.
    pub(crate) to_client: Option<Edits>,
}

/// How requests were judged: the `result` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    Exempt,
    Missing,
    Invalid,
    Forbidden,
    Busy,
    /// The server that was asked refused it.
    Denied,
    /// It did not answer.
    Unavailable,
    /// It did not answer, and the request went on all the same.
    Unchecked,
}

impl Decision {
    /// Each at its own number, with its label.
    pub(crate) const ALL: [(Self, &str); 9] = [
        (Self::Allowed, "allowed"),
        (Self::Exempt, "exempt"),
        (Self::Missing, "missing"),
        (Self::Invalid, "invalid"),
        (Self::Forbidden, "forbidden"),
        (Self::Busy, "busy"),
        (Self::Denied, "denied"),
        (Self::Unavailable, "unavailable"),
        (Self::Unchecked, "unchecked"),
    ];

    pub(crate) fn of(judged: &Result<Allowed, Denied>) -> Self {
        match judged {
            Ok(allowed) => allowed.by,
            Err(Denied::Missing) => Self::Missing,
            Err(Denied::Invalid(_)) => Self::Invalid,
            Err(Denied::Forbidden) => Self::Forbidden,
            Err(Denied::Busy) => Self::Busy,
            Err(Denied::Answered(_) | Denied::Loop) => Self::Denied,
            Err(Denied::Unavailable) => Self::Unavailable,
        }
    }
}

impl Auth {
    pub(crate) fn new(spec: &AuthSpec) -> Self {
        let mut strip = Edits::default();
        for told in spec.jwt.iter().flat_map(|jwt| &jwt.claims_to_headers) {
            strip.remove(&told.header);
        }
        let of_basic = spec.basic.iter().flat_map(|basic| &basic.name_header);
        let of_keys = spec.api_key.iter().flat_map(|keys| keys.name_header.iter().chain([&keys.header]));
        let told = spec.external.iter().flat_map(|external| &external.headers_to_app);
        of_basic.chain(of_keys).chain(told).for_each(|header| strip.remove(header));
        Self {
            spec: spec.clone(),
            strip,
            known: RefCell::default(),
            passwords: basic::Verifier::new(),
            external: spec.external.as_ref().and_then(External::new),
        }
    }

    /// Judges a request, at this time in seconds since the Unix epoch.
    pub(crate) async fn judge(
        &self,
        keys: &Arc<Keys>,
        request: &Request<'_>,
        came: Came,
        now: i64,
    ) -> Result<Allowed, Denied> {
        let go_on = |by, to_app| Ok(Allowed { by, to_app, to_client: None });
        let path = request_target::path(request.target);
        if self.spec.exempt_paths.iter().any(|exempt| exempt.as_bytes() == path) {
            return go_on(Decision::Exempt, self.unjudged(request));
        }
        let (claims, edits) = self.authenticate(keys, request, came.client, now).await?;
        if !rules::allow(&self.spec.rules, request.method_name, path, &claims) {
            return Err(Denied::Forbidden);
        }
        match (&self.external, &self.spec.external) {
            (Some(external), _) => external.judge(request, came, edits).await,
            (None, None) => go_on(Decision::Allowed, edits),
            // Not the server that was asked for, so nobody's word.
            (None, Some(_)) => Err(Denied::Unavailable),
        }
    }

    /// What is done to the headers of a request whose credential nobody looks at: its password is nothing for the app either.
    fn unjudged(&self, request: &Request<'_>) -> Edits {
        let mut edits = self.strip.clone();
        let is_password =
            |value: &&[u8]| value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Basic "));
        if self.spec.basic.is_some() && request.headers.all("authorization").iter().any(is_password) {
            edits.remove("Authorization");
        }
        edits
    }

    async fn authenticate(
        &self,
        keys: &Arc<Keys>,
        request: &Request<'_>,
        client: Option<IpAddr>,
        now: i64,
    ) -> Result<(Rc<Claims>, Edits), Denied> {
        let mut edits = self.strip.clone();
        if let Some(spec) = &self.spec.jwt
            && let Some(token) = authorization(request, b"Bearer ")?
        {
            let claims = self.verified(keys, token)?;
            jwt::check(&claims, spec, now).map_err(Denied::Invalid)?;
            for told in &spec.claims_to_headers {
                let claim = claims.get(&told.claim).filter(|claim| !claim.is_null());
                if let Some(claim) = claim {
                    // An app that is told nothing would take it for a bearer without the claim.
                    let value = header(claim).ok_or(Denied::Invalid("a claim that no header can tell"))?;
                    edits.set(&told.header, value);
                }
            }
            return Ok((claims, edits));
        }
        if let Some(spec) = &self.spec.basic
            && let Some(credential) = authorization(request, b"Basic ")?
        {
            let name = self.passwords.verify(keys, credential, client).await?;
            // The password is nothing for the app.
            edits.remove("Authorization");
            return Ok((named(&name, spec.name_header.as_deref(), &mut edits), edits));
        }
        if let Some(spec) = &self.spec.api_key
            && let Some(key) = one(request, &spec.header.to_ascii_lowercase())?
        {
            let name = keys.client(key).ok_or(Denied::Invalid("no such key"))?;
            return Ok((named(name, spec.name_header.as_deref(), &mut edits), edits));
        }
        if self.spec.takes_credentials() { Err(Denied::Missing) } else { Ok((Rc::default(), edits)) }
    }

    /// The claims of a token whose signature is good.
    fn verified(&self, keys: &Arc<Keys>, token: &[u8]) -> Result<Rc<Claims>, Denied> {
        let mut known = self.known.borrow_mut();
        if !known.keys.as_ref().is_some_and(|before| Arc::ptr_eq(before, keys)) {
            *known = Known { keys: Some(Arc::clone(keys)), tokens: HashMap::new() };
        }
        let digest = keys::sha256(token);
        if let Some(claims) = known.tokens.get(&digest) {
            return Ok(Rc::clone(claims));
        }
        let claims = Rc::new(jwt::verify(token, keys).map_err(Denied::Invalid)?);
        if known.tokens.len() >= KNOWN {
            known.tokens.clear();
        }
        known.tokens.insert(digest, Rc::clone(&claims));
        Ok(claims)
    }

    /// What a request without a good credential is told: RFC 9110 11.6.1, RFC 6750 3.
    pub(crate) fn challenge(&self, denied: &Denied) -> HeaderValue {
        let mut challenges = Vec::new();
        if self.spec.jwt.is_some() {
            challenges.push(match denied {
                Denied::Invalid(why) => {
                    format!(r#"Bearer realm="outrigger", error="invalid_token", error_description="{why}""#)
                }
                _ => r#"Bearer realm="outrigger""#.to_owned(),
            });
        }
        if let Some(basic) = &self.spec.basic {
            challenges.push(format!(r#"Basic realm="{}", charset="UTF-8""#, basic.realm));
        }
        if self.spec.api_key.is_some() {
            challenges.push(r#"ApiKey realm="outrigger""#.to_owned());
        }
        HeaderValue::from_str(&challenges.join(", ")).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// The claims of somebody of whom a name is known, and no more; the app is told it in this header.
fn named(name: &str, header: Option<&str>, edits: &mut Edits) -> Rc<Claims> {
    if let (Some(header), Ok(value)) = (header, HeaderValue::from_str(name)) {
        edits.set(header, value);
    }
    Rc::new(Claims::from_iter([("sub".to_owned(), name.into())]))
}

/// The credential in `Authorization`, of this scheme. Another is none.
fn authorization<'a>(request: &Request<'a>, scheme: &[u8]) -> Result<Option<&'a [u8]>, Denied> {
    let Some(value) = one(request, "authorization")? else { return Ok(None) };
    let Some((found, credential)) = value.split_at_checked(scheme.len()) else { return Ok(None) };
    Ok(found.eq_ignore_ascii_case(scheme).then(|| credential.trim_ascii()))
}

/// The one value of a header. Of two, the app might take the other.
fn one<'a>(request: &Request<'a>, name: &str) -> Result<Option<&'a [u8]>, Denied> {
    match *request.headers.all(name) {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(Denied::Invalid("more than one credential")),
    }
}

/// A claim as a header can tell it, in UTF-8. Of a list, an entry with a comma would be taken for two; spaces around a text are no part of
/// a header's value (RFC 9110 section 5.5).
fn header(claim: &Value) -> Option<HeaderValue> {
    let is_whole = |text: &str| text.trim_ascii() == text;
    let text = match claim {
        Value::String(text) if is_whole(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Array(list) => {
            let texts =
                list.iter().map(|one| one.as_str().filter(|text| is_whole(text) && !text.contains(',')));
            texts.collect::<Option<Vec<_>>>()?.join(",")
        }
        Value::String(_) | Value::Null | Value::Object(_) => return None,
    };
    HeaderValue::from_bytes(text.as_bytes()).ok()
}
