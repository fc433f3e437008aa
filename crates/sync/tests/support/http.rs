//! git's own server program behind a small HTTP server, with or without TLS, that counts what it is asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server of the repositories in a directory. It runs as long as the test's process.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// `authorization`: what each request must bring.
    pub(crate) fn start(root: &Path, authorization: Option<&'static str>) -> Self {
        Self::behind("http", Some, root, authorization)
    }

    /// By TLS, with this certificate and key. Who does not trust it is not heard.
    pub(crate) fn start_tls(root: &Path, config: Arc<ServerConfig>) -> Self {
        let shaken = move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(StreamOwned::new(connection, stream))
        };
        Self::behind("https", shaken, root, None)
    }

    fn behind<S: Read + Write + Send + 'static>(
        scheme: &str,
        shaken: impl Fn(TcpStream) -> Option<S> + Send + 'static,
        root: &Path,
        authorization: Option<&'static str>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(AtomicUsize::new(0));
        let (counted, root) = (Arc::clone(&requests), root.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).filter_map(shaken) {
                let (counted, root) = (Arc::clone(&counted), root.clone());
                let mut stream = BufReader::new(stream);
                std::thread::spawn(
                    move || while answer(&mut stream, &root, authorization, &counted).is_some() {},
                );
            }
        });
        Self { url, requests }
    }

    /// How many requests came since this was last asked.
    pub(crate) fn requests(&self) -> usize {
        self.requests.swap(0, Relaxed)
    }
}

fn answer<S: Read + Write>(
    reader: &mut BufReader<S>,
    root: &PathBuf,
    wanted: Option<&str>,
    counted: &AtomicUsize,
) -> Option<()> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let (path, query) = rest.split_once(' ')?.0.split_once('?').unwrap_or((rest.split_once(' ')?.0, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let (mut length, mut protocol, mut kind, mut given) = (0, String::new(), String::new(), None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "git-protocol" => value.trim().clone_into(&mut protocol),
            "content-type" => value.trim().clone_into(&mut kind),
            "authorization" => given = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    counted.fetch_add(1, Relaxed);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let stream = reader.get_mut();
    if wanted.is_some() && given.as_deref() != wanted {
        return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").ok();
    }
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &method)
        .env("PATH_INFO", &path)
        .env("QUERY_STRING", &query)
        .env("CONTENT_TYPE", &kind)
        .env("GIT_PROTOCOL", &protocol)
        .env("HTTP_GIT_PROTOCOL", &protocol)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(&body).ok()?;
    let output = child.wait_with_output().ok()?.stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let (head, content) = output.split_at(end);
    let head = String::from_utf8_lossy(head);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{head}", content.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(content).and_then(|()| stream.flush()).ok()
}
