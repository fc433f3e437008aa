//! A repository over ssh, from OpenSSH's own server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outrigger_sync::source::{Secret, Session};
use support::{Directory, Repository};

/// A server that lets one key in, killed with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// `more`: further lines of its configuration.
    fn start(directory: &Path, host_key: &Path, allowed: &Path, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n{more}",
            host_key.display(),
            allowed.display()
        );
        let file = directory.join("sshd_config");
        fs::write(&file, config).unwrap();
        // For root alone, who gives up rights there.
        let _ = fs::create_dir_all("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_mins(2);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen");
            std::thread::yield_now();
        }
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(directory: &Path, name: &str, kind: &str) -> PathBuf {
    let path = directory.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&path).status();
    assert!(made.unwrap().success());
    path
}

#[test]
fn a_repository_is_read_by_key_from_a_server_that_is_known() {
    let directory = Directory::new();
    let mut repository = Repository::new(&directory.0, "sha1");
    repository.tag("v1", &[("index.html", "one")]);
    let host_key = key(&directory.0, "host", "ed25519");
    let (ours, other) = (key(&directory.0, "ours", "ecdsa"), key(&directory.0, "other", "ed25519"));
    let server = Server::start(&directory.0, &host_key, &ours.with_extension("pub"), "");
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), server.port, repository.path.display());
    let secret = directory.0.join("secret");
    fs::create_dir(&secret).unwrap();
    let put = |name: &str, text: &str| fs::write(secret.join(name), text).unwrap();
    let known = |key: &Path| {
        let key = fs::read_to_string(key.with_extension("pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", server.port)
    };
    let open = || Session::open(&url, &Secret::at("site", &secret)).map_err(|error| error.to_string());

    assert!(open().err().unwrap().contains("has no usable ssh-privatekey"));
    put("ssh-privatekey", &fs::read_to_string(&ours).unwrap());
    put("known_hosts", &known(&other));
    assert!(open().err().unwrap().contains("is not in known_hosts"));
    put("known_hosts", &known(&host_key));
    let mut session = open().unwrap_or_else(|error| panic!("{error}"));
    let references = session.references("refs/tags/v").unwrap();
    assert_eq!(references.len(), 1);
    let limits = outrigger_api::sync::SyncLimits::default();
    let objects =
        session.fetch(&[references[0].object], true, &directory.0.join("objects"), &limits).unwrap();
    let tree = directory.0.join("tree");
    fs::create_dir(&tree).unwrap();
    let budget = outrigger_sync::tree::Budget::new(&limits);
    outrigger_sync::checkout::checkout(&objects, references[0].commit, None, &tree, budget).unwrap();
    assert_eq!(fs::read_to_string(tree.join("index.html")).unwrap(), "one");
    put("ssh-privatekey", &fs::read_to_string(&other).unwrap());
    assert!(open().err().unwrap().contains("does not take ssh-privatekey"));
}

/// Nothing but the objects was counted.
#[test]
fn references_without_end_are_cut_off() {
    let directory = Directory::new();
    let (host_key, ours) = (key(&directory.0, "host", "ed25519"), key(&directory.0, "ours", "ed25519"));
    let (script, id) = (directory.0.join("endless"), "a".repeat(40));
    let first = format!("004f{id} refs/tags/v\\000side-band-64k shallow\\n");
    fs::write(&script, format!("#!/bin/sh\nprintf '{first}'\nexec yes '003a{id} refs/tags/v1'\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let forced = format!("ForceCommand {}\n", script.display());
    let server = Server::start(&directory.0, &host_key, &ours.with_extension("pub"), &forced);
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let url = format!("ssh://{}@127.0.0.1:{}/site.git", user.trim(), server.port);
    let secret = directory.0.join("secret");
    fs::create_dir(&secret).unwrap();
    fs::copy(&ours, secret.join("ssh-privatekey")).unwrap();
    let host_key = fs::read_to_string(host_key.with_extension("pub")).unwrap();
    fs::write(secret.join("known_hosts"), format!("[127.0.0.1]:{} {host_key}", server.port)).unwrap();
    let error = Session::open(&url, &Secret::at("site", &secret)).err().unwrap();
    assert!(error.to_string().contains("before a version is asked for"), "{error}");
}
