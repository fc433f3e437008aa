//! What the `CustomResourceDefinition` asks of a profile beyond types, so that `kubectl apply` of a wrong one fails at once.
//!
//! A rule stands next to the type or field that it is about, in CEL, and again in Rust, in `check`: for profiles in files,
//! and those stored before the rule was there. `tests/profiles` shows that both judge alike.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::overrides::MAX_HEADERS;

/// One of `x-kubernetes-validations`: a CEL expression about `self`, and what users read where it is false.
///
/// <https://kubernetes.io/docs/reference/using-api/cel/>
pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// Takes away the default that a field has only so that Rust can read a list's element without it.
pub(crate) fn without_default(schema: &mut Schema) {
    schema.remove("default");
}

/// That a list has one item at most for each path of each container; `/a` and `/a/` are one path.
pub(crate) fn one_for_each_path(message: &str) -> Value {
    rule(
        "self.all(a, self.exists_one(b, a.container == b.container \
         && (a.path == b.path || a.path + '/' == b.path || a.path == b.path + '/')))",
        message,
    )
}

/// That a path can be mounted on, and that no container needs what it has there.
pub(crate) fn own_directory_rules() -> Vec<Value> {
    vec![
        rule(
            "self.startsWith('/') && !self.contains(':') && !self.matches('^/*$|//|/[.][.]?(/|$)')",
            "it takes an absolute path without ':', '.' or '..', not \"/\"",
        ),
        rule(
            "!self.matches('^/var/run/secrets/kubernetes[.]io/serviceaccount(/|$)')",
            "the app's service account token is mounted there",
        ),
        rule(
            "!self.matches('^/((dev|proc|sys)(/.*)?|(etc|usr|usr/local|(usr/(local/)?)?(bin|lib|lib64|libexec|sbin))/?)$')",
            "the container needs what it has there",
        ),
    ]
}

/// That a path leads from a directory to something below it.
pub(crate) fn relative_path_rule() -> Value {
    rule("self != '' && !self.matches('(^|/)[.]?[.]?(/|$)')", "it takes a relative path without \"..\"")
}

/// That a text is a label, as [`crate::names::is_label`].
pub(crate) fn label_rule(message: &str) -> Value {
    rule("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", message)
}

/// That a text is the name of a container.
pub(crate) fn container_rule() -> Value {
    label_rule("it takes the name of a container of the pod: a-z, 0-9 and -")
}

const SUBDOMAIN: &str = "'^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'";

/// That a text is the name of a Secret or `ConfigMap`, as [`crate::names::is_subdomain`].
pub(crate) fn subdomain_rule() -> Value {
    rule(&format!("self.matches({SUBDOMAIN})"), "it takes the name of an object: a-z, 0-9, - and .")
}

/// A field with such a name.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 253, "x-kubernetes-validations": [subdomain_rule()]})
}

/// The same of each text of a list.
pub(crate) fn subdomains_rule() -> Value {
    let each = format!("self.all(name, name.matches({SUBDOMAIN}))");
    rule(&each, "it takes names of Secrets: a-z, 0-9, - and .")
}

/// That a text is the name of a header, as [`crate::names::is_header_name`].
pub(crate) fn header_name_rule() -> Value {
    rule(&is_header_name("self"), "it takes letters, digits and -, and no header that frames a message")
}

/// A field with a list of such names.
pub(crate) fn header_names(_: &mut SchemaGenerator) -> Schema {
    let each = format!("self.all(name, {})", is_header_name("name"));
    let each = rule(&each, "it takes letters, digits and -, and no header that frames a message");
    json_schema!({
        "type": "array",
        "items": {"type": "string", "maxLength": 64},
        "maxItems": MAX_HEADERS,
        "x-kubernetes-validations": [each],
    })
}

/// That a text is a host name or an address, as [`crate::upstream::is_host`].
pub(crate) fn host_rule() -> Value {
    rule(
        "self.matches('^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$') || self.matches('^[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?([.][a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?)*[.]?$')",
        "it takes a host name or an address, as api.shop.svc",
    )
}

fn is_header_name(text: &str) -> String {
    let framing = crate::names::FRAMING_HEADERS.join("|");
    format!("{text}.matches('^[A-Za-z0-9-]+$') && !{text}.lowerAscii().matches('^({framing})$')")
}
