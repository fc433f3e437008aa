//! What the rules do with real packets, in network namespaces of the tests' own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::process::Output;

use support::{Link, Namespace, POD, Program, WORLD};

const PROXY: u32 = 15180;

/// Runs the program in a pod's namespace.
fn redirect(pod: &Namespace, args: &[&str]) -> Output {
    pod.command(env!("CARGO_BIN_EXE_outrigger-redirect"), args).output().unwrap()
}

fn written(pod: &Namespace, args: &[&str]) {
    let output = redirect(pod, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All rules there are, as `nft` tells them.
fn ruleset(pod: &Namespace) -> String {
    let output = pod.command("nft", &["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A pod that listens where the proxy would, and as its app.
fn with_listeners() -> Link {
    let link = Link::new();
    for port in [8080, 22, 15180, 15190, 15191, 15192] {
        link.pod.listen("::", port);
    }
    for address in ["127.0.0.1", "::1"] {
        link.pod.listen(address, 15181);
    }
    for port in [80, 53, 5432] {
        link.world.listen("::", port);
    }
    link
}

#[test]
fn what_comes_in_goes_to_the_proxy() {
    let link = with_listeners();
    for address in POD {
        assert_eq!(link.world.answers(address, 8080), Some(8080), "before");
    }
    written(&link.pod, &["--skip-inbound-ports=22"]);
    for address in POD {
        assert_eq!(link.world.answers(address, 8080), Some(15180), "{address}");
        // Nobody listens there, and the proxy still gets it.
        assert_eq!(link.world.answers(address, 9999), Some(15180), "{address}");
        assert_eq!(link.world.answers(address, 22), Some(22), "skipped");
        assert_eq!(link.world.answers(address, 15190), Some(15190), "the admin port");
        assert_eq!(link.pod.answers(address, 8080), Some(8080), "from the pod itself");
    }
    assert_eq!(link.pod.answers("127.0.0.1", 8080), Some(8080), "loopback");
}

/// They always went past: also where no such sidecar is, and the app listens there.
#[test]
fn admin_ports_of_other_sidecars_go_past_where_asked_only() {
    let link = with_listeners();
    written(&link.pod, &["--skip-inbound-ports=15192"]);
    for address in POD {
        assert_eq!(link.world.answers(address, 15191), Some(15180), "{address}");
        assert_eq!(link.world.answers(address, 15192), Some(15192), "{address}");
    }
}

#[test]
fn only_the_ports_that_were_asked_for_go_to_the_proxy() {
    let link = with_listeners();
    written(&link.pod, &["--inbound-ports=8080,22", "--skip-inbound-ports=22"]);
    assert_eq!(link.world.answers(POD[0], 8080), Some(15180));
    assert_eq!(link.world.answers(POD[0], 22), Some(22));
    written(&link.pod, &["--inbound-ports=none"]);
    assert_eq!(link.world.answers(POD[0], 8080), Some(8080));
    assert_eq!(link.pod.answers(WORLD[0], 80), Some(15181), "what goes out still does");
}

#[test]
fn what_goes_out_goes_to_the_proxy() {
    let link = with_listeners();
    written(&link.pod, &["--skip-outbound-ports=5432"]);
    for address in WORLD {
        assert_eq!(link.pod.answers(address, 80), Some(15181), "{address}");
        assert_eq!(link.pod.answers(address, 5432), Some(5432), "skipped");
        assert_eq!(link.pod.answers(address, 53), Some(53), "DNS");
    }
}

/// Such an address means something on one interface only, and the kernel does not tell the proxy which that was.
#[test]
fn link_local_addresses_are_called_directly() {
    let link = with_listeners();
    for (namespace, device, address) in
        [(&link.pod, "eth0", "fe80::123:2/64"), (&link.world, "cni0", "fe80::123:1/64")]
    {
        namespace.ip(&["addr", "add", address, "dev", device, "nodad"]);
    }
    written(&link.pod, &[]);
    assert_eq!(link.pod.answers("fe80::123:1%eth0", 80), Some(80));
    assert_eq!(link.pod.answers(WORLD[1], 80), Some(15181));
}

#[test]
fn addresses_and_users_are_left_alone_where_asked() {
    let link = with_listeners();
    // As some write it, who know that sockets of IPv6 have IPv4's addresses so.
    written(&link.pod, &["--skip-outbound-cidrs=::ffff:10.123.0.0/120"]);
    assert_eq!(link.pod.answers(WORLD[0], 80), Some(80));
    written(&link.pod, &["--skip-outbound-cidrs=10.123.0.0/24"]);
    assert_eq!(link.pod.answers(WORLD[0], 80), Some(80));
    assert_eq!(link.pod.answers(WORLD[1], 80), Some(15181));
    written(&link.pod, &["--skip-outbound-cidrs=10.124.0.0/16,fd00:123::/32"]);
    assert_eq!(link.pod.answers(WORLD[0], 80), Some(15181));
    assert_eq!(link.pod.answers(WORLD[1], 80), Some(80));

    let as_user = |user| {
        let script = format!("exec 3<>/dev/tcp/{}/80; cat <&3", WORLD[0]);
        let output = link.pod.command_as(user, "bash", &["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    written(&link.pod, &["--skip-outbound-uids=1001"]);
    assert_eq!(as_user(PROXY), "80");
    assert_eq!(as_user(1001), "80");
    assert_eq!(as_user(1002), "15181");
    written(&link.pod, &["--proxy-uid=1002"]);
    assert_eq!(as_user(1002), "80");
    assert_eq!(as_user(PROXY), "15181");
}

#[test]
fn a_second_run_replaces_the_first() {
    let link = Link::new();
    let args = [
        "--skip-inbound-ports=22",
        "--skip-outbound-cidrs=10.0.0.0/8,fd00::/8",
        "--skip-outbound-uids=0,101",
    ];
    written(&link.pod, &["--inbound-ports=80", "--skip-outbound-ports=1,2,3"]);
    written(&link.pod, &args);
    let once = ruleset(&link.pod);
    written(&link.pod, &args);
    assert_eq!(ruleset(&link.pod), once);
    // What is printed is what is written.
    let printed = redirect(&link.pod, &[&args[..], &["--print"]].concat());
    let file = std::env::temp_dir().join(format!("outrigger-printed-{}.nft", std::process::id()));
    std::fs::write(&file, printed.stdout).unwrap();
    written(&link.pod, &["--cleanup"]);
    assert_eq!(ruleset(&link.pod), "");
    let taken = link.pod.command("nft", &["--file", file.to_str().unwrap()]).status().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(taken.success());
    assert_eq!(ruleset(&link.pod), once);
}

#[test]
fn removing_leaves_what_others_wrote() {
    let link = Link::new();
    assert!(link.pod.command("nft", &["add", "table", "inet", "others"]).status().unwrap().success());
    let before = ruleset(&link.pod);
    written(&link.pod, &["--cleanup"]);
    written(&link.pod, &[]);
    assert_ne!(ruleset(&link.pod), before);
    written(&link.pod, &["--cleanup"]);
    assert_eq!(ruleset(&link.pod), before);
}

#[test]
fn without_the_capability_it_says_what_is_missing_and_changes_nothing() {
    let link = Link::new();
    let program = Program::of(env!("CARGO_BIN_EXE_outrigger-redirect"));
    let output = link.pod.command_as(1001, program.path(), &[]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("NET_ADMIN"), "{told}");
    assert_eq!(ruleset(&link.pod), "");
}

#[test]
fn wrong_arguments_are_told() {
    let link = Link::new();
    for (argument, words) in [
        ("--inbound-ports=http", "neither all, none, nor a list"),
        ("--skip-outbound-ports=0", "0 is not in 1..=65535"),
        ("--skip-outbound-cidrs=10.0.0.0/40", "no range of addresses"),
    ] {
        let output = redirect(&link.pod, &[argument]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(words), "{told}");
    }
}
