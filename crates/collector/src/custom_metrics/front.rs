//! Who asks: an API server, known by its certificate, in the name of a user that it has authenticated and names in headers.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

/// Where API servers say how they are to be known. Every aggregated API reads it.
pub(crate) const CONFIG_MAP: &str =
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

/// How API servers are known, and in which headers they name users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// The authority of their certificates, as PEM.
    pub(crate) authority: String,
    /// Common names of their certificates; empty for any.
    names: Vec<String>,
    user: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

/// A user, as the API server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    /// Its name.
    pub(crate) user: String,
    /// Its groups.
    pub(crate) groups: Vec<String>,
    /// What the authenticator said beside.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl Front {
    /// From the `ConfigMap`; none where the cluster has no aggregation layer.
    pub(crate) fn parse(config_map: &Value) -> Option<Self> {
        let data = &config_map["data"];
        let list = |key: &str| serde_json::from_str(data[key].as_str().unwrap_or("[]")).unwrap_or_default();
        let authority = data["requestheader-client-ca-file"].as_str()?.to_owned();
        Some(Self {
            authority,
            names: list("requestheader-allowed-names"),
            user: list("requestheader-username-headers"),
            group: list("requestheader-group-headers"),
            extra: list("requestheader-extra-headers-prefix"),
        })
    }

    /// Whether a certificate that the authority has signed is an API server's.
    pub(crate) fn is_api_server(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
        let mut names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        self.names.is_empty() || names.any(|name| self.names.iter().any(|allowed| allowed == name))
    }

    /// Whom it asks for; none without a name.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let values = |name: &String| {
            let values = headers.get_all(name.to_lowercase());
            values.into_iter().filter_map(|value| value.to_str().ok().map(str::to_owned))
        };
        let mut extra = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in headers {
            let key = self.extra.iter().find_map(|prefix| name.as_str().strip_prefix(&prefix.to_lowercase()));
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        let user = self.user.iter().flat_map(values).find(|user| !user.is_empty())?;
        Some(Caller { user, groups: self.group.iter().flat_map(values).collect(), extra })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    /// As kubeadm writes it.
    fn front() -> Front {
        let config_map = json!({"data": {
            "requestheader-client-ca-file": "pem",
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        }});
        Front::parse(&config_map).unwrap()
    }

    fn certificate(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn an_api_server_is_known_by_its_name_and_a_user_by_headers() {
        assert!(front().is_api_server(&certificate("front-proxy-client")));
        // The authority may have signed others.
        assert!(!front().is_api_server(&certificate("kubelet")));
        let mut headers = HeaderMap::new();
        assert_eq!(front().caller(&headers), None);
        for (name, value) in [
            ("x-remote-user", "hpa"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-uid", "7"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let caller = front().caller(&headers).unwrap();
        assert_eq!((caller.user.as_str(), caller.groups.len(), &caller.extra["uid"][0][..]), ("hpa", 2, "7"));
    }

    #[test]
    fn a_cluster_without_an_aggregation_layer_has_no_front() {
        assert_eq!(Front::parse(&json!({"data": {"client-ca-file": "pem"}})), None);
    }
}
