//! What holds for each port and upstream, in the profile's own words: whoever wants it otherwise finds them there.

use outrigger_api::config::SidecarConfig;
use serde::Serialize;
use serde_json::Value;

/// What a row says of a text: pages of answers are not for a terminal.
const MOST_CHARACTERS: usize = 40;

/// A row for each policy, with the defaults of all that it says nothing of.
pub(super) fn rows(config: &SidecarConfig, row: &mut impl FnMut(&str, &str)) {
    for inbound in &config.inbound {
        of_one(&format!("port {}", inbound.name), inbound, row);
    }
    for upstream in &config.upstreams {
        let name = format!("{} ({}:{})", upstream.name, upstream.host, upstream.port);
        of_one(&format!("upstream {name}"), upstream, row);
    }
}

fn of_one(name: &str, policies: &impl Serialize, row: &mut impl FnMut(&str, &str)) {
    let Ok(Value::Object(fields)) = serde_json::to_value(policies) else { return };
    let is_policy = |value: &Value| value.is_object() || value.is_array();
    for (policy, value) in fields.iter().filter(|(_, value)| is_policy(value)) {
        row("policy", &format!("{name}: {policy} {}", in_words(value)));
    }
}

/// As YAML writes it on one line.
fn in_words(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(field, value)| format!("{field}: {}", in_words(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(in_words).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => shortened(text),
        other => other.to_string(),
    }
}

fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= MOST_CHARACTERS {
        return line;
    }
    let start: String = line.chars().take(MOST_CHARACTERS).collect();
    format!("{start}... ({} characters)", text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_a_row_with_its_defaults() {
        let config: SidecarConfig = serde_json::from_value(serde_json::json!({
            "version": 1, "profile": "shop/web", "token": "",
            "inbound": [{
                "name": "http", "listen": 15200, "target": 8080, "protocol": "http",
                "limits": {"maxRequests": 9, "rate": {"requests": 5}},
                "overrides": [{"status": ["5xx"], "body": "o".repeat(100)}],
            }],
            "upstreams": [{"name": "api", "host": "api.shop.svc", "port": 80, "retries": {"max": 2}}],
        }))
        .unwrap();
        let mut rows = Vec::new();
        super::rows(&config, &mut |key, value| rows.push(format!("{key} {value}")));
        let body = format!("{}... (100 characters)", "o".repeat(40));
        assert_eq!(
            rows,
            [
                "policy port http: limits {maxRequests: 9, rate: {requests: 5, per: 1s}}".to_owned(),
                format!("policy port http: overrides [{{status: [5xx], body: {body}}}]"),
                "policy upstream api (api.shop.svc:80): retries {max: 2, status: [502, 503, 504], grpcStatus: [], \
                 budget: 0.2, minPerSecond: 3, backoff: 25ms, maxBackoff: 250ms}"
                    .to_owned(),
            ]
        );
    }
}
