//! A pod as raw JSON, read through typed views.

use std::collections::BTreeSet;

use outrigger_api::Reason;
use serde_json::{Map, Value};

use crate::outcome::Refusal;

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    json: &'a Value,
}

/// One container, and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a> {
    /// JSON pointer in the pod: `/spec/containers/0`.
    pub(crate) pointer: Pointer,
    pub(crate) name: &'a str,
    pub(crate) json: &'a Value,
}

/// A container's place, kept as two parts because most containers need no text for it.
#[derive(Clone, Copy)]
pub(crate) struct Pointer {
    list: &'static str,
    index: usize,
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.list, self.index)
    }
}

/// One entry of a container's `ports`.
#[derive(Clone, Copy)]
pub(crate) struct ContainerPort<'a> {
    pub(crate) index: usize,
    pub(crate) number: u16,
    pub(crate) name: Option<&'a str>,
    pub(crate) host_port: Option<u64>,
}

/// What Kubernetes allows, checked before us because it is not: the API server validates a pod after the webhooks have seen it. All
/// that is done with a pod takes time and memory by these, on a thread that all admissions share.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/api/validation/objectmeta.go>
const ANNOTATION_BYTES: usize = 256 << 10;
/// A DNS label, as the names of containers and volumes; those of ports are shorter still.
const NAME_BYTES: usize = 63;
/// Linux' `PATH_MAX`.
const PATH_BYTES: usize = 4096;

pub(crate) const CONTAINERS: &str = "/spec/containers";
pub(crate) const INIT_CONTAINERS: &str = "/spec/initContainers";

impl<'a> Pod<'a> {
    /// Checks what the patch relies on: `spec.containers` is a list of objects with a name of their own, what is added to
    /// is a list or a map. Everything else is the API server's to judge.
    pub(crate) fn new(json: &'a Value) -> Result<Self, Refusal> {
        let malformed = |what: &str| Err(Refusal::rejected(Reason::MalformedPod, what));
        for list in [CONTAINERS, INIT_CONTAINERS] {
            match json.pointer(list) {
                None | Some(Value::Null) if list == INIT_CONTAINERS => {}
                Some(Value::Array(items)) if items.iter().all(|item| item["name"].is_string()) => {}
                _ => return malformed(&format!("{} is no list of named containers", dotted(list))),
            }
        }
        for map in ["/metadata", "/metadata/labels", "/metadata/annotations"] {
            if json.pointer(map).is_some_and(|value| !value.is_object() && !value.is_null()) {
                return malformed(&format!("{} is no map", dotted(map)));
            }
        }
        if !is_list_or_absent(json.pointer("/spec/volumes")) {
            return malformed("spec.volumes is no list");
        }
        let pod = Self { json };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string().len(), str::len);
        if pod.annotations().map(|(key, value)| key.len() + text(value)).sum::<usize>() > ANNOTATION_BYTES {
            return malformed(&format!("metadata.annotations has more than {ANNOTATION_BYTES} bytes"));
        }
        let mut names = BTreeSet::new();
        for container in pod.containers() {
            if let Some(what) = container.too_long() {
                return malformed(&what);
            }
            for list in ["ports", "volumeMounts", "env"] {
                if !is_list_or_absent(container.json.get(list)) {
                    return malformed(&format!("{list} of container {} is no list", container.name));
                }
            }
            if !names.insert(container.name) {
                return malformed(&format!("two containers are called {}", container.name));
            }
        }
        Ok(pod)
    }

    /// A pod of which only single fields are read, whatever its form.
    pub(crate) fn unchecked(json: &'a Value) -> Self {
        Self { json }
    }

    pub(crate) fn at(self, pointer: &str) -> Option<&'a Value> {
        at(self.json, pointer)
    }

    pub(crate) fn annotation(self, key: &str) -> Option<&'a str> {
        self.json["metadata"]["annotations"][key].as_str()
    }

    pub(crate) fn annotations(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.json["metadata"]["annotations"]
            .as_object()
            .into_iter()
            .flat_map(Map::iter)
            .map(|(k, v)| (k.as_str(), v))
    }

    /// App containers first, then init containers, as Kubernetes looks up a Service's named port.
    pub(crate) fn containers(self) -> impl Iterator<Item = Container<'a>> {
        [CONTAINERS, INIT_CONTAINERS].into_iter().flat_map(move |list| {
            let items = at(self.json, list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            items.iter().enumerate().map(move |(index, json)| Container {
                pointer: Pointer { list, index },
                name: json["name"].as_str().unwrap_or_default(),
                json,
            })
        })
    }

    pub(crate) fn container(self, name: &str) -> Option<Container<'a>> {
        self.containers().find(|container| container.name == name)
    }

    pub(crate) fn volumes(self) -> &'a [Value] {
        self.json["spec"]["volumes"].as_array().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn volume_names(self) -> impl Iterator<Item = &'a str> {
        self.volumes().iter().filter_map(|volume| volume["name"].as_str())
    }
}

impl<'a> Container<'a> {
    /// A name or path that no API server takes. Each may come in a sentence about each of thousands of ports or mounts.
    fn too_long(self) -> Option<String> {
        let place = format!("{}/{}", self.pointer.list, self.pointer.index);
        let place = dotted(&place);
        if self.name.len() > NAME_BYTES {
            return Some(format!("the name of {place} has more than {NAME_BYTES} bytes"));
        }
        let longer = |list: &str, field: &str, most: usize| {
            let items = self.json[list].as_array().into_iter().flatten();
            let texts = items.into_iter().filter_map(|item| item[field].as_str());
            let found = texts.into_iter().any(|text| text.len() > most);
            found.then(|| format!("a {field} in {list} of {place} has more than {most} bytes"))
        };
        longer("ports", "name", NAME_BYTES)
            .or_else(|| longer("volumeMounts", "name", NAME_BYTES))
            .or_else(|| longer("volumeMounts", "mountPath", PATH_BYTES))
    }

    /// Whether it runs as long as the pod: an app container, or a native sidecar of the user's.
    pub(crate) fn is_long_running(self) -> bool {
        self.pointer.list == CONTAINERS || self.json["restartPolicy"] == "Always"
    }

    /// Whether it starts before the app containers.
    pub(crate) fn is_init(self) -> bool {
        self.pointer.list == INIT_CONTAINERS
    }

    /// Its TCP ports. Others (UDP, SCTP) can't pass through the proxy.
    pub(crate) fn tcp_ports(self) -> impl Iterator<Item = ContainerPort<'a>> {
        let ports = self.json["ports"].as_array().map_or(&[][..], Vec::as_slice);
        ports.iter().enumerate().filter_map(|(index, port)| {
            let tcp = port.get("protocol").is_none_or(|protocol| protocol == "TCP" || protocol.is_null());
            let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
            tcp.then(|| ContainerPort {
                index,
                number,
                name: port["name"].as_str().filter(|name| !name.is_empty()),
                host_port: port["hostPort"].as_u64().filter(|port| *port > 0),
            })
        })
    }
}

/// What a JSON pointer (RFC 6901) points at. `Value::pointer` makes two strings of each step, for dozens of pointers a pod.
fn at<'a>(json: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(json, |value, step| match value {
        Value::Object(map) if step.contains('~') => map.get(&step.replace("~1", "/").replace("~0", "~")),
        Value::Object(map) => map.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

fn is_list_or_absent(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_array() || value.is_null())
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}
