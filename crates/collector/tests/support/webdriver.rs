//! A real Chromium without a window, driven by `WebDriver` (<https://www.w3.org/TR/webdriver2/>).

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

/// A browser with one page, which goes with it.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// `None` where there is no `chromedriver`: `scripts/setup test` installs it.
    pub(crate) fn start() -> Option<Self> {
        let started =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = started.ok()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1.parse().ok()
        });
        // What it says later is nobody's, but must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser =
            Self { driver, port: port.expect("chromedriver tells its port"), session: String::new() };
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--hide-scrollbars", "--window-size=1280,900"]});
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}}}});
        let session = browser.call("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().into();
        Some(browser)
    }

    pub(crate) fn open(&self, url: &str) {
        self.of_session("POST", "/url", &json!({ "url": url }));
    }

    /// Opens another tab, which covers those before it, and goes on there.
    pub(crate) fn open_tab(&self, url: &str) {
        let tab = self.of_session("POST", "/window/new", &json!({"type": "tab"}));
        self.show_tab(tab["handle"].as_str().unwrap());
        self.open(url);
    }

    /// Brings a tab to the front.
    pub(crate) fn show_tab(&self, handle: &str) {
        self.of_session("POST", "/window", &json!({ "handle": handle }));
        self.devtools("Page.bringToFront", &json!({}));
    }

    /// The one that is driven.
    pub(crate) fn tab(&self) -> String {
        self.of_session("GET", "/window", &json!({})).as_str().unwrap().into()
    }

    /// What a JavaScript expression is.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.of_session(
            "POST",
            "/execute/sync",
            &json!({"script": format!("return {expression}"), "args": []}),
        )
    }

    /// The texts of all elements that a selector selects.
    pub(crate) fn texts(&self, selector: &str) -> Vec<String> {
        let expression =
            format!("[...document.querySelectorAll({})].map((node) => node.textContent)", json!(selector));
        serde_json::from_value(self.value(&expression)).unwrap()
    }

    /// As a device with so many pixels would show it.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// As if the user's system were set to `light` or `dark`.
    pub(crate) fn prefers(&self, scheme: &str) {
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// Presses a key for the page, as `Tab` or `Enter`.
    pub(crate) fn press(&self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = if key == "Enter" { 13 } else { 9 };
        for kind in ["keyDown", "keyUp"] {
            self.devtools(
                "Input.dispatchKeyEvent",
                &json!({"type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": code}),
            );
        }
    }

    /// All of the page as a picture, kept as the tests' output.
    pub(crate) fn picture(&self, name: &str) {
        let taken =
            self.devtools("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{name}.png")), bytes).unwrap();
    }

    /// What the console said that is no good news.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.of_session("POST", "/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        entries.filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    /// From now on [`Self::worked`] tells.
    pub(crate) fn watch_work(&self) {
        self.devtools("Performance.enable", &json!({"timeDomain": "threadTicks"}));
    }

    /// Milliseconds of CPU that the page's main thread has worked. Not of the clock, by which a busy machine makes it slow.
    pub(crate) fn worked(&self) -> f64 {
        let told = self.devtools("Performance.getMetrics", &json!({}));
        let mut metrics = told["metrics"].as_array().unwrap().iter();
        let work = metrics.find(|metric| metric["name"] == "TaskDuration").unwrap();
        work["value"].as_f64().unwrap() * 1000.0
    }

    /// Scrolls the page down by so many pixels, as a finger would. Returns when it has.
    pub(crate) fn scroll(&self, pixels: i32) {
        let gesture =
            json!({"x": 600, "y": 500, "yDistance": -pixels, "speed": 3000, "gestureSourceType": "mouse"});
        self.devtools("Input.synthesizeScrollGesture", &gesture);
    }

    /// Milliseconds from one frame to the next in the time that `act` takes, the shortest first.
    pub(crate) fn frames_while(&self, act: impl FnOnce()) -> Vec<f64> {
        self.value("window.drawn = [], requestAnimationFrame(function next(at) { window.drawn?.push(at) && requestAnimationFrame(next); })");
        act();
        let times = self.value("window.drawn.slice(1).map((at, number) => at - window.drawn[number])");
        self.value("window.drawn = null");
        let mut times: Vec<f64> = serde_json::from_value(times).unwrap();
        times.sort_by(f64::total_cmp);
        times
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        self.of_session("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    fn of_session(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// One request on one connection: there are some dozens in a test.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        // The driver keeps the connection, whatever it is asked.
        let mut answer = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(answer.read_line(&mut head).unwrap() > 0, "{method} {path}: the driver has gone");
        }
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.expect("the driver tells the length")];
        answer.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {}", body["value"]);
        body["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.of_session("DELETE", "", &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
