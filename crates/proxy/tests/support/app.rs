//! Apps that answer with bytes as given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use super::PATIENCE;

/// A connection that an app has accepted.
pub struct Connection {
    pub reader: BufReader<TcpStream>,
    /// Number of the connection, from 0.
    pub number: usize,
}

/// Serves every connection on a thread of its own; returns the port.
pub fn serve(handle: impl Fn(Connection) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            let handle = Arc::clone(&handle);
            let connection = Connection { reader: BufReader::new(stream), number };
            std::thread::spawn(move || handle(connection));
        }
    });
    port
}

/// Answers every request, whose body it reads by Content-Length, with the same bytes.
pub fn answering(answer: &'static str) -> u16 {
    serve(move |mut connection| {
        while connection.request().is_some() {
            connection.send(answer);
        }
    })
}

/// Answers the first request of this many connections when all of them have come, and the barrier's waiter too.
pub fn held(answer: &'static str, connections: usize) -> (u16, Arc<Barrier>) {
    let barrier = Arc::new(Barrier::new(connections + 1));
    let gate = Arc::clone(&barrier);
    let port = serve(move |mut connection| {
        if connection.request().is_some() {
            gate.wait();
            connection.send(answer);
        }
        connection.wait_for_close();
    });
    (port, barrier)
}

/// Counts what an app has seen.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Connection {
    /// The next request's head and body; `None` when the client has closed.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
        });
        let mut body = vec![0; length.unwrap_or(0)];
        self.reader.read_exact(&mut body).ok()?;
        Some((head, body))
    }

    /// The next head, with its empty line.
    pub fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match self.reader.read_line(&mut head) {
                Ok(length) if length > 0 => {}
                _ => return None,
            }
        }
        Some(head)
    }

    /// Reads until the text ends like this.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// A client that is gone is no fault of the app's.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.reader.get_mut().write_all(bytes.as_ref());
    }

    /// As much as a client takes; false when it is gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    /// Waits until the client closes.
    pub fn wait_for_close(&mut self) {
        let _ = self.reader.read_to_end(&mut Vec::new());
    }
}
