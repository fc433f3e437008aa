//! A repository over https, from a server whose certificate is of a CA of one's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::sync::Arc;

use outrigger_sync::source::{Secret, Session};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use support::http::Server;
use support::{Directory, Repository};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// What a server of this name serves with.
    fn serve_as(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = key.serialize_der().try_into().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

#[test]
fn a_server_is_trusted_by_the_ca_of_the_secret_under_its_own_name_and_no_other() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let (ours, other) = (Authority::new(), Authority::new());
    let secret = directory.0.join("secret");
    fs::create_dir(&secret).unwrap();
    let names = |server: &Server| {
        let url = format!("{}/repository/.git", server.url);
        let mut session = Session::open(&url, &Secret::at("site", &secret))?;
        session.references("refs/tags/").map(|tags| tags.into_iter().map(|tag| tag.name).collect::<Vec<_>>())
    };
    let server = Server::start_tls(&directory.0, ours.serve_as("localhost"));
    let refused = |server: &Server| {
        let error = names(server).unwrap_err();
        assert_eq!(error.reason(), outrigger_sync::failure::Reason::Denied, "{error}");
        error.to_string()
    };
    assert!(refused(&server).contains("UnknownIssuer"), "public CAs do not know it");
    fs::write(secret.join("ca.crt"), &other.pem).unwrap();
    assert!(refused(&server).contains("invalid peer certificate"));
    fs::write(secret.join("ca.crt"), &ours.pem).unwrap();
    assert_eq!(names(&server).unwrap(), ["v1"]);
    let of_another_name = Server::start_tls(&directory.0, ours.serve_as("git.example.com"));
    assert!(refused(&of_another_name).contains("not valid for name"));
    fs::write(secret.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(names(&server).is_err(), "a broken one is not left out");
}

/// It was told as a server whose answer is broken. The name is one that nobody can have, RFC 6761 6.4.
#[test]
fn a_name_that_nobody_has_is_a_server_that_is_not_reached() {
    let secret = Directory::new();
    let url = "http://git.invalid/site.git";
    let error = Session::open(url, &Secret::at("site", &secret.0)).err().unwrap();
    assert_eq!(error.reason(), outrigger_sync::failure::Reason::Unreachable, "{error}");
}
