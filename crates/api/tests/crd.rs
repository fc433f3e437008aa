//! The chart's CRD is made from the types, so that the API server and this code never disagree about a profile.
//!
//! After a change of the types: `UPDATE_CRD=1 cargo test -p outrigger-api --test crd`.

use std::path::Path;

use kube::CustomResourceExt;
use outrigger_api::profile::SidecarProfile;

const HEADER: &str = "\
# Made from crates/api/src/profile.rs; do not edit. After a change there:
#     UPDATE_CRD=1 cargo test -p outrigger-api --test crd
";

#[test]
fn the_chart_holds_the_crd_of_these_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/outrigger/crds/sidecarprofiles.yaml");
    let yaml = serde_saphyr::to_string(&SidecarProfile::crd()).expect("a CRD is YAML");
    let wanted = format!("{HEADER}{yaml}");
    if std::env::var_os("UPDATE_CRD").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    // Not assert_eq: a screenful of escaped newlines helps nobody.
    assert!(
        stored == wanted,
        "{} differs from the types; `UPDATE_CRD=1 cargo test -p outrigger-api --test crd` writes it, `git diff` shows how",
        path.display()
    );
}
