//! The types judge a profile as the API server does with the CRD that is made of them: `profiles.yaml` has the cases.

use outrigger_api::profile::SidecarProfileSpec;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    spec: Value,
    stored: Option<Value>,
    #[serde(default)]
    refused: Vec<String>,
}

#[test]
fn profiles_are_judged_as_the_api_server_judges_them() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("profiles.yaml")).unwrap();
    for Case { name, spec, stored, refused } in &cases {
        let wanted: Vec<_> = refused.iter().map(|line| line.split(": ").next().unwrap_or(line)).collect();
        match SidecarProfileSpec::parse(spec) {
            Ok(profile) => {
                assert!(refused.is_empty(), "{name}: taken");
                // With no `stored`, the same in other words: a number as text.
                assert!(
                    stored.as_ref().is_none_or(|stored| *stored == json!(profile)),
                    "{name}: {profile:#?}"
                );
            }
            Err(faults) => {
                let found: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
                assert!(covers(&found, &wanted) && covers(&wanted, &found), "{name}: {faults:#?}");
            }
        }
    }
}

/// Whether each of the fields is one of the others, or within one of them, or contains one: a rule about a list can't say which
/// entry breaks it.
fn covers(fields: &[&str], others: &[&str]) -> bool {
    fields.iter().all(|field| others.iter().any(|other| field.starts_with(other) || other.starts_with(field)))
}
