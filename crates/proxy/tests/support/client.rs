//! A client that sends bytes as given and reads answers strictly.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::open;

pub struct Client {
    pub reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Answer {
    /// Status line and headers as they came, without the empty line.
    pub head: String,
    pub status: u16,
    pub body: Vec<u8>,
    /// Trailer lines as they came.
    pub trailers: Vec<String>,
}

/// One request on a connection of its own.
pub fn get(port: u16, path: &str) -> Answer {
    request(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

pub fn request(port: u16, request: &str) -> Answer {
    let mut client = Client::connect(port);
    client.send(request);
    client.answer()
}

impl Client {
    pub fn connect(port: u16) -> Self {
        Self { reader: BufReader::new(open(port)) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n"));
        self.answer()
    }

    /// The next answer to anything but HEAD.
    pub fn answer(&mut self) -> Answer {
        let (head, status) = self.head();
        let (body, trailers) = match status {
            100..=199 | 204 | 304 => (Vec::new(), Vec::new()),
            _ => self.body(&head),
        };
        Answer { head, status, body, trailers }
    }

    pub fn head(&mut self) -> (String, u16) {
        let mut head = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            head.push_str(&line);
            head.push_str("\r\n");
        }
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {head:?}"));
        let status = status.parse().unwrap();
        (head, status)
    }

    /// One line that ends, as it must, in CRLF.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("line without CRLF: {line:?}")).to_owned()
    }

    fn body(&mut self, head: &str) -> (Vec<u8>, Vec<String>) {
        let value = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
        };
        if value("transfer-encoding") == Some("chunked") {
            assert_eq!(value("content-length"), None, "both framings in {head}");
            return self.chunks();
        }
        let mut body = Vec::new();
        if let Some(length) = value("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.reader.read_exact(&mut body).unwrap();
        } else {
            self.reader.read_to_end(&mut body).unwrap();
        }
        (body, Vec::new())
    }

    fn chunks(&mut self) -> (Vec<u8>, Vec<String>) {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line(), 16).unwrap();
            if length == 0 {
                break;
            }
            let start = body.len();
            body.resize(start + length, 0);
            self.reader.read_exact(&mut body[start..]).unwrap();
            assert_eq!(self.line(), "");
        }
        let lines = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
        (body, lines.collect())
    }

    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything until the other side closes its half.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn close_write(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// Whether the other side ends the connection, orderly or not, without a further byte.
    pub fn is_closed_by_peer(&mut self) -> bool {
        match self.reader.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Whether the head has this line, letter by letter.
    pub fn has(&self, line: &str) -> bool {
        self.head.lines().any(|found| found == line)
    }

    pub fn has_header(&self, name: &str) -> bool {
        let mut names = self.head.lines().filter_map(|line| line.split_once(':'));
        names.any(|(found, _)| found.eq_ignore_ascii_case(name))
    }
}
