//! The user that the sidecars run as.

use std::ops::RangeInclusive;

use outrigger_api::names::{OPENSHIFT_UID_RANGE, SIDECAR_UID};

use crate::Namespace;

/// The largest user id of Kubernetes.
const LARGEST: i64 = i32::MAX as i64;

/// Our own user; on OpenShift the last of those that it allows in the namespace. Not the first: that one the apps get, and a
/// sidecar with the same user could not be told from the app (istio#52614). With a warning where the namespace's range can't
/// be read.
pub(crate) fn choose(namespace: &Namespace) -> (i64, Option<String>) {
    let Some(text) = namespace.annotations.get(OPENSHIFT_UID_RANGE) else {
        return (SIDECAR_UID, None);
    };
    if let Some(range) = range(text) {
        return (*range.end(), None);
    }
    let warning = format!(
        "annotation {OPENSHIFT_UID_RANGE} of namespace {} is {text:?}, which is no range of user ids as 1000650000/10000: the \
         sidecar runs as {SIDECAR_UID}",
        namespace.name
    );
    (SIDECAR_UID, Some(warning))
}

/// `first/count` or `first-last`, as OpenShift writes it. None for a range that is empty or has root as its last.
fn range(text: &str) -> Option<RangeInclusive<i64>> {
    let number = |text: &str| text.trim().parse::<i64>().ok().filter(|number| (0..=LARGEST).contains(number));
    let (first, last) = match (text.split_once('/'), text.split_once('-')) {
        (Some((first, count)), _) => {
            let first = number(first)?;
            (first, first + number(count)? - 1)
        }
        (None, Some((first, last))) => (number(first)?, number(last)?),
        (None, None) => return None,
    };
    (first <= last && (1..=LARGEST).contains(&last)).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_both_forms() {
        assert_eq!(range("1000650000/10000"), Some(1_000_650_000..=1_000_659_999));
        assert_eq!(range("1000650000-1000659999"), Some(1_000_650_000..=1_000_659_999));
        assert_eq!(range("7/1"), Some(7..=7));
        for wrong in
            ["", "/", "7", "7/0", "7/-1", "9-7", "0/1", "a/b", "2147483647/2", "1/99999999999999999999"]
        {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
