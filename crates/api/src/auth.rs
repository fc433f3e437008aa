//! Who may ask what: credentials of requests, and rules about what they allow. Keys stay in Secrets of the pod's namespace.

use serde::{Deserialize, Serialize};

use crate::Fault;
pub use crate::external::{ExternalSpec, Place};
use crate::names::{header_name_fault, is_header_name, is_subdomain};
use crate::overrides::is_path;
#[cfg(feature = "crd")]
use crate::schema::{header_name_rule, object_name, rule, without_default};
use crate::span::Span;
use crate::traffic::span;

const MAX_RULES: usize = 16;
const MAX_ITEMS: usize = 8;
const MAX_TEXT: usize = 256;
const MAX_REALM: usize = 64;

/// Requests need a credential: a token, a password or an API key, whichever of these are named here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [rule(
        "has(self.jwt) || has(self.basic) || has(self.apiKey) || has(self.external)",
        "it needs a way to authenticate: jwt, basic, apiKey or external",
    )]))
)]
pub struct AuthSpec {
    /// Tokens (RFC 7519) in `Authorization: Bearer`. Default: none are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "JwtSpec"))]
    pub jwt: Option<JwtSpec>,
    /// Names and passwords in `Authorization: Basic` (RFC 7617). Default: none are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "BasicSpec"))]
    pub basic: Option<BasicSpec>,
    /// API keys in a header. Default: none are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "ApiKeySpec"))]
    pub api_key: Option<ApiKeySpec>,
    /// A server that has to allow each request, after its credential and the rules. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "ExternalSpec"))]
    pub external: Option<ExternalSpec>,
    /// Paths that need no credential, each whole and as requests spell it, without a query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_RULES),
            inner(length(max = MAX_TEXT)),
            extend("x-kubernetes-validations" = [paths_rule()])
        )
    )]
    pub exempt_paths: Vec<String>,
    /// What is allowed: a request that none of these is for gets a 403. Default: everything, to whoever has a credential.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_RULES)))]
    pub rules: Vec<RuleSpec>,
}

/// Which tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["secretName"])))]
pub struct JwtSpec {
    /// The Secret with the issuer's keys: `jwks.json`, a set of RFC 7517. A changed one is taken up as it comes.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub secret_name: String,
    /// What `iss` must be. Default: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "String", length(max = MAX_TEXT)))]
    pub issuer: Option<String>,
    /// One of these must be in `aud`. Default: anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ITEMS), inner(length(max = MAX_TEXT))))]
    pub audiences: Vec<String>,
    /// How far clocks may be apart, for `exp` and `nbf`. Default: 60s.
    pub leeway: Span,
    /// Claims that the app is told in headers. What clients send in headers of these names never reaches it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ITEMS)))]
    pub claims_to_headers: Vec<ClaimHeader>,
}

/// A claim and the header that tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["claim", "header"])))]
pub struct ClaimHeader {
    /// Name of the claim: `sub`. Its value is a text, a number, a truth value, or a list of texts.
    #[cfg_attr(feature = "crd", schemars(length(min = 1, max = MAX_TEXT), transform = without_default))]
    pub claim: String,
    /// Name of the header.
    #[cfg_attr(
        feature = "crd",
        schemars(length(max = 64), transform = without_default, extend("x-kubernetes-validations" = [header_name_rule()]))
    )]
    pub header: String,
}

/// Which names and passwords are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["secretName"])))]
pub struct BasicSpec {
    /// The Secret with the users: `htpasswd`, a line `name:hash` for each, as `htpasswd -B` writes them, or with argon2. A changed
    /// one is taken up as it comes.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub secret_name: String,
    /// What browsers show who ask for the password. Default: `outrigger`.
    #[cfg_attr(
        feature = "crd",
        schemars(length(min = 1, max = MAX_REALM), extend("x-kubernetes-validations" = [rule(
            r"self.matches('^[ !#-\\[\\]-~]+$')",
            "it takes printable ASCII without \" and \\",
        )]))
    )]
    pub realm: String,
    /// The header that tells the app the user's name. What clients send in it never reaches the app. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(with = "String", length(max = 64), extend("x-kubernetes-validations" = [header_name_rule()]))
    )]
    pub name_header: Option<String>,
}

/// Which API keys are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["secretName"])))]
pub struct ApiKeySpec {
    /// The Secret with an entry for each client: its name, and the SHA-256 of its key in hexadecimal.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub secret_name: String,
    /// The header that has the key; the app does not see it. Default: `X-API-Key`.
    #[cfg_attr(feature = "crd", schemars(length(max = 64), extend("x-kubernetes-validations" = [header_name_rule()])))]
    pub header: String,
    /// The header that tells the app the client's name. What clients send in it never reaches the app. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(with = "String", length(max = 64), extend("x-kubernetes-validations" = [header_name_rule()]))
    )]
    pub name_header: Option<String>,
}

/// Requests that are allowed: those for which all that is given here holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct RuleSpec {
    /// Methods, also those of other documents than RFC 9110: `PROPFIND`. Default: every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_ITEMS),
            inner(length(max = 24)),
            extend("x-kubernetes-validations" = [rule(
                "self.all(method, method.matches('^[A-Z][A-Z-]*$'))",
                "it takes methods, as GET",
            )])
        )
    )]
    pub methods: Vec<String>,
    /// The beginnings of paths, by whole segments: `/api` is for `/api/carts`, not for `/apis`. Default: every path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_ITEMS),
            inner(length(max = MAX_TEXT)),
            extend("x-kubernetes-validations" = [paths_rule()])
        )
    )]
    pub path_prefixes: Vec<String>,
    /// Claims that the credential must have, all of them. Who came by a password or an API key has its name as `sub`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_ITEMS)))]
    pub claims: Vec<ClaimSpec>,
}

/// A claim and the values that it may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["claim", "values"])))]
pub struct ClaimSpec {
    /// Name of the claim.
    #[cfg_attr(feature = "crd", schemars(length(min = 1, max = MAX_TEXT), transform = without_default))]
    pub claim: String,
    /// One of these must be its value or, where it is a list, in it.
    #[cfg_attr(
        feature = "crd",
        schemars(length(min = 1, max = MAX_ITEMS), inner(length(max = MAX_TEXT)), transform = without_default)
    )]
    pub values: Vec<String>,
}

#[cfg(feature = "crd")]
fn paths_rule() -> serde_json::Value {
    rule(
        "self.all(path, path.matches('^/[!->@-~]*$') && !path.contains('#'))",
        "it takes paths without a query, as /api",
    )
}

impl Default for JwtSpec {
    fn default() -> Self {
        Self {
            secret_name: String::new(),
            issuer: None,
            audiences: Vec::new(),
            leeway: span("60s"),
            claims_to_headers: Vec::new(),
        }
    }
}

impl Default for BasicSpec {
    fn default() -> Self {
        Self { secret_name: String::new(), realm: "outrigger".to_owned(), name_header: None }
    }
}

impl Default for ApiKeySpec {
    fn default() -> Self {
        Self { secret_name: String::new(), header: "X-API-Key".to_owned(), name_header: None }
    }
}

impl AuthSpec {
    /// Whether requests need a credential that is judged here.
    pub fn takes_credentials(&self) -> bool {
        self.jwt.is_some() || self.basic.is_some() || self.api_key.is_some()
    }

    /// The Secrets that it takes.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.named_secrets().map(|(_, name)| name)
    }

    /// Each with the field that names it.
    fn named_secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let jwt = self.jwt.iter().map(|jwt| ("jwt", jwt.secret_name.as_str()));
        let basic = self.basic.iter().map(|basic| ("basic", basic.secret_name.as_str()));
        jwt.chain(basic).chain(self.api_key.iter().map(|keys| ("apiKey", keys.secret_name.as_str())))
    }

    /// The headers that it names for credentials and names, each with its field.
    fn named_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let of_basic = self.basic.iter().filter_map(|basic| basic.name_header.as_deref());
        let key = self.api_key.iter().map(|keys| ("apiKey.header", keys.header.as_str()));
        let of_key = self.api_key.iter().filter_map(|keys| keys.name_header.as_deref());
        of_basic
            .map(|name| ("basic.nameHeader", name))
            .chain(key)
            .chain(of_key.map(|name| ("apiKey.nameHeader", name)))
    }

    /// The faults of a port's authentication that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault =
            |field: String, message: String| faults.push(Fault::new(format!("{at}{field}"), message));
        if !self.takes_credentials() && self.external.is_none() {
            fault(String::new(), "it needs a way to authenticate: jwt, basic, apiKey or external".to_owned());
        }
        for (field, name) in self.named_secrets().filter(|(_, name)| !is_subdomain(name)) {
            let message = format!("{name:?} is no name of a Secret: at most 253 of a-z, 0-9, - and .");
            fault(format!(".{field}.secretName"), message);
        }
        if let Some(realm) = self.basic.as_ref().map(|basic| &basic.realm).filter(|realm| !is_realm(realm)) {
            let message =
                format!("{realm:?}: it takes 1 to {MAX_REALM} of printable ASCII without \" and \\");
            fault(".basic.realm".to_owned(), message);
        }
        for (i, ClaimHeader { claim, header }) in
            self.jwt.iter().flat_map(|jwt| &jwt.claims_to_headers).enumerate()
        {
            if !(1..=MAX_TEXT).contains(&claim.len()) {
                fault(
                    format!(".jwt.claimsToHeaders[{i}].claim"),
                    "it takes the name of a claim, as sub".to_owned(),
                );
            }
            if !is_header_name(header) {
                fault(format!(".jwt.claimsToHeaders[{i}].header"), header_name_fault(header));
            }
        }
        for (field, header) in self.named_headers().filter(|(_, header)| !is_header_name(header)) {
            fault(format!(".{field}"), header_name_fault(header));
        }
        let jwt = self.jwt.as_ref();
        let lists = [
            ("exemptPaths", self.exempt_paths.len(), MAX_RULES),
            ("rules", self.rules.len(), MAX_RULES),
            ("jwt.audiences", jwt.map_or(0, |jwt| jwt.audiences.len()), MAX_ITEMS),
            ("jwt.claimsToHeaders", jwt.map_or(0, |jwt| jwt.claims_to_headers.len()), MAX_ITEMS),
        ];
        for (field, entries, most) in lists.into_iter().filter(|(_, entries, most)| entries > most) {
            fault(format!(".{field}"), format!("{entries} entries: at most {most}"));
        }
        for (i, path) in self.exempt_paths.iter().enumerate().filter(|(_, path)| !is_path(path)) {
            fault(format!(".exemptPaths[{i}]"), format!("{path:?} is no path without a query, as /healthz"));
        }
        faults.extend(self.external.iter().flat_map(|external| external.check(&format!("{at}.external"))));
        for (i, rule) in self.rules.iter().enumerate() {
            faults.extend(rule.check(&format!("{at}.rules[{i}]")));
        }
        faults
    }
}

/// A text between quotation marks, RFC 9110 5.6.4, that needs no escapes.
fn is_realm(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    (1..=MAX_REALM).contains(&text.len()) && text.bytes().all(plain)
}

impl RuleSpec {
    fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault =
            |field: String, message: String| faults.push(Fault::new(format!("{at}.{field}"), message));
        let lists = [
            ("methods", self.methods.len()),
            ("pathPrefixes", self.path_prefixes.len()),
            ("claims", self.claims.len()),
        ];
        for (field, entries) in lists.into_iter().filter(|(_, entries)| *entries > MAX_ITEMS) {
            fault(field.to_owned(), format!("{entries} entries: at most {MAX_ITEMS}"));
        }
        let is_method = |method: &String| {
            (1..=24).contains(&method.len())
                && method.starts_with(|first: char| first.is_ascii_uppercase())
                && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        };
        for (i, method) in self.methods.iter().enumerate().filter(|(_, method)| !is_method(method)) {
            fault(format!("methods[{i}]"), format!("{method:?} is no method, as GET"));
        }
        for (i, path) in self.path_prefixes.iter().enumerate().filter(|(_, path)| !is_path(path)) {
            fault(format!("pathPrefixes[{i}]"), format!("{path:?} is no path without a query, as /api"));
        }
        for (i, ClaimSpec { claim, values }) in self.claims.iter().enumerate() {
            if !(1..=MAX_TEXT).contains(&claim.len()) {
                fault(format!("claims[{i}].claim"), "it takes the name of a claim, as role".to_owned());
            }
            if !(1..=MAX_ITEMS).contains(&values.len()) {
                fault(
                    format!("claims[{i}].values"),
                    format!("{} entries: it takes 1 to {MAX_ITEMS}", values.len()),
                );
            }
        }
        faults
    }
}
