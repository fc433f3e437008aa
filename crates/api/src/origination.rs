//! TLS to whom the app calls: what users write. Certificates and keys stay in Secrets and `ConfigMaps` of the pod's namespace.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::names::is_subdomain;
#[cfg(feature = "crd")]
use crate::schema::{host_rule, object_name, rule, without_default};
use crate::tls::TlsVersion;
use crate::upstream::is_host;

/// The app speaks plainly to the proxy, and the proxy TLS to the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["ca"])))]
pub struct UpstreamTlsSpec {
    /// Who signs the upstream's certificate. A changed one is taken up as it comes.
    #[cfg_attr(feature = "crd", schemars(transform = without_default))]
    pub ca: AuthoritySpec,
    /// The certificate that the proxy shows. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "ClientCertificate"))]
    pub client_certificate: Option<ClientCertificate>,
    /// The name that the upstream's certificate must be made out to, and that is asked for (SNI). Default: the upstream's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "String",
            length(max = 253),
            extend("x-kubernetes-validations" = [host_rule()])
        )
    )]
    pub server_name: Option<String>,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
}

/// Authorities: `ca.crt` of a Secret or of a `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [rule(
        "has(self.secretName) != has(self.configMapName)",
        "it takes either secretName or configMapName",
    )]))
)]
pub struct AuthoritySpec {
    /// The Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name"))]
    pub secret_name: Option<String>,
    /// The `ConfigMap`, as trust-manager writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name"))]
    pub config_map_name: Option<String>,
}

/// A certificate that is shown to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema), schemars(extend("required" = ["secretName"])))]
pub struct ClientCertificate {
    /// The Secret with its chain in `tls.crt` and its key in `tls.key`. A changed one is taken up as it comes.
    #[cfg_attr(feature = "crd", schemars(schema_with = "object_name", transform = without_default))]
    pub secret_name: String,
}

impl UpstreamTlsSpec {
    /// The Secrets that it takes.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let shown = self.client_certificate.iter().map(|shown| shown.secret_name.as_str());
        shown.chain(self.ca.secret_name.as_deref())
    }

    /// The faults of an upstream's TLS that stands at `at`.
    pub(crate) fn check(&self, at: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let AuthoritySpec { secret_name, config_map_name } = &self.ca;
        if secret_name.is_some() == config_map_name.is_some() {
            faults.push(Fault::new(
                format!("{at}.ca"),
                "it takes either secretName or configMapName".to_owned(),
            ));
        }
        let shown = self.client_certificate.as_ref().map(|shown| &shown.secret_name);
        for (field, name) in [
            ("ca.secretName", secret_name.as_ref()),
            ("ca.configMapName", config_map_name.as_ref()),
            ("clientCertificate.secretName", shown),
        ] {
            if let Some(name) = name.filter(|name| !is_subdomain(name)) {
                let message = format!("{name:?} is no name of an object: at most 253 of a-z, 0-9, - and .");
                faults.push(Fault::new(format!("{at}.{field}"), message));
            }
        }
        if let Some(name) = self.server_name.as_deref().filter(|name| !is_host(name)) {
            let message = format!("{name:?} is neither a host name nor an address, as api.shop.svc");
            faults.push(Fault::new(format!("{at}.serverName"), message));
        }
        faults
    }
}
