//! Whether live requests may be looked at.

use serde::{Deserialize, Serialize};

use crate::Fault;

/// The most that [`TapSpec::max_per_second`] can be: more is an access log.
pub const MAX_PER_SECOND: u32 = 1000;

/// Whether, and how fast, the proxy tells its requests live at `/tap`, to holders of the pod's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
pub struct TapSpec {
    /// Whether it does. Default: false.
    pub enabled: bool,
    /// The most requests that one reader is told a second; of the others it learns how many they were. Default: 100.
    #[cfg_attr(feature = "crd", schemars(range(min = 1, max = MAX_PER_SECOND)))]
    pub max_per_second: u32,
}

impl Default for TapSpec {
    fn default() -> Self {
        Self { enabled: false, max_per_second: 100 }
    }
}

impl TapSpec {
    /// Whether nothing is told: then it need not be written.
    pub fn is_off(&self) -> bool {
        !self.enabled
    }

    /// The faults of one that stands at `at`.
    pub(crate) fn check(self, at: &str) -> Option<Fault> {
        let number = self.max_per_second;
        let wrong = !(1..=MAX_PER_SECOND).contains(&number);
        let message = || format!("{number} is not between 1 and {MAX_PER_SECOND}");
        wrong.then(|| Fault::new(format!("{at}.maxPerSecond"), message()))
    }
}
