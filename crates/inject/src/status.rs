//! The status annotation: what a pod says was done to it.

use outrigger_api::names::{PREFIX_OF_ITEMS, STATUS_ANNOTATION};
use serde_json::Value;

use crate::{Report, UninjectError, remains};

/// Reads it, or what can be told where it is gone; and believes nothing in it that could reach what is not ours: people copy annotations, and write them.
pub(crate) fn read(pod: &Value) -> Result<Report, UninjectError> {
    let Some(status) = pod["metadata"]["annotations"][STATUS_ANNOTATION].as_str() else {
        return remains::report(pod).ok_or(UninjectError::NotInjected);
    };
    let report: Report = serde_json::from_str(status)?;
    match report.containers.iter().chain(&report.volumes).find(|name| !name.starts_with(PREFIX_OF_ITEMS)) {
        Some(name) => Err(UninjectError::NotOurs(name.clone())),
        None => Ok(report),
    }
}
