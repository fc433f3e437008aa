//! Every fault of a document at once, each with the path of the field.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

/// One thing that is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as `spec.inbound[0].port`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Deserializes `value`, and on failure goes on without the faulty field, so that the user sees all faults and not
/// the first. Returns what could be read, with the faults, those of fields that no type knows last. Types in lists must have a default for
/// every field, so that an element without its faulty field is still an element.
///
/// A hand-written visitor for each type could do the same; this needs none and grows with the types by itself.
pub(crate) fn deserialize<T: DeserializeOwned + Default>(mut value: Value, root: &str) -> (T, Vec<Fault>) {
    let mut faults = Vec::new();
    loop {
        let mut unknown = Vec::new();
        let mut field = Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&value, &mut field);
        match serde_ignored::deserialize(tracked, |path| unknown.push(of_ignored(root, &path))) {
            Ok(parsed) => {
                faults.extend(unknown.into_iter().map(|path| Fault::new(path, "unknown field")));
                return (parsed, faults);
            }
            Err(error) => {
                let path = field.path();
                faults.push(Fault::new(dotted(root, &path), error.to_string()));
                if !remove(&mut value, &path) {
                    return (T::default(), faults);
                }
            }
        }
    }
}

fn dotted(root: &str, path: &Path) -> String {
    path.iter().fold(root.to_owned(), |dotted, segment| match segment {
        Segment::Seq { index } => format!("{dotted}[{index}]"),
        other => format!("{dotted}.{other}"),
    })
}

/// The same of a field that was ignored.
fn of_ignored(root: &str, path: &serde_ignored::Path) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => root.to_owned(),
        Path::Seq { parent, index } => format!("{}[{index}]", of_ignored(root, parent)),
        Path::Map { parent, key } => format!("{}.{key}", of_ignored(root, parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            of_ignored(root, parent)
        }
    }
}

/// Takes the field at `path` out; false if there is no such field, which ends the search. An element of a list becomes
/// `{}` instead, so that the later ones keep their index in the messages.
fn remove(value: &mut Value, path: &Path) -> bool {
    let segments: Vec<_> = path.iter().collect();
    let Some((field, parents)) = segments.split_last() else {
        return false;
    };
    let mut at = value;
    for segment in parents {
        let next = match segment {
            Segment::Seq { index } => at.get_mut(*index),
            Segment::Map { key } => at.get_mut(key),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    match (field, at) {
        (Segment::Map { key }, Value::Object(map)) => map.shift_remove(key).is_some(),
        (Segment::Seq { index }, Value::Array(list)) if *index < list.len() => {
            let empty = Value::Object(serde_json::Map::new());
            std::mem::replace(&mut list[*index], empty.clone()) != empty
        }
        _ => false,
    }
}
