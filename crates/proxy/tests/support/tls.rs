//! Authorities, Secrets and clients of TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::open;

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key, in PEM.
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate with this common name, made out to it too.
    pub fn sign(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }
}

/// A directory of Secrets as the kubelet mounts them, removed with the test.
pub struct Secrets(pub PathBuf);

impl Secrets {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("outrigger-secrets-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Puts these files in a Secret's place, all at once: a link to a directory of them is replaced.
    pub fn write(&self, secret: &str, files: &[(&str, &str)]) {
        let directory = self.0.join(secret);
        std::fs::create_dir_all(&directory).unwrap();
        let version =
            (0..1000).map(|n| directory.join(format!("..{n}"))).find(|path| !path.exists()).unwrap();
        std::fs::create_dir(&version).unwrap();
        for (file, content) in files {
            std::fs::write(version.join(file), content).unwrap();
        }
        let data = directory.join("..data");
        let new = directory.join("..data_tmp");
        std::os::unix::fs::symlink(&version, &new).unwrap();
        std::fs::rename(&new, &data).unwrap();
        for (file, _) in files {
            let _ = std::os::unix::fs::symlink(Path::new("..data").join(file), directory.join(file));
        }
    }

    pub fn write_pair(&self, secret: &str, pair: &Pair) {
        self.write(secret, &[("tls.crt", &pair.chain), ("tls.key", &pair.key)]);
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A client that trusts this authority.
pub struct Trust {
    pub config: ClientConfig,
}

impl Trust {
    pub fn of(authority: &Authority) -> Self {
        Self::with(authority, None, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// With a certificate of its own, and these versions.
    pub fn with(
        authority: &Authority,
        shows: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        use rustls::pki_types::pem::PemObject;
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { config }
    }

    pub fn protocols(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Connects to the proxy as to the host of this name.
    pub fn connect(&self, port: u16, name: &str) -> Client {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        Client(StreamOwned::new(session, open(port)))
    }
}

/// A client's connection. The handshake is made with the first byte.
pub struct Client(pub StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// The answer to a request, head and body by its Content-Length. An error where there is none.
    pub fn try_get(&mut self, path: &str, headers: &str) -> std::io::Result<String> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{headers}\r\n").as_bytes())?;
        let mut answer = String::new();
        while !answer.contains("\r\n\r\n") {
            self.read_more(&mut answer)?;
        }
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let whole = head.len() + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
        while answer.len() < whole {
            self.read_more(&mut answer)?;
        }
        Ok(answer)
    }

    pub fn get(&mut self, path: &str) -> String {
        self.try_get(path, "").unwrap()
    }

    fn read_more(&mut self, answer: &mut String) -> std::io::Result<()> {
        let mut piece = [0; 4096];
        match self.0.read(&mut piece)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => {
                answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
                Ok(())
            }
        }
    }

    /// The certificate that the server has shown.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone()
    }
}
