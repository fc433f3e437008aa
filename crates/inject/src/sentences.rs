//! The difference of two JSON values, for people.

use serde_json::Value;

/// Longest value that is shown whole, in characters.
const SHOWN: usize = 60;

/// What differs, one sentence a leaf: `resources.limits.memory is 64Mi, would be 128Mi`. What only `now` has counts where
/// `exact`; otherwise it is a default that the API server filled in.
pub(crate) fn differences(field: &str, now: Option<&Value>, wanted: &Value, exact: bool) -> Vec<String> {
    let mut found = Vec::new();
    compare(field, now, Some(wanted), exact, &mut found);
    found
}

/// One leaf that differs.
pub(crate) fn differs(field: &str, now: Option<&Value>, wanted: Option<&Value>) -> String {
    match (now, wanted) {
        (Some(now), Some(wanted)) => format!("{field} is {}, would be {}", show(now), show(wanted)),
        (Some(_), None) => format!("{field} would be gone"),
        (None, Some(wanted)) => format!("{field} is missing, would be {}", show(wanted)),
        (None, None) => format!("{field} is missing"),
    }
}

fn compare(field: &str, now: Option<&Value>, wanted: Option<&Value>, exact: bool, found: &mut Vec<String>) {
    match (now, wanted) {
        (Some(now), Some(wanted)) if now == wanted => {}
        (Some(Value::Object(now)), Some(Value::Object(wanted))) => {
            for (key, wanted) in wanted {
                compare(&join(field, key), now.get(key), Some(wanted), exact, found);
            }
            for (key, now) in now.iter().filter(|(key, _)| exact && !wanted.contains_key(*key)) {
                compare(&join(field, key), Some(now), None, exact, found);
            }
        }
        (Some(Value::Array(now)), Some(Value::Array(wanted))) if named(now) && named(wanted) => {
            let same = |list: &[Value], item: &Value| {
                list.iter().find(|other| other["name"] == item["name"]).cloned()
            };
            for wanted_item in wanted {
                let now = same(now, wanted_item);
                compare(&join(field, name(wanted_item)), now.as_ref(), Some(wanted_item), exact, found);
            }
            for now in now.iter().filter(|now| exact && same(wanted, now).is_none()) {
                compare(&join(field, name(now)), Some(now), None, exact, found);
            }
        }
        _ => found.push(differs(field, now, wanted)),
    }
}

fn join(field: &str, key: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") }
}

fn named(list: &[Value]) -> bool {
    list.iter().all(|item| item["name"].is_string())
}

fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

/// A value on one line, cut where it is long.
fn show(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}
