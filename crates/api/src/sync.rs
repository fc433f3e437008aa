//! Hot plug: a tag of a git repository becomes files beside an app. What users write, and what the sidecar reads.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::logs::{is_below, is_mountable, is_needed};
use crate::names::{is_label, is_subdomain};
use crate::profile::MAX_PATH;
#[cfg(feature = "crd")]
use crate::schema::{
    container_rule, own_directory_rules, relative_path_rule, rule, subdomain_rule, without_default,
};
use crate::span::Span;
pub use crate::sync_limits::{MAX_BYTES, MAX_FILES, SyncLimits};
use crate::sync_path::{self, collide};

/// The most entries of a profile: each is a thread of the sidecar and a repository that is asked.
pub const MAX_SYNCS: usize = 8;
/// The most files of a fallback, and the most bytes of one: they stand in an annotation of each pod.
pub const MAX_FALLBACK_FILES: usize = 16;
/// See [`MAX_FALLBACK_FILES`].
pub const MAX_FALLBACK_BYTES: usize = 16 * 1024;
/// The most keys that may sign tags.
pub const MAX_SIGNERS: usize = 16;
/// The longest pattern of tags, in bytes.
pub const MAX_TAGS: usize = 128;
/// What an app can be sent. Those that end every program are what `restart` is for.
pub const SIGNALS: [&str; 4] = ["HUP", "USR1", "USR2", "WINCH"];

/// Files of one container that come from a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["container", "path", "git"]))
)]
pub struct SyncSpec {
    /// Name of the container.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = 63),
            transform = without_default,
            extend("x-kubernetes-validations" = [container_rule()])
        )
    )]
    pub container: String,
    /// Where the files are found, as that container sees them. They are mounted there, read-only, and hide what the image has in it.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            transform = without_default,
            extend("x-kubernetes-validations" = own_directory_rules())
        )
    )]
    pub path: String,
    /// Where they come from.
    #[cfg_attr(feature = "crd", schemars(transform = without_default))]
    pub git: GitSpec,
    /// How often the repository is asked, give or take a tenth; less often while it can't be reached. Default: 30s.
    pub interval: Span,
    /// What is done when a version has been put in place. Default: nothing, for apps that read their files anew by themselves.
    #[serde(skip_serializing_if = "OnChange::is_none")]
    pub on_change: OnChange,
    /// How long the app's readiness is watched after that. If its readiness probe fails in the last third of that time, as often in a
    /// row as its `failureThreshold` says, the version before is put back. Default: it is not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "Span"))]
    pub verify_for: Option<Span>,
    /// How much a version may be.
    pub limits: SyncLimits,
    /// Whether a version must bring a file `SHA256SUMS`. Where there is one, it must be right in any case. Default: false.
    pub require_checksums: bool,
    /// What the app starts with while no version could be had. Default: it waits for one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_FALLBACK_FILES),
            extend("x-kubernetes-validations" = [rule(
                "self.all(a, self.exists_one(b, (a.path + '/').startsWith(b.path + '/')))",
                "two files collide: they have one path, or one would have to be a directory for the other",
            )])
        )
    )]
    pub fallback: Vec<FallbackFile>,
}

/// A repository, and what of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend(
        "required" = ["url"],
        "x-kubernetes-validations" = [
            rule("has(self.tags) != has(self.branch)", "it takes either tags or a branch"),
            rule(
                "!has(self.secretName) || !self.url.startsWith('http:')",
                "a password would be sent in the clear: it takes https",
            ),
            rule("!has(self.signedBy) || !has(self.branch)", "only tags are signed: it takes tags"),
        ]
    ))
)]
pub struct GitSpec {
    /// `https://host/path`, `ssh://user@host/path`, `user@host:path`, `http://` without a password, or `file:///path` for tests.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            transform = without_default,
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^(https?://[^/@[:space:]]+/|ssh://[^/:[:space:]]+(:[0-9]+)?/|file:///|[^/:@[:space:]]+@[^/:[:space:]]+:)[^[:space:]]+$')",
                "it takes https://host/path, ssh://user@host/path or user@host:path, without a password",
            )])
        )
    )]
    pub url: String,
    /// Which tags: a range as `^1.2` or `>=1, <3` of versions, where it begins with `^`, `~`, `=`, `<` or `>`, otherwise a
    /// pattern as `v*`. The newest by version wins, or by date where no tag is a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "String", length(min = 1, max = MAX_TAGS)))]
    pub tags: Option<String>,
    /// Instead of tags: the branch whose newest commit is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "String", length(min = 1, max = MAX_TAGS)))]
    pub branch: Option<String>,
    /// The directory of the repository that is wanted. Default: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "String",
            length(max = MAX_PATH),
            extend("x-kubernetes-validations" = [relative_path_rule()])
        )
    )]
    pub directory: Option<String>,
    /// A Secret of the pod's namespace: `username` and `password`, or `ssh-privatekey` and `known_hosts`; and `ca.crt`, where
    /// the server's certificate is of a CA of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(with = "String", length(max = 253), extend("x-kubernetes-validations" = [subdomain_rule()]))
    )]
    pub secret_name: Option<String>,
    /// Whether a tag that now means another commit is followed. Default: false, it is refused.
    pub allow_moved_tags: bool,
    /// Public ssh keys, as in `authorized_keys`, one of which must have signed the tag. Default: nobody need sign.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_SIGNERS), inner(length(max = MAX_PATH))))]
    pub signed_by: Vec<String>,
}

/// How the app learns of a version. At most one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [rule(
        "(has(self.signal) ? 1 : 0) + (has(self.http) ? 1 : 0) + (has(self.restart) && self.restart ? 1 : 0) <= 1",
        "it takes one of signal, restart and http",
    )]))
)]
pub struct OnChange {
    /// The container's first process is sent this signal. The pod must have `shareProcessNamespace: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "crd",
        schemars(
            with = "String",
            length(max = 8),
            extend("x-kubernetes-validations" = [rule(
                "self in ['HUP', 'USR1', 'USR2', 'WINCH']",
                "it takes HUP, USR1, USR2 or WINCH",
            )])
        )
    )]
    pub signal: Option<String>,
    /// The container is restarted. The pod must have `shareProcessNamespace: true`. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// The app is sent a POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "crd", schemars(with = "HttpCall"))]
    pub http: Option<HttpCall>,
}

/// A request to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["port", "path"]))
)]
pub struct HttpCall {
    /// The app's own port, by its number.
    #[cfg_attr(feature = "crd", schemars(range(min = 1), transform = without_default))]
    pub port: u16,
    /// The path, as `/reload`.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            transform = without_default,
            extend("x-kubernetes-validations" = [rule(
                "self.matches('^/[!-~]*$')",
                "it takes a path, as /reload",
            )])
        )
    )]
    pub path: String,
}

/// A file of the fallback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("required" = ["path", "content"]))
)]
pub struct FallbackFile {
    /// Where it lies below the entry's path.
    #[cfg_attr(
        feature = "crd",
        schemars(
            length(max = MAX_PATH),
            transform = without_default,
            extend("x-kubernetes-validations" = [
                relative_path_rule(),
                rule(
                    "!self.matches('^[.][.]|[[:cntrl:]]|(^|/)[.][gG][iI][tT](/|$)')",
                    "no file can be there: it takes a path as index.html",
                ),
            ])
        )
    )]
    pub path: String,
    /// What is in it.
    #[cfg_attr(feature = "crd", schemars(length(max = MAX_FALLBACK_BYTES), transform = without_default))]
    pub content: String,
}

/// One entry of the sidecar's config: a [`SyncSpec`] with what was decided at admission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncSource {
    /// The directory, as the sidecar sees it. Different for each entry.
    pub directory: String,
    /// What the user wrote.
    pub spec: SyncSpec,
    /// What tells whether the app is ready, where that is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadyCheck>,
}

/// The app's readiness probe, as far as the sidecar can ask it too. The numbers have Kubernetes' defaults.
///
/// <https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#configure-probes>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadyCheck {
    /// The app's own port.
    pub port: u16,
    /// The path of a GET. None: the port must take a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// From one question to the next.
    pub period_seconds: u32,
    /// How long an answer may take.
    pub timeout_seconds: u32,
    /// How many answers in a row must be missing or bad.
    pub failure_threshold: u32,
}

impl Default for ReadyCheck {
    fn default() -> Self {
        Self { port: 0, path: None, period_seconds: 10, timeout_seconds: 1, failure_threshold: 3 }
    }
}

impl Default for SyncSpec {
    fn default() -> Self {
        Self {
            container: String::new(),
            path: String::new(),
            git: GitSpec::default(),
            interval: "30s".parse().expect("the default interval is valid"),
            on_change: OnChange::default(),
            verify_for: None,
            limits: SyncLimits::default(),
            require_checksums: false,
            fallback: Vec::new(),
        }
    }
}

impl OnChange {
    /// Whether nothing is done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the app's process must be in reach.
    pub fn signals(&self) -> bool {
        self.restart || self.signal.is_some()
    }
}

impl SyncSpec {
    /// The faults of an entry that stands at `at`.
    pub fn check(&self, at: &str) -> Vec<Fault> {
        let faults = [self.faults_of_place(), self.git.faults(), self.faults_of_change()].concat();
        faults.into_iter().map(|(field, message)| Fault::new(format!("{at}.{field}"), message)).collect()
    }

    fn faults_of_place(&self) -> Vec<(&'static str, String)> {
        let Self { container, path, .. } = self;
        let mut faults = Vec::new();
        if !is_label(container) {
            let message = format!("{container:?} is no container name: at most 63 of a-z, 0-9 and -");
            faults.push(("container", message));
        }
        if !is_mountable(path) {
            let message = format!(
                "{path:?} can't be mounted on: it takes an absolute path without ':', '.' or '..', not \"/\", of at most \
                 {MAX_PATH} bytes"
            );
            faults.push(("path", message));
        }
        if is_needed(path) || is_below(path, "/var/run/secrets/kubernetes.io/serviceaccount") {
            let message = format!("{path:?} holds what the container needs: it takes a directory of its own");
            faults.push(("path", message));
        }
        faults
    }

    fn faults_of_change(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.interval.length().as_secs() < 1 {
            faults.push(("interval", format!("{} is too often: it takes 1s or more", self.interval)));
        }
        let OnChange { signal, restart, http } = &self.on_change;
        if usize::from(signal.is_some()) + usize::from(*restart) + usize::from(http.is_some()) > 1 {
            faults.push(("onChange", "it takes one of signal, restart and http".to_owned()));
        }
        if let Some(signal) = signal.as_ref().filter(|signal| !SIGNALS.contains(&signal.as_str())) {
            let message = format!("{signal:?} is not sent to apps: it takes {}", SIGNALS.join(", "));
            faults.push(("onChange.signal", message));
        }
        if let Some(HttpCall { port, path }) = http {
            if *port == 0 {
                faults.push(("onChange.http.port", "it takes a number from 1 to 65535".to_owned()));
            }
            let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_path || path.len() > MAX_PATH {
                faults.push(("onChange.http.path", format!("{path:?} is no path: it takes one as /reload")));
            }
        }
        faults.extend(self.limits.faults());
        if self.fallback.len() > MAX_FALLBACK_FILES {
            let message = format!("{} entries: at most {MAX_FALLBACK_FILES}", self.fallback.len());
            faults.push(("fallback", message));
        }
        for (at, FallbackFile { path, .. }) in self.fallback.iter().enumerate() {
            if sync_path::check(path).is_err() {
                let message = format!(
                    "{path:?} can't be below {}: it takes a path as index.html, without \"..\", \".git\" or control characters",
                    self.path
                );
                faults.push(("fallback", message));
            }
            for other in self.fallback[..at].iter().filter(|other| collide(path, &other.path)) {
                faults.push(("fallback", format!("{path:?} and {:?} can't both be there", other.path)));
            }
        }
        if self.fallback.iter().any(|file| file.content.len() > MAX_FALLBACK_BYTES) {
            faults.push((
                "fallback",
                format!("a file has more than {MAX_FALLBACK_BYTES} bytes: use a tag for it"),
            ));
        }
        faults
    }
}

impl GitSpec {
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if let Err(message) = check_url(&self.url) {
            faults.push(("git.url", message));
        }
        if self.tags.is_some() == self.branch.is_some() {
            faults.push(("git", "it takes either tags or a branch".to_owned()));
        }
        for (field, text) in [("git.tags", &self.tags), ("git.branch", &self.branch)] {
            let is_name =
                |text: &str| (1..=MAX_TAGS).contains(&text.len()) && !text.contains(char::is_control);
            if let Some(text) = text.as_deref().filter(|text| !is_name(text)) {
                faults.push((field, format!("{text:?} is no name: at most {MAX_TAGS} bytes on one line")));
            }
        }
        if let Some(text) = self.tags.as_deref().filter(|tags| is_range(tags))
            && let Err(error) = semver::VersionReq::parse(text)
        {
            faults.push(("git.tags", format!("{text:?} is no range of versions: {error}")));
        }
        if let Some(path) = self.directory.as_ref().filter(|path| !is_relative(path)) {
            let message = format!("{path:?} is no directory of a repository: it takes one as public");
            faults.push(("git.directory", message));
        }
        if let Some(name) = &self.secret_name {
            if !is_subdomain(name) {
                let message = format!("{name:?} is no name of a Secret: at most 253 of a-z, 0-9, - and .");
                faults.push(("git.secretName", message));
            }
            if self.url.starts_with("http:") {
                let message = "a password would be sent in the clear: it takes https".to_owned();
                faults.push(("git.url", message));
            }
        }
        if !self.signed_by.is_empty() && self.branch.is_some() {
            faults.push(("git.signedBy", "only tags are signed: it takes tags".to_owned()));
        }
        if self.signed_by.len() > MAX_SIGNERS {
            let message = format!("{} entries: at most {MAX_SIGNERS}", self.signed_by.len());
            faults.push(("git.signedBy", message));
        }
        for key in self.signed_by.iter().filter(|key| !is_public_key(key)) {
            let message =
                format!("{key:?} is no public key: it takes one as in authorized_keys, ssh-ed25519 or ecdsa");
            faults.push(("git.signedBy", message));
        }
        faults
    }
}

/// Whether tags are told by a range of versions, not by a pattern of their names.
pub fn is_range(tags: &str) -> bool {
    tags.starts_with(['^', '~', '=', '<', '>'])
}

fn check_url(url: &str) -> Result<(), String> {
    let wanted = "it takes https://host/path, ssh://user@host/path or user@host:path";
    let is_text = url.len() <= MAX_PATH && !url.contains(|c: char| c.is_whitespace() || c.is_control());
    let whole = match url.split_once("://") {
        Some(("file", path)) => path.starts_with('/') && path.len() > 1,
        Some((scheme @ ("http" | "https" | "ssh"), rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let user = host.rsplit_once('@').map(|(user, _)| user);
            if user.is_some_and(|user| scheme != "ssh" || user.contains(':')) {
                return Err(
                    "a name or password in a URL is there for all to read: it takes secretName".to_owned()
                );
            }
            if rest.contains(['?', '#']) {
                return Err(
                    "a query may be a credential, which is there for all to read: it takes secretName"
                        .to_owned(),
                );
            }
            !host.is_empty() && user != Some("") && !path.is_empty()
        }
        Some(_) => false,
        None => url.split_once(':').is_some_and(|(host, path)| {
            let named = host.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
            named && !host.contains('/') && !path.is_empty()
        }),
    };
    if whole && is_text { Ok(()) } else { Err(format!("{url:?} is no repository: {wanted}")) }
}

fn is_relative(path: &str) -> bool {
    path.len() <= MAX_PATH
        && !path.contains(char::is_control)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Only how it looks: whether it is a key of a curve that exists is found out where signatures are checked.
fn is_public_key(text: &str) -> bool {
    let mut parts = text.split_ascii_whitespace();
    let known = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    text.len() <= MAX_PATH
        && parts.next().is_some_and(|kind| known.contains(&kind))
        && parts.next().is_some_and(|key| key.len() > 40 && key.bytes().all(base64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SyncSpec {
        SyncSpec {
            container: "app".to_owned(),
            path: "/srv/www".to_owned(),
            git: GitSpec {
                url: "https://git.example.com/site.git".to_owned(),
                tags: Some("v*".to_owned()),
                ..GitSpec::default()
            },
            ..SyncSpec::default()
        }
    }

    #[test]
    fn every_fault_of_an_entry_is_listed() {
        assert_eq!(spec().check("x"), []);
        let wrong = SyncSpec {
            container: String::new(),
            path: "/etc".to_owned(),
            git: GitSpec {
                url: "http://host/a".to_owned(),
                tags: Some("^one".to_owned()),
                branch: Some("main".to_owned()),
                directory: Some("../up".to_owned()),
                secret_name: Some("A".to_owned()),
                signed_by: vec!["ssh-rsa AAAA".to_owned()],
                ..GitSpec::default()
            },
            interval: "10ms".parse().unwrap(),
            on_change: OnChange {
                signal: Some("KILL".to_owned()),
                restart: true,
                http: Some(HttpCall { port: 0, path: "reload".to_owned() }),
            },
            limits: SyncLimits { files: 0, ..SyncLimits::default() },
            fallback: vec![FallbackFile { path: "/a".to_owned(), content: String::new() }],
            ..SyncSpec::default()
        };
        let lines: Vec<_> = wrong.check("spec.sync[0]").iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    /// Some that can't be written were admitted, and ended the sidecar at its start.
    #[test]
    fn a_fallback_that_can_not_be_written_is_refused() {
        let faults = |paths: &[&str]| {
            let file = |path: &&str| FallbackFile { path: (*path).to_owned(), content: String::new() };
            SyncSpec { fallback: paths.iter().map(file).collect(), ..spec() }.check("x").len()
        };
        assert_eq!(faults(&["index.html", "a/b", "a/c", "ab"]), 0);
        for wrong in
            [&["a", "a/b"][..], &["a/b", "a"], &["a", "a"], &["..data/x"], &[".git/config"], &["a\tb"]]
        {
            assert_eq!(faults(wrong), 1, "{wrong:?}");
        }
    }

    #[test]
    fn urls_of_repositories() {
        for good in [
            "https://h/p",
            "http://h:80/p.git",
            "ssh://git@h:2222/p",
            "ssh://h/p",
            "git@h:p/q.git",
            "file:///p",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "h",
            "h/p",
            "https://",
            "https://h",
            "https://u@h/p",
            "https://u:p@h/p",
            "https://h/p?private_token=t",
            "https://h/p#t",
            "ssh://u:p@h/p",
            "git://h/p",
            "ext::sh -c x",
            "/p",
            "file://h",
            "@h:p",
            "u@:p",
            "https://h/a b",
            "-oProxy=x:p",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
