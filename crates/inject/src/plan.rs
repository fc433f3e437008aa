//! The way from a pod to its patch, read top to bottom.

use std::collections::{BTreeMap, HashMap};

use json_patch::Patch;
use outrigger_api::Reason;
use outrigger_api::config::{self, Inbound, Protocol, SidecarConfig};
use outrigger_api::names::{
    APP_METRICS_LABEL, CONFIG_ANNOTATION, CONFIG_VOLUME, DEFAULT_CONTAINER_ANNOTATION, DEFAULT_PROFILE,
    FINISH_LABEL, INIT_CONTAINER, INJECTED_LABEL, LOGS_CONTAINER, PROFILE_ANNOTATION, PROXY_CONTAINER,
    SECRET_VOLUME_PREFIX, SHARED_VOLUME, STATUS_ANNOTATION, SYNC_CONTAINER,
};
use outrigger_api::probe::Probe;
use outrigger_api::profile::{InboundSpec, SharedMount, SidecarProfileSpec};
use serde_json::Value;

use crate::edit::{Edit, escape};
use crate::init_container::{self, InitContainer};
use crate::interception::{self, Intercepted};
use crate::logs_container::{self, LogsContainer};
use crate::outcome::{Placement, Refusal};
use crate::overrides::{self, Effective};
use crate::owned::{OUR_ANNOTATIONS, OUR_LABELS, is_our_volume};
use crate::pod::{CONTAINERS, Container, INIT_CONTAINERS, Pod};
use crate::ports::{self, Takeover};
use crate::probes::{self, Probes};
use crate::proxy_container::{self, ProxyContainer};
use crate::scraping::Scraping;
use crate::secrets::Mounted;
use crate::sync_container::SyncContainer;
use crate::{
    Context, Namespace, Outcome, Report, eligibility, logs, native, place, rendered, renewal, resources,
    scraping, secrets, shared_volume, status, sync, sync_container, user,
};

/// Decides about one pod and says what to change.
///
/// The pod may be the template of a workload: neither a name nor a namespace in its metadata is needed. A pod that
/// carries sidecars already gets what it lacks, and no patch where it lacks nothing.
pub fn inject(pod: &Value, context: &Context) -> Outcome {
    let decided = match status::read(pod) {
        Ok(status) => renewal::decide(pod, &status, context),
        Err(_) => plan(pod, context, Vec::new()).map(|planned| (planned.patch, planned.report)),
    };
    match decided {
        Ok((patch, report)) => Outcome::Injected { patch, report: Box::new(report) },
        Err(refusal) => refusal.into(),
    }
}

/// The name of the profile that the pod, or else its namespace, asks for.
pub fn profile_name<'a>(pod: &'a Value, namespace: &'a Namespace) -> &'a str {
    let named = place::annotation(Pod::unchecked(pod), namespace, PROFILE_ANNOTATION);
    named.map_or(DEFAULT_PROFILE, |(name, _)| name)
}

/// What a pod without sidecars gets.
pub(crate) struct Planned {
    pub(crate) patch: Patch,
    pub(crate) report: Report,
    pub(crate) config: SidecarConfig,
}

/// The patch for a pod without sidecars. `answered`: the probes that the proxy answers already, where it had some.
pub(crate) fn plan(json: &Value, context: &Context, answered: Vec<Probe>) -> Result<Planned, Refusal> {
    let pod = Pod::new(json)?;
    eligibility::check_opt_in(pod, context.namespace)?;
    eligibility::check_kind(pod)?;
    let (profile_id, profile) = resolve_profile(json, context)?;
    let effective = overrides::apply(profile, pod, context.namespace)?;
    let intercepted = interception::plan(pod, &effective, context)?;
    let takeover = &intercepted.takeover;
    let asked = effective.profile.shared_volume.iter().flat_map(|spec| spec.mounts.iter().cloned());
    let of_sidecars = logs::mounts(&effective.profile.logs).chain(sync::mounts(&effective.profile.sync));
    let mounts = shared_volume::plan(pod, asked.chain(of_sidecars))?;
    if intercepted.is_empty() && mounts.is_empty() {
        return Err(Refusal::skipped(Reason::NothingToIntercept, ports::why_none(pod, &effective, takeover)));
    }
    let redirects = intercepted.redirected.is_some();
    refuse_taken_names(pod, !mounts.is_empty(), &effective.profile, redirects)?;
    let wanted = effective.profile.native_sidecars;
    let placement = native::place(wanted, context.settings.cluster, !takeover.moved().is_empty())?;
    sync::check(pod, &effective.profile.sync, &placement)?;
    let rewrite = effective.profile.rewrite_probes;
    let mut probes = probes::plan(pod, takeover, rewrite, placement.native, redirects);
    if rewrite {
        probes.keep(pod, answered, &takeover.taken);
    }
    probes.warn_of_strays(pod);
    let scraping = scraping::plan(pod, &effective, intercepted.chosen.mode);
    let config = sidecar_config(pod, profile_id, &effective, &intercepted, &probes, &scraping, context.token);
    let secrets = secrets::plan(&config)?;
    refuse_auth_of_bytes(&config)?;
    let (proxy, warnings) = proxy(pod, context, &effective, takeover, &placement, &config, &secrets);
    let adapter = adapter(pod, context, &effective, &placement, &proxy);
    let sync = sync(pod, context, &effective, &proxy, &secrets);
    let init = init(context, &effective, &intercepted, &proxy);
    let effective = &effective;
    Ok(edit(
        pod,
        context,
        Plan {
            effective,
            intercepted,
            mounts,
            placement,
            probes,
            scraping,
            init,
            proxy,
            adapter,
            sync,
            secrets,
            warnings,
            config,
        },
    ))
}

/// Everything decided, nothing changed yet.
struct Plan<'a> {
    effective: &'a Effective,
    intercepted: Intercepted,
    mounts: Vec<(Container<'a>, SharedMount)>,
    placement: Placement,
    probes: Probes,
    scraping: Scraping,
    /// The init container, where there are rules to write.
    init: Option<Value>,
    /// The proxy's container.
    proxy: Value,
    /// The log adapter's, where there are logs.
    adapter: Option<Value>,
    /// The content sync's, where there are repositories.
    sync: Option<Value>,
    /// The Secrets and `ConfigMaps` that sidecars read.
    secrets: Vec<Mounted>,
    /// What the user should know about the proxy.
    warnings: Vec<String>,
    config: SidecarConfig,
}

fn resolve_profile(pod: &Value, context: &Context) -> Result<(String, SidecarProfileSpec), Refusal> {
    let Context { namespace, profiles, .. } = context;
    let name = profile_name(pod, namespace);
    let Some(found) = profiles.find(&namespace.name, name) else {
        let choices = profiles.choices(&namespace.name);
        let choices = if choices.is_empty() { "there is none".to_owned() } else { choices.join(", ") };
        return Err(Refusal::rejected(
            Reason::ProfileNotFound,
            format!("no SidecarProfile {name:?} for namespace {}; known: {choices}", namespace.name),
        ));
    };
    let id = format!("{}/{name}", found.namespace);
    match found.parsed {
        Ok(profile) => Ok((id, profile.clone())),
        Err(faults) => Err(Refusal::Rejected {
            reason: Reason::InvalidProfile,
            errors: faults.iter().map(|fault| format!("SidecarProfile {id}: {fault}")).collect(),
        }),
    }
}

fn refuse_taken_names(
    pod: Pod,
    shared: bool,
    profile: &SidecarProfileSpec,
    redirect: bool,
) -> Result<(), Refusal> {
    let mut errors = Vec::new();
    let names = [
        (PROXY_CONTAINER, true),
        (LOGS_CONTAINER, !profile.logs.is_empty()),
        (SYNC_CONTAINER, !profile.sync.is_empty()),
        (INIT_CONTAINER, redirect),
    ];
    for (name, needed) in names {
        if needed && pod.container(name).is_some() {
            errors.push(format!("the pod has a container {name} of its own; rename it"));
        }
    }
    for volume in pod.volume_names() {
        let of_secret = volume.starts_with(SECRET_VOLUME_PREFIX) && is_our_volume(volume);
        if volume == CONFIG_VOLUME || (shared && volume == SHARED_VOLUME) || of_secret {
            errors.push(format!("the pod has a volume {volume} of its own; rename it"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Rejected { reason: Reason::NameCollision, errors }) }
}

fn sidecar_config(
    pod: Pod,
    profile: String,
    effective: &Effective,
    intercepted: &Intercepted,
    probes: &Probes,
    scraping: &Scraping,
    token: &str,
) -> SidecarConfig {
    let inbound = intercepted.takeover.ports.iter().map(|port| {
        let InboundSpec { tls, auth, timeouts, limits, request_headers, response_headers, overrides, .. } =
            ports::spec_of(effective, pod, port).cloned().unwrap_or_default();
        let mut inbound = Inbound {
            name: port.name.clone(),
            listen: port.listen,
            target: port.port,
            protocol: port.protocol,
            tls,
            auth,
            timeouts,
            limits,
            request_headers,
            response_headers,
            overrides,
        };
        inbound.protocol = inbound.spoken();
        inbound
    });
    SidecarConfig {
        version: config::VERSION,
        profile,
        token: token.to_owned(),
        log_level: effective.profile.proxy.log_level,
        access_log: effective.profile.proxy.access_log,
        tap: effective.profile.proxy.tap.unwrap_or_default(),
        interception: intercepted.chosen.mode,
        inbound: inbound.collect(),
        upstreams: intercepted.upstreams.configured.clone(),
        probes: probes.answered.clone(),
        app_metrics: scraping.app.as_ref().map(|(app, _)| app.clone()),
        logs: logs::sources(&effective.profile.logs),
        sync: sync::sources(pod, &effective.profile.sync),
    }
}

/// What is no HTTP has no request to ask for a credential: to pass it on would be to let everybody in.
fn refuse_auth_of_bytes(config: &SidecarConfig) -> Result<(), Refusal> {
    let open =
        config.inbound.iter().filter(|inbound| inbound.auth.is_some() && inbound.protocol != Protocol::Http);
    let errors: Vec<_> = open
        .map(|inbound| {
            format!(
                "port {} has auth in the profile and is not taken for HTTP: give it protocol: http, or an entry without auth",
                inbound.name
            )
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Rejected { reason: Reason::InvalidProfile, errors }) }
}

/// Where what the profile says of requests makes HTTP of a port that may speak anything, and where it is without effect.
fn warnings_of_protocols(config: &SidecarConfig, intercepted: &Intercepted) -> Vec<String> {
    let taken = &intercepted.takeover.ports;
    let was =
        |inbound: &Inbound| taken.iter().find(|port| port.port == inbound.target).map(|port| port.protocol);
    let warning = |inbound: &Inbound| {
        let what = if inbound.is_for_rest() {
            "every port that no container declares".to_owned()
        } else {
            format!("port {}", inbound.name)
        };
        match inbound.protocol {
            Protocol::Http if was(inbound) == Some(Protocol::Auto) => Some(format!(
                "{what} is taken for HTTP, since the profile has rules for its requests: what is spoken there else is refused. An entry of \
                 its own before that one, with its number and protocol: tcp, lets it pass"
            )),
            Protocol::Tcp if inbound.rules_requests() => Some(format!(
                "{what} is passed on as bytes, without what the profile says of its requests: give it protocol: http, or an entry of its own"
            )),
            _ => None,
        }
    };
    config.inbound.iter().filter_map(warning).collect()
}

/// The proxy's container, and what the user should know about it.
fn proxy(
    pod: Pod,
    context: &Context,
    effective: &Effective,
    takeover: &Takeover,
    placement: &Placement,
    config: &SidecarConfig,
    secrets: &[Mounted],
) -> (Value, Vec<String>) {
    let (resources, of_resources) = resources::plan(pod, &effective.profile.proxy.resources);
    let (user, of_user) = user::choose(context.namespace);
    let container = proxy_container::container(&ProxyContainer {
        settings: context.settings,
        resources,
        moved: takeover.moved(),
        secrets: secrets::mounts(secrets, &secrets::of_proxy(config)).collect(),
        native: placement.native,
        user,
        wait_for_app_seconds: native::wait_for_app_seconds(pod),
    });
    let of_placement = native::warnings(pod, effective.profile.native_sidecars, placement, context.token);
    (container, [of_placement, of_resources, of_user.into_iter().collect()].concat())
}

/// The init container, where there are rules to write.
fn init(context: &Context, effective: &Effective, intercepted: &Intercepted, proxy: &Value) -> Option<Value> {
    let redirected = intercepted.redirected.as_ref()?;
    Some(init_container::container(&InitContainer {
        settings: context.settings,
        resources: proxy["resources"].clone(),
        redirected,
        skip: &effective.profile.skip,
        user: user::choose(context.namespace).0,
    }))
}

/// The log adapter's container, where there are logs.
fn adapter(
    pod: Pod,
    context: &Context,
    effective: &Effective,
    placement: &Placement,
    proxy: &Value,
) -> Option<Value> {
    let logs = &effective.profile.logs;
    if logs.is_empty() {
        return None;
    }
    let (user, _) = user::choose(context.namespace);
    let (user, group) = logs::writer(pod, logs).unwrap_or((user, user));
    Some(logs_container::container(&LogsContainer {
        settings: context.settings,
        resources: resources::of_logs(pod, &proxy["resources"]),
        native: placement.native,
        user,
        group,
        wait_for_app_seconds: native::wait_for_app_seconds(pod),
    }))
}

/// The content sync's container, where there are repositories.
fn sync(
    pod: Pod,
    context: &Context,
    effective: &Effective,
    proxy: &Value,
    secrets: &[Mounted],
) -> Option<Value> {
    let specs = &effective.profile.sync;
    if specs.is_empty() {
        return None;
    }
    let (user, _) = user::choose(context.namespace);
    let (user, group) = sync::user(pod, specs).unwrap_or((user, user));
    let named: Vec<_> =
        specs.iter().filter_map(|spec| spec.git.secret_name.clone()).map(Mounted::Secret).collect();
    Some(sync_container::container(SyncContainer {
        settings: context.settings,
        resources: resources::of_sync(pod, &proxy["resources"], specs),
        start_seconds: sync::start_seconds(specs),
        user,
        group,
        grace_seconds: native::grace_seconds(pod),
        secrets: secrets::mounts(secrets, &named).collect(),
    }))
}

/// Writes the plan down, once as a patch and once as a report. Edits of the user's containers come before the new
/// container, whose place at the head of the list would shift their indices.
fn edit(pod: Pod, context: &Context, plan: Plan) -> Planned {
    let mut report = Report {
        version: context.settings.version.clone(),
        profile: plan.config.profile.clone(),
        config_hash: hash(&plan.config),
        containers: Vec::new(),
        volumes: vec![CONFIG_VOLUME.to_owned()],
        sidecars: plan.placement.clone(),
        interception: Some(plan.intercepted.chosen.choice()),
        ..Report::default()
    };
    let mut edit = Edit::new(pod);
    edit_containers(&mut edit, &mut report, pod, &plan);
    let Plan { effective, intercepted, config, .. } = &plan;
    add_volumes(&mut edit, &mut report, &plan);
    add_containers(&mut edit, &mut report, pod, &plan);
    let default_container = pod.annotations().find(|(key, _)| *key == DEFAULT_CONTAINER_ANNOTATION);
    if let (None, Some(app)) = (default_container, pod.containers().next()) {
        edit.insert("/metadata/annotations", DEFAULT_CONTAINER_ANNOTATION, app.name.into());
        report.default_container = Some(app.name.to_owned());
    }
    report.replaced_labels = replaced(pod, "/metadata/labels", &OUR_LABELS);
    report.replaced_annotations = replaced(pod, "/metadata/annotations", &OUR_ANNOTATIONS);
    edit.insert("/metadata/labels", INJECTED_LABEL, "true".into());
    if let Some((_, container)) = &plan.scraping.app {
        edit.insert("/metadata/labels", APP_METRICS_LABEL, container.as_str().into());
    }
    for (key, value) in &plan.scraping.annotations {
        edit.insert("/metadata/annotations", key, value.as_str().into());
    }
    if native::must_be_finished(pod, &plan.placement) {
        edit.insert("/metadata/labels", FINISH_LABEL, "true".into());
    }
    edit.insert("/metadata/annotations", CONFIG_ANNOTATION, json_text(&config).into());
    report.ports = intercepted.takeover.moved().to_vec();
    report.app_metrics = plan.scraping.described();
    report.annotations.clone_from(&plan.scraping.annotations);
    report.logs = logs::described(&effective.profile.logs);
    report.sync = sync::described(&effective.profile.sync);
    let told_by_hand = native::must_be_finished(pod, &plan.placement) && context.token.is_empty();
    let of_protocols = warnings_of_protocols(&plan.config, &plan.intercepted);
    let of_logs = logs::warnings(&effective.profile.logs, told_by_hand);
    let of_sync = sync::warnings(&effective.profile.sync);
    report.warnings = [
        effective.warnings.clone(),
        intercepted.warnings(),
        of_protocols,
        plan.probes.warnings,
        plan.scraping.warnings,
        plan.warnings,
        of_logs,
        of_sync,
    ]
    .concat();
    // By now every list and map that had to be created is known, the annotations' own included.
    report.created.clone_from(&edit.created);
    report.nulls.clone_from(&edit.nulls);
    edit.insert("/metadata/annotations", STATUS_ANNOTATION, json_text(&report).into());
    Planned { patch: edit.finish(), report, config: plan.config }
}

fn add_volumes(edit: &mut Edit, report: &mut Report, plan: &Plan) {
    let config_volume = proxy_container::config_volume();
    report.rendered.insert(CONFIG_VOLUME.to_owned(), rendered::fields(&config_volume));
    edit.append("/spec/volumes", config_volume);
    for volume in secrets::volumes(&plan.secrets) {
        let name = volume["name"].as_str().unwrap_or_default().to_owned();
        report.rendered.insert(name.clone(), rendered::fields(&volume));
        edit.append("/spec/volumes", volume);
        report.volumes.push(name);
    }
    if !report.mounts.is_empty() {
        let volume = shared_volume::volume(plan.effective.profile.shared_volume.as_ref());
        report.rendered.insert(SHARED_VOLUME.to_owned(), rendered::fields(&volume));
        edit.append("/spec/volumes", volume);
        report.volumes.push(SHARED_VOLUME.to_owned());
    }
}

fn add_containers(edit: &mut Edit, report: &mut Report, pod: Pod, plan: &Plan) {
    let native = plan.placement.native;
    let mut add = |list: &str, index: usize, container: &Value| {
        let name = container["name"].as_str().unwrap_or_default();
        report.containers.push(name.to_owned());
        report.rendered.insert(name.to_owned(), rendered::fields(container));
        edit.insert_item(list, index, container.clone());
    };
    // Beside plain containers, the user's init containers run before there is a proxy: the rules come when they have ended.
    let of_user = pod.containers().filter(|container| container.is_init()).count();
    if let Some(init) = &plan.init {
        add(INIT_CONTAINERS, if native { 0 } else { of_user }, init);
    }
    let first = usize::from(native && plan.init.is_some());
    let list = if native { INIT_CONTAINERS } else { CONTAINERS };
    let sidecars = [Some(&plan.proxy), plan.adapter.as_ref(), plan.sync.as_ref()];
    for (index, container) in sidecars.into_iter().flatten().enumerate() {
        add(list, first + index, container);
    }
}

/// What stood in the place of ours.
fn replaced(pod: Pod, map: &str, ours: &[&str]) -> BTreeMap<String, Value> {
    let found = |key: &str| Some((key.to_owned(), pod.at(&format!("{map}/{}", escape(key)))?.clone()));
    ours.iter().copied().filter_map(found).collect()
}

fn edit_containers(edit: &mut Edit, report: &mut Report, pod: Pod, plan: &Plan) {
    let pointers: HashMap<_, _> = pod.containers().map(|found| (found.name, found.pointer)).collect();
    let pointer = |name: &str| pointers[name];
    for port in plan.intercepted.takeover.moved() {
        edit.remove(&format!("{}/ports/{}/name", pointer(&port.container), port.index));
    }
    for change in &plan.probes.changes {
        change.apply(edit, &pointer(&change.record.container).to_string());
        report.probes.push(change.record.clone());
    }
    report.variables = plan.intercepted.upstreams.apply(edit, pod, plan.placement.native);
    for (container, mount) in &plan.mounts {
        edit.append(&format!("{}/volumeMounts", container.pointer), shared_volume::mount(mount));
        report.mounts.push(format!("{}:{}", mount.container, mount.path));
    }
}

/// The token is left out: it differs between two pods that are otherwise alike.
fn hash(sidecar: &SidecarConfig) -> String {
    config::hash(&json_text(&SidecarConfig { token: String::new(), ..sidecar.clone() }))
}

fn json_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our own types have string keys only, so they always serialize")
}
