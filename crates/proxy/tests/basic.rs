//! Names and passwords: who has a good pair gets through, without holding up anybody else.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_api::auth::{AuthSpec, BasicSpec};
use outrigger_proxy::limits::Limits;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use support::app::Count;
use support::client::Client;
use support::guarded::{ask, decisions, guarded, guarded_within};
use support::http2::{connect, run};
use support::tls::Secrets;
use support::{PATIENCE, Running, wait_until};

/// Of `secret`, by the C library's `crypt`, at the lowest cost.
const ADA: &str = "ada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// Of `password`, from the tests of argon2's reference implementation.
const BOB: &str =
    "bob:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n";

/// One at a time, as hashes are made one at a time in the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spec() -> AuthSpec {
    let basic = BasicSpec {
        secret_name: "users".to_owned(),
        realm: "The shop".to_owned(),
        name_header: Some("X-User".to_owned()),
    };
    AuthSpec {
        basic: Some(basic),
        exempt_paths: vec!["/healthz".to_owned()],
        rules: serde_json::from_value(json!([
            {"pathPrefixes": ["/admin"], "claims": [{"claim": "sub", "values": ["ada"]}]},
            {"pathPrefixes": ["/shop"]},
        ]))
        .unwrap(),
        ..AuthSpec::default()
    }
}

/// A proxy that asks for a password, and how often its app was asked.
fn proxy(name: &str, users: &str) -> (Running, Count, Secrets) {
    let secrets = Secrets::new(&format!("basic-{name}"));
    secrets.write("users", &[("htpasswd", users)]);
    let (proxy, hits) = guarded(&secrets, spec());
    (proxy, hits, secrets)
}

fn with(credential: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(credential))
}

#[test]
fn good_passwords_pass_and_the_app_is_told_the_name_and_not_the_password() {
    let _alone = alone();
    let (proxy, hits, _secrets) = proxy("good", &format!("{ADA}{BOB}"));
    for credential in ["ada:secret", "bob:password", "ada:secret"] {
        let (name, password) = credential.split_once(':').unwrap();
        let answer =
            ask(&proxy, "GET /shop", &format!("{}X-User: root\r\nx_user: root\r\n", with(credential)));
        let told = answer.text();
        assert_eq!(answer.status, 200);
        assert!(told.contains(&format!("X-User: {name}\r\n")), "{told}");
        let credential = STANDARD.encode(credential);
        for secret in ["root", password, &credential, "Authorization"] {
            assert!(!told.contains(secret), "{told}");
        }
        assert!(!proxy.stats(support::TOKEN).1.to_string().contains(&credential));
    }
    assert_eq!(ask(&proxy, "GET /admin", &with("ada:secret")).status, 200);
    assert_eq!(ask(&proxy, "GET /admin", &with("bob:password")).status, 403);
    // The app got the password there.
    let exempt = ask(&proxy, "GET /healthz", &with("ada:secret"));
    assert!(exempt.status == 200 && !exempt.text().contains("Authorization"), "{}", exempt.text());
    let others = ask(&proxy, "GET /healthz", "Authorization: Bearer x\r\n");
    assert!(others.text().contains("Authorization: Bearer x"), "{}", others.text());
    assert_eq!(hits.get(), 6);
}

#[test]
fn a_thousand_bad_passwords_and_the_app_sees_none() {
    let _alone = alone();
    let (proxy, hits, _secrets) = proxy("bad", ADA);
    let mut bad: Vec<String> = [
        "",
        "ada",
        "ada:",
        "ada:secret ",
        "ada:secret\0secret",
        "ada:Secret",
        "Ada:secret",
        ":secret",
        "eve:secret",
    ]
    .iter()
    .map(|credential| with(credential))
    .collect();
    bad.extend((0..3).map(|n| with(&format!("ada:{n}"))));
    bad.extend(
        [
            "Basic",
            "Basic ",
            "Basic !!!!",
            "Basic YWRhOnNlY3JldA",
            "Basic YWRhOnNlY3JldA== x",
            "Bearer YWRhOnNlY3JldA==",
            "Basic /+8=",
        ]
        .map(|value| format!("Authorization: {value}\r\n")),
    );
    bad.push(with(&format!("ada:{}", "x".repeat(2000))));
    bad.push(with("ada:secret").repeat(2));
    bad.push(String::new());
    let mut client = proxy.connect();
    for headers in bad.iter().cycle().take(1000) {
        client.send(format!("GET /shop HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        let answer = client.answer();
        assert!(answer.status == 401 && answer.has("outrigger-reason: unauthenticated"), "{headers}");
        assert!(
            answer.has(r#"WWW-Authenticate: Basic realm="The shop", charset="UTF-8""#),
            "{}",
            answer.head
        );
    }
    assert_eq!(hits.get(), 0);
    assert_eq!(ask(&proxy, "GET /shop", &with("ada:secret")).status, 200);
}

#[test]
fn a_changed_file_counts_at_once_also_for_who_was_good_before() {
    let _alone = alone();
    let (proxy, _, secrets) = proxy("rotation", ADA);
    assert_eq!(ask(&proxy, "GET /shop", &with("ada:secret")).status, 200);
    let reloaded = r#"auth_keys_last_reload_success{direction="inbound",port="web"}"#;
    for bad in ["", "ada:secret\n", "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"] {
        secrets.write("users", &[("htpasswd", bad)]);
        wait_until("it is refused", || proxy.metric(reloaded) == 0);
        assert_eq!(ask(&proxy, "GET /shop", &with("ada:secret")).status, 200, "{bad}");
    }
    secrets.write("users", &[("htpasswd", BOB)]);
    wait_until("it is taken", || ask(&proxy, "GET /shop", &with("bob:password")).status == 200);
    assert_eq!(ask(&proxy, "GET /shop", &with("ada:secret")).status, 401);
}

/// A client at this address.
fn from(address: [u8; 4], port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    Client { reader: BufReader::new(socket.into()) }
}

/// Wrong passwords at the same time, more than may wait.
fn forty_guesses(proxy: &Running) -> Vec<Client> {
    let guess = |n| {
        let mut client = proxy.connect();
        client.send(format!("GET /shop HTTP/1.1\r\nHost: a\r\n{}\r\n", with(&format!("ada:{n}"))));
        client
    };
    (0..40).map(guess).collect()
}

/// Wrong passwords of one client turned away everybody whose own was not remembered.
#[test]
fn guesses_of_one_client_turn_away_nobody_else() {
    let _alone = alone();
    let (proxy, _, _secrets) = proxy("share", &ADA.replace("$04$", "$07$"));
    let guesses = forty_guesses(&proxy);
    wait_until("its places are taken", || decisions(&proxy, "busy") >= 7);
    let mut other = from([127, 0, 0, 2], proxy.port);
    other.send(format!("GET /shop HTTP/1.1\r\nHost: a\r\n{}\r\n", with("ada:secret")));
    assert_eq!(other.answer().status, 401, "in its turn: the hash is of another cost than the password's");
    drop(guesses);
}

/// A hash takes long on purpose; on the worker's thread it would hold up every other request.
#[test]
fn guesses_hold_up_nobody_else() {
    let _alone = alone();
    let (proxy, _, _secrets) = proxy("guesses", &ADA.replace("$04$", "$07$"));
    let guesses = forty_guesses(&proxy);
    // All but those that wait and the one whose turn it is.
    wait_until("the queue is full", || decisions(&proxy, "busy") >= 7);
    let turned_away = ask(&proxy, "GET /shop", &with("ada:more"));
    assert!(turned_away.status == 503 && turned_away.has("outrigger-reason: too_many_requests"));
    let before = decisions(&proxy, "invalid");
    (0..20).for_each(|_| assert_eq!(ask(&proxy, "GET /healthz", "").status, 200));
    // Behind the hashes, each of the 20 would have waited for one.
    assert!(decisions(&proxy, "invalid") - before < 20, "{}", decisions(&proxy, "invalid") - before);
    drop(guesses);
}

/// Hashes by argon2 took memory that nobody had counted: beside slow clients, one password could end the proxy.
#[test]
fn a_hash_is_made_where_its_memory_fits_beside_what_others_hold() {
    let _alone = alone();
    // Bob's hash takes 256 KiB, whoever is asked for, and a request 16.
    for (name, users, kibibytes, good) in
        [("tight", BOB, 200, 503), ("bcrypt", ADA, 200, 401), ("room", BOB, 300, 200)]
    {
        let secrets = Secrets::new(&format!("basic-{name}"));
        secrets.write("users", &[("htpasswd", users)]);
        let limits = Limits { buffers: kibibytes * 1024, ..Limits::default() };
        let (proxy, _hits) = guarded_within(&secrets, spec(), limits);
        let bad = if good == 503 { 503 } else { 401 };
        // Each gives its memory back.
        for (password, wanted) in [("guess", bad), ("password", good), ("other", bad)] {
            let answer = ask(&proxy, "GET /shop", &with(&format!("bob:{password}")));
            assert_eq!(answer.status, wanted, "{name} {password}");
            assert_eq!(answer.has("outrigger-reason: too_many_requests"), wanted == 503);
        }
    }
}

#[test]
fn by_http2_it_is_the_same() {
    let _alone = alone();
    let (proxy, hits, _secrets) = proxy("http2", ADA);
    run(async {
        let client = connect(proxy.port).await;
        let (head, _) = client.get("/shop").await;
        assert_eq!(head.status.as_u16(), 401);
        assert!(head.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
    });
    assert_eq!(hits.get(), 0);
}
