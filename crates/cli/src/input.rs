//! Manifests as input: their workloads, and what they say about namespaces and profiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outrigger_api::names::{ENABLED, INJECT_LABEL, PREFIX};
use outrigger_inject::manifest::{namespaces, objects};
use outrigger_inject::{Namespace, Profiles};
use serde_json::Value;

use crate::document::Documents;
use crate::error::Hinted;
use crate::files;
use crate::output::str_at;

/// The one version of `SidecarProfile` there is.
const API_VERSION: &str = "outrigger.dev/v1alpha1";

/// Files, as they were read.
pub(crate) struct Input {
    /// In the order of the command line.
    pub(crate) files: Vec<Documents>,
    /// The namespaces that the files describe, by name.
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    /// The profiles among the objects.
    pub(crate) profiles: Vec<Profile>,
}

/// A profile, and the file that it is from.
pub(crate) struct Profile {
    namespace: String,
    name: String,
    spec: Value,
    file: String,
}

impl Input {
    /// Reads files of manifests. Objects that name no namespace are taken to be of `namespace`.
    pub(crate) fn read(paths: &[PathBuf], namespace: &str) -> anyhow::Result<Self> {
        let mut input = Self { files: Vec::new(), namespaces: BTreeMap::new(), profiles: Vec::new() };
        for path in paths {
            let file = files::read(path)?;
            for object in file.documents.iter().flat_map(objects) {
                refuse_values_that_are_no_text(path, object)?;
                if object["kind"] == "SidecarProfile"
                    && str_at(object, "/apiVersion").starts_with("outrigger.dev/")
                {
                    input.profiles.push(Profile::new(path, object, namespace)?);
                }
            }
            let described = file.documents.iter().flat_map(namespaces);
            input.namespaces.extend(described.map(|namespace| (namespace.name.clone(), namespace)));
            input.files.push(file);
        }
        Ok(input)
    }

    /// The namespace as the input describes it, or only its name.
    pub(crate) fn namespace(&self, name: &str) -> Namespace {
        let unknown = || Namespace { name: name.to_owned(), ..Namespace::default() };
        self.namespaces.get(name).cloned().unwrap_or_else(unknown)
    }
}

/// Opted in, unless it says otherwise.
pub(crate) fn opted_in(mut namespace: Namespace) -> Namespace {
    namespace.labels.entry(INJECT_LABEL.to_owned()).or_insert_with(|| ENABLED.to_owned());
    namespace
}

impl Profile {
    /// Reads a file that holds profiles and nothing else. Those that name no namespace are taken to be of `namespace`.
    pub(crate) fn read_file(path: &Path, namespace: &str) -> anyhow::Result<Vec<Self>> {
        let file = files::read(path)?;
        let profiles = file.documents.iter().flat_map(objects).map(|object| {
            if object["kind"] == "SidecarProfile" {
                return Self::new(path, object, namespace);
            }
            let message =
                format!("{} holds a {}, and no SidecarProfile", files::name(path), str_at(object, "/kind"));
            Err(Hinted::new(message, "workloads, and namespaces, go into a file of --filename"))
        });
        Ok(profiles.collect::<Result<_, _>>()?)
    }

    fn new(path: &Path, object: &Value, namespace: &str) -> Result<Self, Hinted> {
        let (name, api_version) = (str_at(object, "/metadata/name"), str_at(object, "/apiVersion"));
        if name.is_empty() {
            let message = format!("{}: a SidecarProfile has no name", files::name(path));
            return Err(Hinted::new(message, "give it one: metadata: {name: web}"));
        }
        if api_version != API_VERSION {
            let message =
                format!("{}: SidecarProfile {name} has apiVersion {api_version:?}", files::name(path));
            return Err(Hinted::new(message, format!("this version knows apiVersion: {API_VERSION}")));
        }
        let own = str_at(object, "/metadata/namespace");
        Ok(Self {
            namespace: if own.is_empty() { namespace } else { own }.to_owned(),
            name: name.to_owned(),
            spec: object["spec"].clone(),
            file: files::name(path),
        })
    }
}

/// Puts the profiles among those that pods can name. Two of one name and namespace are an error: which of them a cluster
/// would hold depends on what is applied last.
pub(crate) fn add_profiles(all: &mut Profiles, found: &[Profile]) -> Result<(), Hinted> {
    let mut seen = BTreeMap::new();
    for profile in found {
        let Profile { namespace, name, spec, file } = profile;
        if let Some(other) = seen.insert((namespace, name), file) {
            let place =
                if other == file { format!("in {file}") } else { format!("in {other} and in {file}") };
            let message = format!("SidecarProfile {namespace}/{name} is given twice, {place}");
            return Err(Hinted::new(
                message,
                "leave one of them out, or give each its own name or namespace",
            ));
        }
        all.set(namespace, name, spec);
    }
    Ok(())
}

/// A label `outrigger.dev/inject: true` of a Namespace: the API server takes no such manifest, and to pass it over here
/// would be to guess what was meant. Those of pods `inject` tells by itself.
fn refuse_values_that_are_no_text(path: &Path, object: &Value) -> Result<(), Hinted> {
    if object["kind"] != "Namespace" || object["apiVersion"] != "v1" {
        return Ok(());
    }
    for map in ["labels", "annotations"] {
        for (key, value) in object["metadata"][map].as_object().into_iter().flatten() {
            if key.starts_with(PREFIX) && !value.is_string() {
                let name = str_at(object, "/metadata/name");
                let message = format!(
                    "{}: Namespace {name}: metadata.{map} {key}: {value} is no text",
                    files::name(path)
                );
                return Err(Hinted::new(
                    message,
                    format!("put it in quotes; {INJECT_LABEL} takes enabled or disabled"),
                ));
            }
        }
    }
    Ok(())
}
