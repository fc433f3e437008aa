//! Two network namespaces, made for one test and gone with it: a pod's, and that of the world around it.

// Each test binary uses its own part, the proxy's too, and clippy sees tests only in functions that are marked so.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// No wait in a test takes longer.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The addresses of the pod, and of the world.
pub const POD: [&str; 2] = ["10.123.0.2", "fd00:123::2"];
pub const WORLD: [&str; 2] = ["10.123.0.1", "fd00:123::1"];

/// A network namespace, which a process holds open.
pub struct Namespace(Child);

/// A pod's namespace and the world's, with a link between them.
pub struct Link {
    pub pod: Namespace,
    pub world: Namespace,
}

impl Link {
    pub fn new() -> Self {
        let link = Self { pod: Namespace::new(), world: Namespace::new() };
        let pod = link.pod.0.id().to_string();
        link.world.ip(&["link", "add", "cni0", "type", "veth", "peer", "name", "eth0", "netns", &pod]);
        for (namespace, device, addresses) in [(&link.pod, "eth0", POD), (&link.world, "cni0", WORLD)] {
            namespace.ip(&["addr", "add", &format!("{}/24", addresses[0]), "dev", device]);
            // Without duplicate detection, which takes a second.
            namespace.ip(&["addr", "add", &format!("{}/64", addresses[1]), "dev", device, "nodad"]);
            namespace.ip(&["link", "set", "lo", "up"]);
            namespace.ip(&["link", "set", device, "up"]);
        }
        link
    }
}

impl Namespace {
    /// Root's business. Where it can't be made, a test fails: what is not tested must not look as if it were.
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made; cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        let mut made = [0; 5];
        let told = child.stdout.as_mut().unwrap().read_exact(&mut made);
        assert!(
            told.is_ok(),
            "no network namespace can be made: these tests need root (sudo -E env PATH=$PATH cargo test ...)"
        );
        Self(child)
    }

    pub fn ip(&self, args: &[&str]) {
        let output = self.command("ip", args).output().unwrap();
        assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn index_of(&self, device: &str) -> u32 {
        let output = self.command("ip", &["-o", "link", "show", device]).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        line.split_once(':').unwrap().0.parse().unwrap()
    }

    /// A program that runs in it.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        self.command_as(0, program, args)
    }

    /// The same, as another user: see [`Program`].
    pub fn command_as(&self, user: u32, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let user = user.to_string();
        command.args(["--net", "--target", &self.0.id().to_string()]);
        command.args(["--setuid", &user, "--setgid", &user, "--", program]).args(args);
        command
    }

    /// Does something in it, on a thread of its own. Sockets stay in the namespace that they were made in.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }

    /// Listens, and tells who connects on which port, for as long as the test runs.
    pub fn listen(&self, address: &str, port: u16) {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let listener = self.run(|| TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = write!(stream, "{port}");
            }
        });
    }

    /// Which port tells of itself where this one is connected to; `None` where nobody does. An address of one interface has its name behind
    /// it, as `fe80::1%eth0`.
    pub fn answers(&self, address: &str, port: u16) -> Option<u16> {
        let (ip, device) = address.split_once('%').map_or((address, None), |(ip, device)| (ip, Some(device)));
        let mut address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port);
        if let (SocketAddr::V6(address), Some(device)) = (&mut address, device) {
            address.set_scope_id(self.index_of(device));
        }
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.parse().ok()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A program where every user may run it: the target directory may lie in a home that is closed to all but root. It goes with this.
pub struct Program(PathBuf);

impl Program {
    pub fn of(path: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("outrigger-program-{}-{number}", std::process::id());
        let place = std::env::temp_dir().join(name);
        // A link and not a copy: what has just been written can't be run while another thread's child, about to start, has it open too.
        std::fs::hard_link(path, &place).or_else(|_| std::fs::copy(path, &place).map(drop)).unwrap();
        Self(place)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
