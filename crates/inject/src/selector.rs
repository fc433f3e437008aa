//! Label selectors, judged as the API server judges them.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use serde_json::Value;

use crate::Namespace;

/// Whether the API server asks a webhook, by these entries of its configuration, about a pod with these labels (any JSON; none is
/// empty) in this namespace. What an entry's `matchConditions` say is not looked at.
pub fn is_asked(entries: &[Value], namespace: &Namespace, pod_labels: &Value) -> bool {
    let namespace = labels(namespace);
    let asks = |entry: &Value| {
        selects(&entry["namespaceSelector"], &namespace) && selects(&entry["objectSelector"], pod_labels)
    };
    entries.iter().any(asks)
}

/// The same for any pod of this namespace: whether there may be one about which it asks.
pub fn may_be_asked(entries: &[Value], namespace: &Namespace) -> bool {
    let namespace = labels(namespace);
    entries.iter().any(|entry| selects(&entry["namespaceSelector"], &namespace))
}

/// Whether a map of labels (any JSON; none is empty) is what the selector asks for. A selector that is not there selects all.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let exact = selector["matchLabels"].as_object().into_iter().flatten();
    let rules = selector["matchExpressions"].as_array().into_iter().flatten();
    exact.into_iter().all(|(key, value)| labels[key] == *value)
        && rules.into_iter().all(|rule| fits(rule, labels))
}

/// As the API server sees them: it sets the name as a label, which a manifest need not have.
fn labels(namespace: &Namespace) -> Value {
    let mut labels: Value =
        namespace.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    labels["kubernetes.io/metadata.name"] = namespace.name.as_str().into();
    labels
}

fn fits(rule: &Value, labels: &Value) -> bool {
    let label = &labels[rule["key"].as_str().unwrap_or_default()];
    let listed = rule["values"].as_array().is_some_and(|values| values.contains(label));
    match rule["operator"].as_str().unwrap_or_default() {
        "In" => listed,
        // As the API server has it: a label that is not there is not in the list either.
        "NotIn" => !listed,
        "Exists" => !label.is_null(),
        "DoesNotExist" => label.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_operator_means_what_kubernetes_says() {
        let rule = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]});
        let (has, other, none) = (json!({"k": "a"}), json!({"k": "b"}), Value::Null);
        for (selector, wanted) in [
            (rule("In", json!(["a"])), [true, false, false]),
            (rule("NotIn", json!(["a"])), [false, true, true]),
            (rule("Exists", Value::Null), [true, true, false]),
            (rule("DoesNotExist", Value::Null), [false, false, true]),
            (json!({"matchLabels": {"k": "a"}}), [true, false, false]),
            (json!({}), [true, true, true]),
            (Value::Null, [true, true, true]),
            (rule("Near", json!(["a"])), [false, false, false]),
        ] {
            assert_eq!([&has, &other, &none].map(|labels| selects(&selector, labels)), wanted, "{selector}");
        }
    }

    #[test]
    fn one_entry_that_selects_namespace_and_pod_is_enough() {
        let rule = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let named = |operator| rule("kubernetes.io/metadata.name", operator, json!(["shop"]));
        let entries = [
            json!({"namespaceSelector": named("In"), "objectSelector": rule("track", "Exists", Value::Null)}),
            json!({"namespaceSelector": named("NotIn")}),
        ];
        let namespace = |name: &str| Namespace { name: name.into(), ..Namespace::default() };
        let (none, some) = (Value::Null, json!({"track": "canary"}));
        assert!(is_asked(&entries, &namespace("shop"), &some));
        assert!(!is_asked(&entries, &namespace("shop"), &none) && may_be_asked(&entries, &namespace("shop")));
        assert!(is_asked(&entries, &namespace("other"), &none));
        assert!(!is_asked(&entries[..1], &namespace("other"), &some));
        assert!(!may_be_asked(&entries[..1], &namespace("other")) && !may_be_asked(&[], &namespace("shop")));
    }
}
