//! Manifests as text: YAML or JSON in, the same out.

use serde_json::Value;

/// What a file was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
}

/// The documents of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Documents {
    pub(crate) format: Format,
    pub(crate) documents: Vec<Value>,
}

/// Why a text holds no manifests. Names no file: the caller knows it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("{line}:{column}: {message}")]
    Syntax { line: u64, column: u64, message: String },
    #[error("document {0} is no Kubernetes object: it takes a map with apiVersion and kind")]
    NoObject(usize),
}

/// Reads every document; empty ones, as between two `---`, are left out.
pub(crate) fn parse(text: &str) -> Result<Documents, ParseError> {
    // A YAML flow map starts like JSON, and what is no JSON may still be that.
    let json = serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    if let Some(documents) = json.ok().filter(|documents| !documents.is_empty()) {
        return check(Documents { format: Format::Json, documents });
    }
    // As kubectl reads it: `defaultMode: 0644` is octal. No excerpt in errors: an editor jumps to file:line:column.
    // No budget either: it is there against strangers' input, and the Deployments of a large cluster exceed it.
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false, budget: None };
    let documents =
        serde_saphyr::from_multiple_with_options::<Value>(text, options).map_err(|error| syntax(&error))?;
    let documents = documents.into_iter().filter(|document| !document.is_null()).collect();
    check(Documents { format: Format::Yaml, documents })
}

fn check(mut documents: Documents) -> Result<Documents, ParseError> {
    documents.documents.iter_mut().for_each(name_items);
    let is_object = |document: &Value| document["apiVersion"].is_string() && document["kind"].is_string();
    match documents.documents.iter().position(|document| !is_object(document)) {
        Some(index) => Err(ParseError::NoObject(index + 1)),
        None => Ok(documents),
    }
}

/// The items of a `PodList` need not say what they are: as kubectl reads them, they are of the list's version and kind.
fn name_items(list: &mut Value) {
    let kind =
        list["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).unwrap_or_default().to_owned();
    let version = list["apiVersion"].clone();
    let items = list.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten().filter_map(Value::as_object_mut).filter(|_| !kind.is_empty()) {
        item.entry("kind").or_insert_with(|| kind.as_str().into());
        item.entry("apiVersion").or_insert_with(|| version.clone());
    }
}

fn syntax(error: &serde_saphyr::Error) -> ParseError {
    // A few errors, as of a text cut off, have no place; the start of the file is the best there is.
    let (line, column) = error.location().map_or((1, 1), |location| (location.line(), location.column()));
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    let message = message.trim_end_matches(&format!(" at line {line}, column {column}"));
    // The library goes on with advice to its own caller.
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message).to_owned();
    ParseError::Syntax { line, column, message }
}

impl Documents {
    /// Writes them in the format that they came in.
    pub(crate) fn to_text(&self) -> String {
        match self.format {
            Format::Json => {
                self.documents.iter().map(|document| format!("{document:#}\n")).collect::<Vec<_>>().concat()
            }
            Format::Yaml => self.documents.iter().map(yaml).collect::<Vec<_>>().join("---\n"),
        }
    }
}

/// One document as YAML.
pub(crate) fn yaml(document: &Value) -> String {
    let mut text = String::new();
    // Long strings stay on one line: the library would fold them, and the config annotation would be hard to read.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_fmt_writer_with_options(&mut text, document, options)
        .expect("JSON values have string keys only, which YAML can always hold");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read_yaml(text: &str) -> Value {
        parse(text).unwrap().documents.remove(0)
    }

    /// kubectl reads YAML as version 1.1 does, and the next reader of our output may be of either version.
    #[test]
    fn scalars_mean_what_they_mean_to_kubectl() {
        let read = read_yaml(
            "apiVersion: v1\nkind: X\nmode: 0644\nquoted: '0644'\nyes: 'yes'\nversion: '1.10'\nport: 8080\nratio: 0.5\ndate: 2026-11-21\n\
             clock: '12:30'\nempty: \ntilde: ~\ntruth: true\non: yes\nsha: '1e10'\n",
        );
        let wanted = json!({
            "apiVersion": "v1", "kind": "X", "mode": 420, "quoted": "0644", "yes": "yes", "version": "1.10", "port": 8080, "ratio": 0.5,
            "date": "2026-11-21", "clock": "12:30", "empty": null, "tilde": null, "truth": true, "on": true, "sha": "1e10"
        });
        assert_eq!(read, wanted);
        assert_eq!(read_yaml(&yaml(&read)), wanted);
    }

    #[test]
    fn anchors_block_texts_and_several_documents_are_read() {
        let text = "---\napiVersion: v1\nkind: A\nbase: &b {x: 1}\nmore: {<<: *b, y: 2}\n---\n# nothing\n---\napiVersion: v1\nkind: B\ntext: |\n  a\n  b\n";
        let read = parse(text).unwrap();
        assert_eq!(read.format, Format::Yaml);
        assert_eq!(
            read.documents,
            [
                json!({"apiVersion": "v1", "kind": "A", "base": {"x": 1}, "more": {"x": 1, "y": 2}}),
                json!({"apiVersion": "v1", "kind": "B", "text": "a\nb\n"})
            ]
        );
        assert_eq!(parse(&read.to_text()).unwrap(), read);
    }

    #[test]
    fn json_stays_json_and_keeps_its_order() {
        let read = parse(r#"{"kind":"Pod","apiVersion":"v1","a":[]}"#).unwrap();
        assert_eq!(read.format, Format::Json);
        assert_eq!(read.to_text(), "{\n  \"kind\": \"Pod\",\n  \"apiVersion\": \"v1\",\n  \"a\": []\n}\n");
    }

    /// Those of `kubectl get --raw /api/v1/pods` were taken for objects of no kind.
    #[test]
    fn items_of_a_typed_list_are_of_its_kind() {
        let read =
            parse(r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "web"}}]}"#)
                .unwrap();
        let item = json!({"metadata": {"name": "web"}, "kind": "Pod", "apiVersion": "v1"});
        assert_eq!(read.documents[0]["items"][0], item);
    }

    #[test]
    fn what_is_no_manifest_is_told_with_its_place() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("apiVersion: v1\nkind: Pod\nspec:\n  - a\n  b: [\n"));
        insta::assert_snapshot!(message("apiVersion: v1\nkind: Pod\n---\njust words\n"), @"document 2 is no Kubernetes object: it takes a map with apiVersion and kind");
    }

    /// What kubectl takes: `kubectl get -o json` twice, one behind the other.
    #[test]
    fn several_json_documents_are_read() {
        let one = r#"{"apiVersion":"v1","kind":"Pod"}"#;
        assert_eq!(parse(&format!("{one}\n{one}")).unwrap().documents.len(), 2);
    }

    /// `kubectl get deploy -A -o yaml` of a large cluster.
    #[test]
    fn a_large_list_is_read() {
        let text = format!("apiVersion: v1\nkind: List\nitems:\n{}", "- {a: 1, b: 2}\n".repeat(100_000));
        assert_eq!(parse(&text).unwrap().documents.len(), 1);
    }

    proptest! {
        /// Whatever a string holds, it comes back as that string: our own config annotation is one.
        #[test]
        fn strings_survive(text in prop_oneof![".{0,200}", "[0-9eE+.:_xo-]{0,6}", "(yes|no|on|off|null|~|y|n|[ \\n\\t#:{}&*!|>'\"%@`-]){0,6}"]) {
            let document = json!({"apiVersion": "v1", "kind": "X", "text": text, "list": [text], text.clone(): 1});
            let written = yaml(&document);
            prop_assert_eq!(read_yaml(&written), document, "{}", written);
        }
    }
}
