//! Pods as nobody would write them, most of them just sound enough to be injected.

use serde_json::{Map, Value, json};

use super::dice::Dice;

const WORDS: [&str; 12] =
    ["a", "app", "web", "", "~", "/", "a/b~c", "é", "日本", "\"quoted\"", "two\nlines", "outrigger-x"];
const PORTS: [&str; 8] = ["http", "http-web", "grpc", "metrics", "a", "", "日本", "http"];
const PATHS: [&str; 8] = ["/", "/v", "/srv", "/srv/www", "/srv/www/", "/srv/www/in", "/shared", "relative"];
const VOLUMES: [&str; 5] = ["v", "w", "kube-api-access-x", "serviceaccount", ""];

pub(crate) fn profile(dice: &mut Dice) -> Value {
    let mut spec = json!({});
    if dice.once_in(3) {
        let mount = |dice: &mut Dice, container: &str| json!({"container": container, "path": dice.word(&["/shared", "/srv/www", "/v"]), "readOnly": dice.once_in(2)});
        let mut mounts = vec![mount(dice, "app0")];
        if dice.once_in(3) {
            mounts.push(mount(dice, "app1"));
        }
        spec["sharedVolume"] = json!({ "mounts": mounts });
    }
    if dice.once_in(4) {
        spec["inbound"] = json!([{"port": dice.word(&["http", "metrics"]), "protocol": "http"}, {}]);
    }
    if dice.once_in(3) {
        spec["interception"] = "redirect".into();
        spec["skip"] = json!({"inboundPorts": [dice.word(&["http", "metrics", "8080", "*"])]});
    }
    if dice.once_in(3) {
        let env = dice.word(&["API_URL", "A", "MODE"]);
        spec["upstreams"] = json!([{"name": "api", "host": "api", "port": 80, "env": env}, {"name": "db", "host": "db", "port": 5432}]);
    }
    if dice.once_in(4) {
        let path = dice.word(&["/var/log/app", "/srv", "/srv/www/logs", "/v/"]);
        let mut logs = vec![json!({"container": "app0", "path": path})];
        if dice.once_in(3) {
            logs.push(
                json!({"container": "app1", "path": "/logs", "format": dice.word(&["json", "logfmt"])}),
            );
        }
        spec["logs"] = logs.into();
    }
    spec
}

pub(crate) fn pod(dice: &mut Dice) -> Value {
    let mut spec = object(dice, |dice, spec| {
        let count = 1 + dice.roll(3);
        spec("containers", list(dice, count, |dice, index| container(dice, &format!("app{index}"))));
        if dice.once_in(2) {
            let count = dice.roll(3);
            spec("initContainers", list(dice, count, |dice, index| container(dice, &format!("init{index}"))));
        }
        if dice.once_in(2) {
            let count = dice.roll(4);
            spec("volumes", list(dice, count, volume));
        }
        if dice.once_in(4) {
            spec("restartPolicy", dice.word(&["Never", "OnFailure", "Always"]));
        }
        if dice.once_in(20) {
            spec("hostNetwork", dice.once_in(2).into());
        }
        if dice.once_in(8) {
            spec("ephemeralContainers", json!([{"name": "debugger", "image": "busybox"}]));
        }
    });
    if dice.once_in(10) {
        spec["securityContext"] = json!({"runAsUser": dice.roll(20_000), "fsGroup": 5});
    }
    let mut pod = object(dice, |dice, pod| {
        pod("spec", spec.take());
        if !dice.once_in(10) {
            pod("metadata", metadata(dice));
        }
    });
    if dice.once_in(8) {
        spoil(&mut pod, dice);
    }
    pod
}

fn metadata(dice: &mut Dice) -> Value {
    object(dice, |dice, metadata| {
        if dice.once_in(2) {
            metadata("labels", strings(dice, &["app", "a/b", "outrigger.dev/other", "outrigger.dev/finish"]));
        }
        if dice.once_in(2) {
            let mut annotations = strings(dice, &["note", "x/y", "kubectl.kubernetes.io/default-container"]);
            if dice.once_in(4) {
                let knob = dice.word(&[
                    "inbound-ports",
                    "skip-inbound-ports",
                    "proxy-cpu-limit",
                    "log-level",
                    "logs",
                    "log-format",
                    "new",
                    "config",
                    "status",
                ]);
                let key = format!("outrigger.dev/{}", knob.as_str().unwrap());
                annotations[key] = dice.word(&[
                    "http",
                    "8080",
                    "debug",
                    "1",
                    "",
                    "nonsense!",
                    "json",
                    "app0=/var/log/*.log",
                    "app0=/a/b/*,app0=/a/*,app1=/srv/x.log",
                ]);
            }
            metadata("annotations", annotations);
        }
        if dice.once_in(20) {
            metadata("labels", Value::Null);
            metadata("annotations", Value::Null);
        }
    })
}

fn container(dice: &mut Dice, name: &str) -> Value {
    object(dice, |dice, container| {
        container("name", if dice.once_in(300) { dice.word(&WORDS) } else { name.into() });
        if !dice.once_in(4) {
            let count = dice.roll(4);
            container("ports", list(dice, count, |dice, _| port(dice)));
        }
        if dice.once_in(3) {
            let count = dice.roll(3);
            container("volumeMounts", list(dice, count, |dice, _| mount(dice)));
        }
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if dice.once_in(3) {
                container(probe, handler(dice));
            }
        }
        if dice.once_in(6) {
            let (start, stop) = (handler(dice), handler(dice));
            container("lifecycle", json!({"postStart": start, "preStop": stop}));
        }
        if dice.once_in(5) {
            container("restartPolicy", "Always".into());
        }
        if dice.once_in(5) {
            container(
                "env",
                json!([{"name": "A", "value": dice.word(&WORDS)}, {"name": "A", "value": null}]),
            );
        }
        if dice.once_in(8) {
            container("resources", json!({"limits": {"cpu": dice.word(&["1", "100m"]), "memory": "1Gi"}}));
        }
    })
}

fn port(dice: &mut Dice) -> Value {
    object(dice, |dice, port| {
        if !dice.once_in(5) {
            port("name", dice.word(&PORTS));
        }
        let usual = [80, 8080, 9000, 15_200, 15_201, 65_535];
        let rare = [0, 15_190, 65_536, -1];
        port(
            "containerPort",
            if dice.once_in(40) { *dice.one_of(&rare) } else { *dice.one_of(&usual) }.into(),
        );
        if dice.once_in(3) {
            port("protocol", dice.word(&["TCP", "UDP", "SCTP"]));
        }
        if dice.once_in(10) {
            port("hostPort", dice.roll(3).into());
        }
    })
}

fn handler(dice: &mut Dice) -> Value {
    let port = if dice.once_in(2) { dice.word(&PORTS) } else { (*dice.one_of(&[80, 8080, 15_190])).into() };
    object(dice, |dice, handler| match dice.roll(5) {
        0 => handler("tcpSocket", json!({ "port": port })),
        1 => handler("grpc", json!({"port": 8080, "service": dice.word(&WORDS)})),
        2 => handler("exec", json!({"command": ["true"]})),
        _ => handler(
            "httpGet",
            json!({"port": port, "path": dice.word(&PATHS), "host": dice.word(&["", "localhost"])}),
        ),
    })
}

fn mount(dice: &mut Dice) -> Value {
    object(dice, |dice, mount| {
        mount("name", dice.word(&VOLUMES));
        mount("mountPath", dice.word(&PATHS));
        if dice.once_in(3) {
            mount("readOnly", dice.once_in(2).into());
        }
    })
}

fn volume(dice: &mut Dice, index: usize) -> Value {
    object(dice, |dice, volume| {
        volume("name", if dice.once_in(200) { "outrigger-config".into() } else { VOLUMES[index].into() });
        let kind: &&str = dice.one_of(&["emptyDir", "configMap", "projected", "hostPath", "future"]);
        volume(kind, json!({}));
    })
}

/// A map of what `fill` gives, and of fields that nobody knows, the unknown ones first or last.
fn object(dice: &mut Dice, fill: impl FnOnce(&mut Dice, &mut dyn FnMut(&str, Value))) -> Value {
    let mut map = Map::new();
    if dice.once_in(10) {
        map.insert("futureFirst".to_owned(), anything(dice, 2));
    }
    fill(dice, &mut |key, value| {
        map.insert(key.to_owned(), value);
    });
    if dice.once_in(10) {
        map.insert("future~/Last".to_owned(), anything(dice, 2));
    }
    Value::Object(map)
}

fn list(dice: &mut Dice, count: usize, mut item: impl FnMut(&mut Dice, usize) -> Value) -> Value {
    (0..count).map(|index| item(dice, index)).collect()
}

fn strings(dice: &mut Dice, keys: &[&str]) -> Value {
    let keys = keys.iter().filter(|_| dice.once_in(2)).map(|key| (*key).to_owned()).collect::<Vec<_>>();
    keys.into_iter().map(|key| (key, dice.word(&WORDS))).collect::<Map<_, _>>().into()
}

/// Any JSON.
fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.roll(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => dice.once_in(2).into(),
        2 => (*dice.one_of(&[0_i64, -1, i64::MAX, 15_190])).into(),
        3 => "long".repeat(if dice.once_in(20) { 500 } else { 1 }).into(),
        4 => dice.word(&WORDS),
        5 => (0..dice.roll(3)).map(|_| anything(dice, depth - 1)).collect(),
        _ => Value::Object(
            (0..dice.roll(3)).map(|i| (WORDS[i].to_owned(), anything(dice, depth - 1))).collect(),
        ),
    }
}

/// Puts anything in the place of a field somewhere.
fn spoil(value: &mut Value, dice: &mut Dice) {
    let children = match value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if children == 0 || dice.once_in(6) {
        *value = anything(dice, 2);
        return;
    }
    let chosen = dice.roll(children);
    match value {
        Value::Object(map) => map.values_mut().nth(chosen).into_iter().for_each(|child| spoil(child, dice)),
        Value::Array(list) => spoil(&mut list[chosen], dice),
        _ => {}
    }
}
