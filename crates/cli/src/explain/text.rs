//! An explanation for people.

use std::fmt::Write as _;

use anstyle::AnsiColor;
use outrigger_inject::{Decision, Place, Report, Standing};

use super::{Explained, Running, Subject, policies};
use crate::output::notes;

/// Everything, with an empty line between two workloads.
pub(super) fn render(explained: &Explained) -> String {
    let subjects: Vec<_> = explained.workloads.iter().map(subject).collect();
    let text = notes(&explained.notes) + &subjects.join("\n");
    if text.is_empty() { "there is nothing that has pods\n".to_owned() } else { text }
}

fn subject(subject: &Subject) -> String {
    let Subject { workload: name, namespace, explanation, pods, commands } = subject;
    let (glyph, colour, verdict) = match &explanation.decision {
        Decision::Injected { .. } if explanation.injected => {
            ("√", AnsiColor::Green, "is injected".to_owned())
        }
        Decision::Injected { .. } => ("√", AnsiColor::Green, "would be injected".to_owned()),
        Decision::Skipped { reason, .. } => ("-", AnsiColor::Yellow, format!("is not injected: {reason}")),
        Decision::Rejected { reason, .. } => ("×", AnsiColor::Red, format!("is refused: {reason}")),
    };
    let style = colour.on_default();
    let mut text = format!("{style}{glyph}{style:#} {name} in namespace {namespace} {verdict}\n");
    let mut row = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key:<13}{value}");
    };
    match &explanation.decision {
        Decision::Injected { .. } => {}
        Decision::Skipped { message, remedy, .. } => {
            row("why", message);
            row("remedy", remedy);
        }
        Decision::Rejected { errors, remedy, .. } => {
            for error in errors {
                row("fault", error);
            }
            row("remedy", remedy);
        }
    }
    if let Some(decision) = &explanation.once_opted_in {
        row("then", &then(decision));
    }
    match &explanation.opt_in {
        Some(label) => {
            row("label", &format!("{}={} on the {}", label.label, label.value, place(label.place)));
        }
        None => row("label", "none, neither on the pod nor on the namespace"),
    }
    let profile = &explanation.profile;
    let named = profile.named_by.map_or("by default".to_owned(), |by| format!("named by the {}", place(by)));
    row("profile", &format!("{} ({named})", profile.id.as_deref().unwrap_or(&profile.name)));
    for given in &explanation.overrides {
        row("override", &format!("{}={} on the {}", given.annotation, given.value, place(given.place)));
    }
    if let Decision::Injected { report, warnings, config } = &explanation.decision {
        if let Some(interception) = &explanation.interception {
            row("interception", &format!("{} ({})", interception.value, interception.why));
        }
        added(report, &mut row);
        policies::rows(config, &mut row);
        for warning in warnings {
            row("warning", warning);
        }
    }
    for pod in pods {
        row("pod", &running(pod));
    }
    for command in commands {
        row("hint", command);
    }
    text
}

/// What comes after the label.
fn then(decision: &Decision) -> String {
    match decision {
        Decision::Injected { .. } => "it would be injected".to_owned(),
        Decision::Skipped { reason, message, .. } => {
            format!("it would still not be injected: {reason}: {message}")
        }
        Decision::Rejected { reason, errors, .. } => {
            format!("it would be refused: {reason}: {}", errors.join("; "))
        }
    }
}

/// What injection adds and replaces.
fn added(report: &Report, row: &mut impl FnMut(&str, &str)) {
    let kind = if report.sidecars.native { "native sidecars" } else { "plain containers" };
    row("adds", &format!("{} as {kind} ({})", report.containers.join(", "), report.sidecars.why));
    row("", &format!("volumes {}", report.volumes.join(", ")));
    for port in &report.ports {
        let moved = format!("port {} of {}: {} -> {}", port.name, port.container, port.listen, port.port);
        row("takes over", &format!("{moved} ({})", format!("{:?}", port.protocol).to_lowercase()));
    }
    for probe in &report.probes {
        row(
            "rewrites",
            &format!("{} of {}", probe.field.trim_start_matches('/').replace('/', "."), probe.container),
        );
    }
    report.mounts.iter().for_each(|mount| row("mounts", &format!("the shared volume at {mount}")));
    report
        .app_metrics
        .iter()
        .for_each(|app| row("metrics", &format!("{app} -> /app-metrics of outrigger-proxy")));
    for (key, value) in &report.annotations {
        row("annotates", &format!("{key}: {value}"));
    }
    report.sync.iter().for_each(|sync| row("sync", sync));
    report.logs.iter().for_each(|logs| row("logs", &format!("{logs} -> stdout of outrigger-logs")));
}

fn running(running: &Running) -> String {
    let Running { pod, version, standing, .. } = running;
    let by = version.as_ref().map(|version| format!(" (injected by {version})")).unwrap_or_default();
    let stands = match standing {
        Standing::Outside { .. } => "without sidecar, as explained".to_owned(),
        Standing::Refused { reason, .. } => format!("would be refused if made anew: {reason}"),
        Standing::Missing => {
            "without the sidecar that it should have: created before the label, or while no webhook answered"
                .to_owned()
        }
        Standing::Current => "current".to_owned(),
        Standing::Reconfigurable { differences, .. } => {
            format!("has an older config: {}", differences.join("; "))
        }
        Standing::Outdated { differences } => format!("outdated: {}", differences.join("; ")),
    };
    format!("{pod}: {stands}{by}")
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Pod => "pod",
        Place::Namespace => "namespace",
    }
}
