//! Label selectors as they stand in a URL: `app=web,tier in (a,b),!old`.
//!
//! Not kube's `Selector`, which reads objects and no text.

/// Every requirement must hold. <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api>
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

/// That the label has one of these values, or, negated, that it has none of them. Without values: that it is there.
#[derive(Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    values: Option<Vec<String>>,
    negated: bool,
}

impl Selector {
    /// None where the text is no selector.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let open = rest.find('(').unwrap_or(usize::MAX);
            let comma = rest.find(',').unwrap_or(rest.len());
            let end = if open < comma { rest.find(')')? + 1 } else { comma };
            requirements.push(Requirement::parse(rest[..end].trim())?);
            rest = rest[end..].trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(',')?.trim_start();
            }
        }
        Some(Self(requirements))
    }

    /// Whether an object with these labels is meant.
    pub(crate) fn matches(&self, labels: &[(String, String)]) -> bool {
        self.0.iter().all(|wanted| {
            let found = labels.iter().find(|(key, _)| *key == wanted.key).map(|(_, value)| value);
            let holds = match &wanted.values {
                None => found.is_some(),
                Some(values) => found.is_some_and(|value| values.contains(value)),
            };
            holds != wanted.negated
        })
    }
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        let of = |key: &str, values, negated| {
            let key = key.trim().to_owned();
            let is_name = !key.is_empty()
                && !key.contains(|letter: char| letter.is_whitespace() || "()!=".contains(letter));
            is_name.then_some(Self { key, values, negated })
        };
        if let Some(list) = text.strip_suffix(')') {
            let (before, list) = list.split_once('(')?;
            let (key, operator) = before.trim().split_once(char::is_whitespace)?;
            let negated = match operator.trim() {
                "in" => false,
                "notin" => true,
                _ => return None,
            };
            return of(key, Some(list.split(',').map(|value| value.trim().to_owned()).collect()), negated);
        }
        let value = |value: &str| Some(vec![value.trim().to_owned()]);
        if let Some((key, wanted)) = text.split_once("!=") {
            of(key, value(wanted), true)
        } else if let Some((key, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
            of(key, value(wanted), false)
        } else if let Some(key) = text.strip_prefix('!') {
            of(key, None, true)
        } else {
            of(text, None, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Selector::parse(selector).unwrap_or_else(|| panic!("{selector} is one")).matches(&labels)
    }

    #[test]
    fn every_requirement_must_hold() {
        let web = [("app", "web"), ("tier", "front")];
        for holds in [
            "",
            "app=web",
            "app==web,tier=front",
            "app",
            "!old",
            "app!=api",
            "app in (api, web)",
            "tier notin (back),app",
            "old!=x",
        ] {
            assert!(matches(holds, &web), "{holds}");
        }
        for fails in [
            "app=api",
            "app=web,tier=back",
            "old",
            "!app",
            "app!=web",
            "app in (api)",
            "app notin (a,web)",
            "old in (x)",
        ] {
            assert!(!matches(fails, &web), "{fails}");
        }
    }

    #[test]
    fn what_is_no_selector_selects_nothing() {
        for text in ["=", "a in", "a in (b", "a on (b)", "a=b,,c=d", "a b", "!", "a in (b) c"] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
    }
}
