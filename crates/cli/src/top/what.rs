//! What the user names, and what of it there is.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::cluster::encode;
use crate::error::Hinted;
use crate::output::str_at;
use crate::target::kind_called;

/// Services named in a hint.
const MOST_NAMED: usize = 6;

/// `api`, `shop`, `svc/api`, `deploy/api`, `shop/api` or `ns/shop`. Only the services that there are can tell which it is: a
/// namespace may be called `job`, and a service like its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct What {
    /// A kind or a namespace.
    before: Option<String>,
    name: String,
}

/// What is shown of what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    All,
    Namespace(String),
    /// The pods of a service, by its namespace and name.
    Service(String, String),
}

impl FromStr for What {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (before, name) = text.split_once('/').map_or((None, text), |(before, name)| (Some(before), name));
        if before == Some("") || name.is_empty() || name.contains('/') {
            return Err(
                "it is ns/shop for a namespace, and api, deploy/api, svc/api or shop/api for a service",
            );
        }
        Ok(Self { before: before.map(str::to_owned), name: name.to_owned() })
    }
}

impl What {
    /// All of a namespace.
    pub(super) fn namespace(name: &str) -> Self {
        Self { before: Some("ns".to_owned()), name: name.to_owned() }
    }

    /// Finds it in what the collector tells of the mesh, in a namespace or in all.
    pub(super) fn find(&self, mesh: &Value, namespace: Option<&str>) -> Result<Shown, Hinted> {
        let all = mesh["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let place = |service: &Value| str_at(service, "/namespace").to_owned();
        let within = |service: &&Value| namespace.is_none_or(|namespace| place(service) == namespace);
        let named = all.iter().filter(within).filter(|service| self.is_service(service));
        let named = named.map(|service| Shown::Service(place(service), self.name.clone()));
        let is_there =
            self.may_be_namespace() && all.iter().filter(within).any(|service| place(service) == self.name);
        let mut found: Vec<_> = named.chain(is_there.then(|| Shown::Namespace(self.name.clone()))).collect();
        match (found.pop(), found.as_slice()) {
            (Some(shown), []) => Ok(shown),
            (None, _) => Err(self.missing(all, namespace)),
            (Some(last), others) => {
                let either: Vec<_> = others.iter().chain([&last]).map(Shown::to_string).collect();
                Err(Hinted::new(format!("{self} may be {}", either.join(" or ")), "name one of them"))
            }
        }
    }

    fn kind(&self) -> Option<&'static str> {
        self.before.as_deref().and_then(kind_called)
    }

    fn may_be_namespace(&self) -> bool {
        self.before.is_none() || self.kind() == Some("Namespace")
    }

    fn is_service(&self, service: &Value) -> bool {
        let by_kind = self.kind().is_some_and(|kind| kind == "Service" || kind == str_at(service, "/kind"));
        let by_namespace = self.before.as_deref() == Some(str_at(service, "/namespace"));
        str_at(service, "/name") == self.name && (self.before.is_none() || by_kind || by_namespace)
    }

    /// With what there is, namesakes first.
    fn missing(&self, all: &[Value], namespace: Option<&str>) -> Hinted {
        let within = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
        let message = format!("there is no {self}{within} with injected pods");
        if all.is_empty() {
            return Hinted::new(message, "there are none at all: outrigger check says what is missed");
        }
        let mut services: Vec<_> = all.iter().collect();
        services.sort_by_key(|service| {
            let is_like = |pointer| str_at(service, pointer) == self.name;
            !(is_like("/name") || is_like("/namespace"))
        });
        let named =
            |service: &&Value| format!("{}/{}", str_at(service, "/namespace"), str_at(service, "/name"));
        let named: Vec<_> = services.iter().take(MOST_NAMED).map(named).collect();
        let more = if services.len() > MOST_NAMED { ", ...: outrigger top lists all" } else { "" };
        Hinted::new(message, format!("there are {}{more}", named.join(", ")))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.before {
            Some(before) => write!(f, "{before}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Shown {
    /// Where the collector tells it.
    pub(super) fn path(&self) -> String {
        match self {
            Self::All | Self::Namespace(_) => "mesh".to_owned(),
            Self::Service(namespace, name) => format!("services/{}/{}", encode(namespace), encode(name)),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("service"),
            Self::Namespace(name) => write!(f, "ns/{name}"),
            Self::Service(namespace, name) => write!(f, "{namespace}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(text: &str, namespace: Option<&str>) -> Result<String, String> {
        let service = |namespace: &str, name: &str, kind: &str| json!({"namespace": namespace, "name": name, "kind": kind});
        let mesh = json!({"services": [
            service("shop", "api", "Deployment"), service("shop", "db", "StatefulSet"), service("shop", "shop", "Deployment"),
            service("prod", "api", "Deployment"), service("job", "night", "Job"), service("job", "day", "Deployment"),
        ]});
        let what: What = text.parse().unwrap();
        what.find(&mesh, namespace).map(|shown| shown.to_string()).map_err(|error| error.to_string())
    }

    /// `deploy/api` was once a namespace that is not there.
    #[test]
    fn services_are_named_as_for_kubectl_and_by_namespace() {
        for (text, namespace, wanted) in [
            ("db", None, "shop/db"),
            ("sts/db", None, "shop/db"),
            ("svc/db", None, "shop/db"),
            ("deployment.apps/api", Some("prod"), "prod/api"),
            ("shop/api", None, "shop/api"),
            ("deploy/shop", None, "shop/shop"),
            ("ns/shop", None, "ns/shop"),
            ("prod", None, "ns/prod"),
            ("job/night", None, "job/night"),
            ("job/day", None, "job/day"),
        ] {
            assert_eq!(found(text, namespace), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_or_may_be_two_things_is_told() {
        for (text, namespace, wanted) in [
            ("deploy/api", None, "deploy/api may be shop/api or prod/api"),
            ("shop", None, "shop may be shop/shop or ns/shop"),
            ("sts/api", None, "there is no sts/api with injected pods"),
            ("svc/db", Some("prod"), "there is no svc/db in namespace prod with injected pods"),
            ("ns/nope", None, "there is no ns/nope with injected pods"),
            ("shop/a b", None, "there is no shop/a b with injected pods"),
        ] {
            assert_eq!(found(text, namespace), Err(wanted.to_owned()), "{text}");
        }
        for wrong in ["ns/", "/api", "", "a/b/c"] {
            assert!(wrong.parse::<What>().is_err(), "{wrong}");
        }
    }
}
