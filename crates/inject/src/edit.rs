//! A patch in the making, on a pod that is not touched.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Value, json};

use crate::pod::Pod;

/// Collects operations. Lists and maps that are missing are added first and remembered (an `add` into an absent list
/// fails: amazon-eks-pod-identity-webhook#17).
pub(crate) struct Edit<'a> {
    pod: Pod<'a>,
    operations: Vec<PatchOperation>,
    /// What was not there before.
    pub(crate) created: Vec<String>,
    /// What was null before.
    pub(crate) nulls: Vec<String>,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(pod: Pod<'a>) -> Self {
        let mut edit = Self { pod, operations: Vec::new(), created: Vec::new(), nulls: Vec::new() };
        edit.ensure("/metadata", json!({}));
        edit
    }

    pub(crate) fn finish(self) -> Patch {
        Patch(self.operations)
    }

    /// Adds an item at the end of a list.
    pub(crate) fn append(&mut self, list: &str, item: Value) {
        self.ensure(list, json!([]));
        self.add(&format!("{list}/-"), item);
    }

    /// Adds an item to a list, at a place that it has or at its end.
    pub(crate) fn insert_item(&mut self, list: &str, index: usize, item: Value) {
        self.ensure(list, json!([]));
        self.add(&format!("{list}/{index}"), item);
    }

    /// Sets one key of a map and leaves the others.
    pub(crate) fn insert(&mut self, map: &str, key: &str, value: Value) {
        self.ensure(map, json!({}));
        self.add(&format!("{map}/{}", escape(key)), value);
    }

    /// Removes a field that is there.
    pub(crate) fn remove(&mut self, path: &str) {
        self.operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
    }

    /// Replaces a field that is there.
    pub(crate) fn replace(&mut self, path: &str, value: Value) {
        self.operations.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
    }

    fn ensure(&mut self, path: &str, empty: Value) {
        let seen = |paths: &[String]| paths.iter().any(|seen| seen == path);
        if seen(&self.created) || seen(&self.nulls) {
            return;
        }
        match self.pod.at(path) {
            None => self.created.push(path.to_owned()),
            Some(Value::Null) => self.nulls.push(path.to_owned()),
            Some(_) => return,
        }
        self.add(path, empty);
    }

    /// Adds a field, or replaces it; its parent is there.
    pub(crate) fn add(&mut self, path: &str, value: Value) {
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }
}

/// A key as it stands in a JSON pointer: `/` is written `~1` (RFC 6901 section 3).
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

pub(crate) fn pointer(path: &str) -> PointerBuf {
    PointerBuf::parse(path).expect("paths are made of field names, indices and escaped keys")
}
