//! How much a version may be, and what memory and time follow from that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// The most files that a profile may allow.
pub const MAX_FILES: u32 = 1_000_000;
/// The most bytes that a profile may allow: 1 TiB. What is over is a slip of the pen.
pub const MAX_BYTES: u64 = 1 << 40;
/// What asking a repository takes, whatever comes of it: TLS with all public CAs, and a list of references.
const BASE: u64 = 64 << 20;
/// How often an object may be in memory at a time: as what it differs from, as the difference, as what comes of it, and while it grows.
const COPIES: u64 = 4;
/// What is kept of each object while a version is unpacked, in bytes.
const EACH: u64 = 1 << 10;
/// The slowest server that is waited for, in bytes a second, and the time for all but the bytes.
const SLOWEST: u64 = 512 << 10;
const PATIENCE: Duration = Duration::from_mins(1);

/// How much a version may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(
    feature = "crd",
    derive(schemars::JsonSchema),
    schemars(extend("x-kubernetes-validations" = [something("size"), something("file")]))
)]
pub struct SyncLimits {
    /// All files together, and what the server sends for them. Up to five times as much is needed for a moment: three versions,
    /// the next one and what it is made from. Default: `256Mi`, at most `1Ti`.
    pub size: Quantity,
    /// One file. It is unpacked in memory, so the sidecar's memory limit follows from it. Default: `32Mi`, at most
    /// `1Ti`.
    pub file: Quantity,
    /// Files, directories and symbolic links. Default: 10000.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = MAX_FILES)))]
    pub files: u32,
}

impl Default for SyncLimits {
    fn default() -> Self {
        let quantity = |text| Quantity::parse(text).expect("the default sizes are valid");
        Self { size: quantity("256Mi"), file: quantity("32Mi"), files: 10_000 }
    }
}

/// As [`SyncLimits::faults`], for the API server.
#[cfg(feature = "crd")]
fn something(field: &str) -> serde_json::Value {
    let (is_quantity, bytes) =
        (format!("isQuantity(string(self.{field}))"), format!("quantity(string(self.{field}))"));
    // What is no quantity is told by the quantity's own rule.
    let rule = format!(
        "!has(self.{field}) || !{is_quantity} || {bytes}.compareTo(quantity('0')) > 0 \
         && {bytes}.compareTo(quantity('1Ti')) <= 0"
    );
    serde_json::json!({
        "rule": rule,
        "message": "it takes more than 0 and at most 1Ti",
        "fieldPath": format!(".{field}"),
    })
}

impl SyncLimits {
    /// The faults of these limits, each with its field.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (field, quantity) in [("limits.size", &self.size), ("limits.file", &self.file)] {
            if !(1..=MAX_BYTES).contains(&quantity.bytes()) {
                faults.push((field, format!("{quantity} bytes: it takes more than 0 and at most 1Ti")));
            }
        }
        if !(1..=MAX_FILES).contains(&self.files) {
            let message = format!("{} is not between 1 and {MAX_FILES}", self.files);
            faults.push(("limits.files", message));
        }
        faults
    }

    /// The most memory that one round may take, in bytes. A round that wants more is ended.
    pub fn memory(&self) -> u64 {
        let of_files = u64::from(self.files).saturating_mul(EACH);
        self.file.bytes().saturating_mul(COPIES).saturating_add(of_files).saturating_add(BASE)
    }

    /// The longest that one round may take to ask, fetch and check a version. A round that takes longer is ended.
    pub fn time(&self) -> Duration {
        PATIENCE + Duration::from_secs(self.size.bytes() / SLOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version of 0 bytes is none, and 999999E was a memory limit and a time without end.
    #[test]
    fn limits_of_nothing_and_of_no_end_are_refused() {
        let faults = |size: &str, file: &str| {
            let quantity = |text| Quantity::parse(text).unwrap();
            let limits = SyncLimits { size: quantity(size), file: quantity(file), files: 1 };
            limits.faults().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(faults("1Ti", "1"), [""; 0]);
        assert_eq!(faults("0", "0Mi"), ["limits.size", "limits.file"]);
        assert_eq!(faults("1025Gi", "2T"), ["limits.size", "limits.file"]);
    }

    #[test]
    fn memory_and_time_follow_from_the_limits() {
        let limits = |size: &str, file: &str, files| SyncLimits {
            size: Quantity::parse(size).unwrap(),
            file: Quantity::parse(file).unwrap(),
            files,
        };
        assert_eq!(SyncLimits::default().memory(), (64 + 4 * 32) * 1024 * 1024 + 10_000 * 1024);
        assert_eq!(SyncLimits::default().time().as_secs(), 60 + 512);
        assert_eq!(limits("1Gi", "1Gi", 1024).memory(), (64 + 4096 + 1) * 1024 * 1024);
        assert_eq!(limits("999999999999999E", "999999999999999E", 1).memory(), u64::MAX);
        assert!(limits("999999999999999E", "1", 1).time() > Duration::from_hours(24));
    }
}
