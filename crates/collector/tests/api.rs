//! The JSON, as programs ask for it.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;
use support::{Collector, FAST, Load, Sidecar, content_sync, eventually, pod, pod_with_files};

/// Status and body of a GET with these further header lines.
fn ask(url: &str, path: &str, lines: &str) -> (u16, String) {
    let host = url.strip_prefix("http://").unwrap();
    let lines = if lines.contains("Host:") { lines.to_owned() } else { format!("Host: {host}\r\n{lines}") };
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn json(collector: &Collector, path: &str) -> Value {
    let (status, body) = ask(&collector.url, path, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Whether each field that the schema demands is there, and no other than those it knows.
fn fits(value: &Value, schema: &Value, all: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(value, &all[name.rsplit('/').next().unwrap()], all, at);
    }
    if let (Value::Object(fields), Some(known)) = (value, schema["properties"].as_object()) {
        for (name, field) in fields {
            assert!(known.contains_key(name), "{at}.{name} is not in the document");
            let schema = &known[name];
            fits(field, schema, all, &format!("{at}.{name}"));
        }
        for required in schema["required"].as_array().unwrap() {
            assert!(fields.contains_key(required.as_str().unwrap()), "{at} has no {required}");
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], all, &format!("{at}[]"));
    }
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{at}: {value}");
    }
}

#[test]
fn what_is_told_is_what_the_document_describes() {
    let sidecar = Sidecar::start(Load { errors_of_100: 50, ..FAST });
    let files = content_sync(
        "v2",
        "2026-01-01T10:00:00Z",
        Some(("BadTree", "movie.mp4: files in Git LFS are not fetched")),
    );
    let collector = Collector::start(&[pod_with_files("api", 0, sidecar.address, files)]);
    eventually("there are figures and files", || {
        json(&collector, "/api/v1/mesh")["services"][0]["figures"]["rate"] != 0.0
            && json(&collector, "/api/v1/pods/shop/api-5d9f-0")["sync"][0]["version"] == "v2"
    });
    let document = json(&collector, "/api/v1/openapi.json");
    for (path, schema) in [
        ("/api/v1/mesh", "Mesh"),
        ("/api/v1/services/shop/api", "Service"),
        ("/api/v1/pods/shop/api-5d9f-0", "Pod"),
    ] {
        let schemas = &document["components"]["schemas"];
        fits(&json(&collector, path), &schemas[schema], schemas, schema);
    }
    for path in document["paths"].as_object().unwrap().keys() {
        let path = path.replace("{namespace}", "shop").replace("{name}", "nobody");
        let (status, _) = if path.contains("events") {
            continue;
        } else {
            ask(&collector.url, &format!("/api/v1{path}"), "")
        };
        assert_eq!(status, if path.contains("nobody") { 404 } else { 200 }, "{path}");
    }
}

#[test]
fn neither_other_sites_nor_other_names_are_answered() {
    let collector = Collector::start(&[]);
    assert_eq!(ask(&collector.url, "/api/v1/mesh", "Host: rebound.example\r\n").0, 421);
    assert_eq!(ask(&collector.url, "/", "Host: rebound.example\r\n").0, 421);
    assert_eq!(ask(&collector.url, "/api/v1/mesh", "Sec-Fetch-Site: cross-site\r\n").0, 403);
    assert_eq!(ask(&collector.url, "/api/v1/mesh", "Origin: https://evil.example\r\n").0, 403);
    assert_eq!(ask(&collector.url, "/api/v1/mesh", "").0, 200);
}

/// One hangs, one sends garbage without end, one knows another token: the fourth is watched all the same.
#[test]
fn pods_that_hang_or_lie_delay_nobody() {
    let serve = |answer: &'static [u8], forever: bool| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while !answer.is_empty() && stream.write_all(answer).is_ok() && forever {}
                open.push(stream);
            }
        });
        address
    };
    let hangs = serve(b"", false);
    let floods =
        serve(b"HTTP/1.1 200 OK\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", true);
    let garbage = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"ports\":", false);
    let well = Sidecar::start(FAST);
    let pods = [hangs, floods, garbage, well.address].into_iter().enumerate();
    let collector =
        Collector::start(&pods.map(|(number, address)| pod("api", number, address)).collect::<Vec<_>>());
    let state = |number: usize| {
        let told = json(&collector, &format!("/api/v1/pods/shop/api-5d9f-{number}"));
        (told["state"].as_str().unwrap().to_owned(), told["findings"][0]["text"].to_string())
    };
    for (number, why) in [(0, "no answer within"), (1, "too long"), (2, "no /stats document")] {
        eventually(why, || {
            let (is, text) = state(number);
            is == "gone" && text.contains(why)
        });
    }
    eventually("the fourth is well", || state(3).0 == "good");
}

/// How many pods of a service are in each state.
fn states(collector: &Collector, service: &str) -> Value {
    let mesh = json(collector, "/api/v1/mesh");
    let services = mesh["services"].as_array().unwrap();
    services
        .iter()
        .find(|known| known["name"] == service)
        .map(|known| known["pods"].clone())
        .unwrap_or_default()
}

fn are(states: &Value, some: &[&str]) -> usize {
    some.iter().map(|state| usize::try_from(states[*state].as_u64().unwrap_or_default()).unwrap()).sum()
}

const WELL: [&str; 2] = ["good", "elevated"];

/// Once, pods that answered last kept the turns of the others for two seconds each: with some hundreds, all were marked. So many as here
/// also fill the queue of those that take long.
#[test]
fn hundreds_of_pods_that_hang_at_once_take_no_others_with_them() {
    const MANY: usize = 800;
    let (good, bad) = (Sidecar::start(FAST), Sidecar::start(FAST));
    let pods = (0..5).map(|number| pod("good", number, good.address));
    let pods = pods.chain((0..MANY).map(|number| pod("bad", number, bad.address)));
    let collector = Collector::start(&pods.collect::<Vec<_>>());
    eventually("all are well", || {
        are(&states(&collector, "good"), &WELL) == 5 && are(&states(&collector, "bad"), &WELL) == MANY
    });
    let _hung = bad.hang();
    eventually("all that hang are marked", || {
        assert_eq!(are(&states(&collector, "good"), &WELL), 5, "nobody else is");
        are(&states(&collector, "bad"), &["gone"]) == MANY
    });
}

/// Once, a log adapter that hung kept its pod's turn: with some hundreds of them, no pod was asked in time, though each `/stats`
/// answered at once.
#[test]
fn log_adapters_that_hang_keep_no_pod_from_being_asked() {
    const MANY: usize = 600;
    let sidecar = Sidecar::start(FAST);
    let adapter = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = adapter.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in adapter.incoming() {
            open.push(stream.unwrap());
            counted.fetch_add(1, Relaxed);
        }
    });
    let pods = (0..MANY).map(|number| {
        let mut pod = pod("api", number, sidecar.address);
        let ports = pod["spec"]["initContainers"][0]["ports"].as_array_mut().unwrap();
        ports.push(serde_json::json!({"name": "outrigger-logs", "containerPort": address.port()}));
        pod
    });
    let collector = Collector::start(&pods.collect::<Vec<_>>());
    eventually("all are well", || are(&states(&collector, "api"), &WELL) == MANY);
    let before = asked.load(Relaxed);
    eventually("each adapter has hung twice", || {
        assert_eq!(are(&states(&collector, "api"), &["gone"]), 0, "all pods answer");
        asked.load(Relaxed) >= before + 2 * MANY
    });
}

/// Once, an error told the document it came from: 240 kB of whatever a pod liked to say, each second to each page.
#[test]
fn why_a_pod_has_no_figures_is_told_in_the_collectors_own_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let lie = format!("{{\"resources\":{{\"cpu\":{{\"of\":\"\\u001b[2J{}\"}}}}}}", "liar".repeat(10_000));
        let answer =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{lie}", lie.len());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let collector = Collector::start(&[pod("api", 0, address)]);
    let mut told = String::new();
    eventually("it is marked", || {
        told = json(&collector, "/api/v1/pods/shop/api-5d9f-0").to_string();
        told.contains("no /stats document")
    });
    assert!(!told.contains("liar") && !told.contains("[2J") && told.len() < 5000, "{told}");
}
