//! Label selectors, judged as the API server judges them.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use serde_json::Value;

use crate::output::str_at;

/// Whether a map of labels (any JSON; none is empty) is what the selector asks for. A selector that is not there selects all.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let exact = selector["matchLabels"].as_object().into_iter().flatten();
    let rules = selector["matchExpressions"].as_array().into_iter().flatten();
    exact.into_iter().all(|(key, value)| labels[key] == *value)
        && rules.into_iter().all(|rule| fits(rule, labels))
}

fn fits(rule: &Value, labels: &Value) -> bool {
    let label = &labels[str_at(rule, "/key")];
    let listed = rule["values"].as_array().is_some_and(|values| values.contains(label));
    match str_at(rule, "/operator") {
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
}
