//! TLS on a port that is taken over: what users write. Keys and certificates stay in Secrets of the pod's namespace.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::names::{is_header_name, is_subdomain};
#[cfg(feature = "crd")]
use crate::schema::{header_name_rule, object_name, subdomains_rule, without_default};

/// The most further certificates of one port.
pub const MAX_CERTIFICATES: usize = 8;

/// Clients speak TLS to the proxy, and the proxy speaks plainly to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["secretName"]))
)]
pub struct TlsSpec {
    /// The Secret with the certificate: its chain in `tls.crt`, its key in `tls.key`, as Secrets of type `kubernetes.io/tls`
    /// have them. Of the pod's namespace. A changed Secret is taken up as it comes.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub secret_name: String,
    /// Secrets with further certificates: a client that asks for a name (SNI) gets the first one made out to it, else that of
    /// `secretName`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_CERTIFICATES),
            inner(length(max = 253)),
            extend("x-kubernetes-validations" = [subdomains_rule()])
        )
    )]
    pub more_secret_names: Vec<String>,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// What a client gets that speaks plain HTTP.
    pub plain_http: PlainHttp,
    /// Certificates of clients. Default: none are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "ClientCertificates"))]
    pub client_certificates: Option<ClientCertificates>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum TlsVersion {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// What a client gets that speaks plain HTTP to a port of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum PlainHttp {
    /// A 400 that says so.
    #[default]
    Refuse,
    /// A 308 to the same place with `https`, on the port of the request's `Host`.
    Redirect,
}

/// Certificates that clients show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["secretName"]))
)]
pub struct ClientCertificates {
    /// The Secret with the authorities that sign them: `ca.crt`.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub secret_name: String,
    /// Whether a client may come without one.
    pub mode: ClientCertificateMode,
    /// The request header that tells the app the certificate's subject, as in RFC 4514. What clients send in a header of that name
    /// never reaches the app. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(with = "String", length(max = 64), extend("x-kubernetes-validations" = [header_name_rule()]))
    )]
    pub subject_header: Option<String>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub enum ClientCertificateMode {
    /// Without one there is no connection.
    #[default]
    Required,
    /// Without one there is; a bad one is refused.
    Optional,
}

impl TlsSpec {
    /// The faults of a port's TLS that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let further = self
            .more_secret_names
            .iter()
            .enumerate()
            .map(|(i, name)| (format!("moreSecretNames[{i}]"), name));
        let of_clients = self.client_certificates.as_ref();
        let authorities =
            of_clients.map(|clients| ("clientCertificates.secretName".to_owned(), &clients.secret_name));
        let first = ("secretName".to_owned(), &self.secret_name);
        for (field, name) in [first].into_iter().chain(further).chain(authorities) {
            if !is_subdomain(name) {
                let message = format!("{name:?} is no name of a Secret: at most 253 of a-z, 0-9, - and .");
                faults.push(Fault::new(format!("{at}.{field}"), message));
            }
        }
        if self.more_secret_names.len() > MAX_CERTIFICATES {
            let message = format!("{} entries: at most {MAX_CERTIFICATES}", self.more_secret_names.len());
            faults.push(Fault::new(format!("{at}.moreSecretNames"), message));
        }
        let header = of_clients.and_then(|clients| clients.subject_header.as_deref());
        if let Some(header) = header.filter(|header| !is_header_name(header)) {
            faults.push(Fault::new(
                format!("{at}.clientCertificates.subjectHeader"),
                crate::names::header_name_fault(header),
            ));
        }
        faults
    }

    /// The Secrets that it takes.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let authorities = self.client_certificates.iter().map(|clients| clients.secret_name.as_str());
        [self.secret_name.as_str()]
            .into_iter()
            .chain(self.more_secret_names.iter().map(String::as_str))
            .chain(authorities)
    }
}
