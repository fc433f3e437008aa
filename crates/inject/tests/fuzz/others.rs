//! What other webhooks and the API server do to a pod, after us and without us alike.

use serde_json::{Value, json};

use super::dice::Dice;

/// Makes the same changes to the pod without our parts and to the one with them; to containers of ours, too.
pub(crate) fn change(without: &mut Value, with: &mut Value, dice: &mut Dice) {
    for _ in 0..=dice.roll(3) {
        match dice.roll(10) {
            0 | 1 => {
                let ports = json!([{"name": dice.word(&["late", "http", "p2"]), "containerPort": 7000 + dice.roll(3)}]);
                let name = format!("late{}", dice.roll(1000));
                let added = json!({
                    "name": name,
                    "ports": ports,
                    "readinessProbe": {"tcpSocket": {"port": "late"}},
                });
                both(without, with, |pod| push(pod, "containers", &added, false));
            }
            2 => {
                let added = json!({"name": format!("late-init{}", dice.roll(1000))});
                let first = dice.once_in(2);
                both(without, with, |pod| push(pod, "initContainers", &added, first));
            }
            3 => {
                let added = json!({"name": format!("late-volume{}", dice.roll(1000)), "emptyDir": {}});
                both(without, with, |pod| push(pod, "volumes", &added, false));
            }
            4 => both(without, with, |pod| {
                let app = items(pod, "containers").find(|item| !is_ours(item));
                if let Some(app) = app.and_then(Value::as_object_mut) {
                    app.insert("terminationMessagePath".to_owned(), "/dev/termination-log".into());
                }
            }),
            5 => both(without, with, |pod| {
                if let Some(annotations) =
                    pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
                {
                    annotations.insert("late/annotation".to_owned(), "x".into());
                }
            }),
            6 | 7 => replace_probe(without, with, dice),
            8 => of_ours(with, |ours| ours["image"] = "mirror.example/sidecar".into()),
            _ => of_ours(with, |ours| {
                let late = json!({"name": "LATE", "value": "1"});
                let env = ours["env"].as_array_mut().expect("our container has variables");
                if !env.contains(&late) {
                    env.push(late);
                }
                ours["imagePullPolicy"] = "IfNotPresent".into();
            }),
        }
    }
    // What only the pod with our parts had room for.
    let late = "late/annotation";
    if with["metadata"]["annotations"].get(late).is_some()
        && without.pointer(&format!("/metadata/annotations/{}", late.replace('/', "~1"))).is_none()
    {
        with["metadata"]["annotations"].as_object_mut().into_iter().for_each(|map| {
            map.shift_remove(late);
        });
    }
}

/// Another probe for the app.
fn replace_probe(without: &mut Value, with: &mut Value, dice: &mut Dice) {
    let kind = dice.word(&["readinessProbe", "livenessProbe", "startupProbe"]);
    // No port of the generator's: the number that a name was turned into would be taken for ours, and asks the same.
    let probe = match dice.roll(4) {
        0 => json!({"exec": {"command": ["true"]}}),
        1 => json!({"tcpSocket": {"port": 8099}}),
        2 => json!({"httpGet": {"path": "/new", "port": 8099}}),
        _ => json!({"httpGet": {"path": "/of-theirs", "port": 15_020}}),
    };
    both(without, with, |pod| {
        let app = items(pod, "containers").find(|item| !is_ours(item));
        if let (Some(app), Some(kind)) = (app.and_then(Value::as_object_mut), kind.as_str()) {
            app.insert(kind.to_owned(), probe.clone());
        }
    });
}

fn both(without: &mut Value, with: &mut Value, change: impl Fn(&mut Value)) {
    change(without);
    change(with);
}

fn push(pod: &mut Value, list: &str, item: &Value, first: bool) {
    let spec = pod["spec"].as_object_mut().expect("an injected pod has a spec");
    let items = spec.entry(list).or_insert_with(|| json!([]));
    if items.is_null() {
        *items = json!([]);
    }
    let items = items.as_array_mut().expect("what is added to is a list");
    if items.iter().any(|there| there["name"] == item["name"]) {
        return;
    }
    items.insert(if first { 0 } else { items.len() }, item.clone());
}

fn of_ours(pod: &mut Value, change: impl Fn(&mut Value)) {
    for list in ["containers", "initContainers"] {
        items(pod, list).filter(|item| item["name"] == "outrigger-proxy").for_each(&change);
    }
}

fn items<'a>(pod: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn is_ours(container: &Value) -> bool {
    container["name"] == "outrigger-proxy" || container["name"] == "outrigger-logs"
}
