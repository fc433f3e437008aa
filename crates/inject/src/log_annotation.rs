//! The annotation `logs`: `app=/var/log/app/*.log,app=/var/log/app/*.err`.

use outrigger_api::logs::{LogFormat, LogSpec};
use outrigger_api::profile::MAX_ENTRIES;

/// The files listed. Those of one directory, and of directories in it, are one entry, because no file can be renamed from one mount
/// to another. It keeps what the profile says about that directory.
pub(crate) fn parse(value: &str, profile: &[LogSpec]) -> Result<Vec<LogSpec>, String> {
    let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
    if items().count() > MAX_ENTRIES {
        return Err(format!(
            "more than {MAX_ENTRIES} entries; app=/var/log/**/*.log is one for a whole tree"
        ));
    }
    let mut specs: Vec<LogSpec> = Vec::new();
    for item in items() {
        let (container, files) = item
            .split_once('=')
            .ok_or_else(|| format!("{item:?} names no container: it takes app=/var/log/app/*.log"))?;
        let (path, file) = split(files)
            .ok_or_else(|| format!("{files:?} is no file in a directory: it takes /var/log/app/*.log"))?;
        // A directory would be taken for a file in the one above it, and hide that.
        if !file.contains(['*', '?', '.']) {
            let directory = files.trim_end_matches('/');
            return Err(format!(
                "{files:?} names a directory: it takes {directory}/*.log, or {directory}* for files of that name"
            ));
        }
        let below = |spec: &LogSpec| {
            let rest = files.strip_prefix(&spec.path)?.strip_prefix('/')?;
            (spec.container == container).then(|| rest.to_owned())
        };
        if let Some((spec, rest)) = specs.iter_mut().find_map(|spec| below(spec).map(|rest| (spec, rest))) {
            spec.files.push(rest);
            continue;
        }
        let known = profile.iter().find(|spec| {
            spec.container == container && spec.path.trim_end_matches('/') == path.trim_end_matches('/')
        });
        let base = known.cloned().unwrap_or_default();
        let mut spec = LogSpec {
            container: container.to_owned(),
            path: path.to_owned(),
            files: vec![file.to_owned()],
            ..base
        };
        take_in(&mut spec, &mut specs);
        specs.push(spec);
    }
    Ok(specs)
}

/// Takes in the entries of directories that lie in this one's: they may come before it.
fn take_in(spec: &mut LogSpec, specs: &mut Vec<LogSpec>) {
    specs.retain(|other| {
        let inner = other.path.strip_prefix(spec.path.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let Some(inner) = inner.filter(|_| other.container == spec.container) else { return true };
        spec.files.extend(other.files.iter().map(|file| format!("{inner}/{file}")));
        false
    });
}

/// Gives every entry that format. A pattern of another format goes.
pub(crate) fn set_format(specs: &mut [LogSpec], format: LogFormat) {
    for spec in specs {
        spec.format = format;
        spec.pattern = spec.pattern.take().filter(|_| format == LogFormat::Regex);
    }
}

/// The directory, which ends before the first name with a wildcard, and the pattern below it.
fn split(files: &str) -> Option<(&str, &str)> {
    let plain = files.find(['*', '?']).unwrap_or(files.len());
    let slash = files[..plain].rfind('/').filter(|slash| *slash > 0)?;
    Some((&files[..slash], &files[slash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> Result<Vec<String>, String> {
        let shown = |spec: LogSpec| format!("{} {} {}", spec.container, spec.path, spec.files.join(" "));
        parse(value, &[]).map(|specs| specs.into_iter().map(shown).collect())
    }

    #[test]
    fn files_of_one_directory_are_one_entry() {
        for (value, wanted) in [
            ("", &[][..]),
            ("app=/var/log/app/*.log", &["app /var/log/app *.log"]),
            ("app=/a/x.log, app=/a/*.err,web=/a/**/*.log", &["app /a x.log *.err", "web /a **/*.log"]),
            ("app=/a/b*/c.log", &["app /a b*/c.log"]),
            ("app=/a/*.log,app=/a/old/*.txt,app=/ab/*.log", &["app /a *.log old/*.txt", "app /ab *.log"]),
            ("app=/a/old/*.txt,web=/a/b/x?,app=/a/*.log", &["web /a/b x?", "app /a *.log old/*.txt"]),
        ] {
            assert_eq!(shown(value).unwrap(), wanted, "{value}");
        }
        for wrong in ["/var/log/app/*.log", "app=*.log", "app=/*.log", "app="] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
        for directory in ["app=/var/log/app", "app=/var/log/app/", "app=/var/log/app.d/logs"] {
            let fault = shown(directory).unwrap_err();
            assert!(fault.contains("names a directory: it takes /var/log/app"), "{fault}");
        }
        // One annotation of 256 KiB kept every admission waiting for a minute.
        let many: Vec<_> = (0..=MAX_ENTRIES).map(|number| format!("app=/{number}/f")).collect();
        assert!(shown(&many.join(",")).unwrap_err().starts_with("more than 64 entries"));
    }

    #[test]
    fn what_the_profile_says_of_a_directory_stays() {
        let profile = LogSpec {
            container: "app".to_owned(),
            path: "/a/".to_owned(),
            format: LogFormat::Regex,
            pattern: Some("(?P<message>.*)".to_owned()),
            ..LogSpec::default()
        };
        let mut specs = parse("app=/a/new.log,app=/b/*.log", std::slice::from_ref(&profile)).unwrap();
        assert_eq!(specs[0].format, LogFormat::Regex);
        assert_eq!(specs[1].format, LogFormat::Auto);
        set_format(&mut specs, LogFormat::Json);
        assert_eq!((specs[0].format, specs[0].pattern.as_ref()), (LogFormat::Json, None));
    }
}
