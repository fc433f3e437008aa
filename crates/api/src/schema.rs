//! What the `CustomResourceDefinition` asks of a profile beyond types, so that `kubectl apply` of a wrong one fails at once.
//!
//! A rule stands next to the type or field that it is about, in CEL, and again in Rust, in `check`: for profiles in files,
//! and those stored before the rule was there. `tests/profiles` shows that both judge alike.

use schemars::Schema;
use serde_json::{Value, json};

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
