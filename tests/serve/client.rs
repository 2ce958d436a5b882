//! A server that runs, and a client of plain sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Child,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::Place;

/// The binary, serving `run`; killed at the end.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
    said: Option<JoinHandle<String>>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Served {
    pub fn start(place: &Place, more: &[&str]) -> Self {
        let arguments = [&["serve", "run", "--port", "0", "--dtype", "f32"], more].concat();
        let mut child = place.command(&arguments).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            line.unwrap().strip_prefix("listening at http://").map(|found| found.parse().unwrap())
        });
        let Some(address) = address else {
            panic!("{:?}: {}", child.wait().unwrap(), said.join().unwrap())
        };
        Self { child, address, said: Some(said) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // What hangs is an error, not a test without end.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// Sends a request and reads the answer to its end.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        self.write(&mut stream, method, path, headers, body);
        Answer::read(stream).unwrap()
    }

    /// Writes a request; a server that refuses may have closed its side.
    fn write(&self, stream: &mut TcpStream, method: &str, path: &str, headers: &str, body: &[u8]) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "Content-Type: application/json\r\n", body.to_string().as_bytes())
    }

    /// A stream whose head is read, and whose events come line by line.
    pub fn stream(&self, path: &str, body: &Value) -> Events {
        let mut stream = self.connect();
        self.write(&mut stream, "POST", path, "", body.to_string().as_bytes());
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        Events { reader }
    }

    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process: its exit code, and how long it took.
    pub fn wait(&mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        let code = self.child.wait().unwrap().code();
        (code, started.elapsed())
    }

    /// Ends the server; what it said on standard error.
    pub fn end(mut self) -> String {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.said.take().unwrap().join().unwrap()
    }

    /// What it said, once it has ended by itself.
    pub fn said(mut self) -> String {
        self.said.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub fn read(mut stream: impl Read) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Err(read.err().unwrap_or(std::io::ErrorKind::UnexpectedEof.into()));
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { joined(body) } else { body.to_owned() };
        Ok(Self { status, head: head.to_owned(), body })
    }

    /// The JSON of an answer with status 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The message of an error in OpenAI's form.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let json: Value = serde_json::from_str(&self.body).unwrap();
        let error = json["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
        error["message"].as_str().unwrap().to_owned()
    }

    /// The value of a header; empty where it is not there.
    pub fn header(&self, name: &str) -> String {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).next().unwrap_or_default()
    }

    /// The events of a stream that was read whole, without the last, `[DONE]`.
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        let mut lines: Vec<&str> = self.body.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.pop(), Some("data: [DONE]"), "{self:?}");
        lines.iter().map(|line| event(line)).collect()
    }
}

/// The JSON of an event.
fn event(line: &str) -> Value {
    let data = line.strip_prefix("data: ").unwrap_or_else(|| panic!("{line}"));
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A body in chunks, joined.
fn joined(mut chunks: &str) -> String {
    let mut body = Vec::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.extend(&rest.as_bytes()[..size]);
        chunks = std::str::from_utf8(&rest.as_bytes()[size..]).unwrap().trim_start_matches("\r\n");
    }
    String::from_utf8(body).unwrap()
}

/// Events as they come.
pub struct Events {
    reader: BufReader<TcpStream>,
}

impl Events {
    /// The next event; `None` after the last.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end() {
                "data: [DONE]" => return None,
                line if line.starts_with("data: ") => return Some(event(line)),
                _ => {}
            }
        }
    }

    /// The text of all that comes, and why it ended.
    pub fn text(&mut self) -> (String, Value) {
        let (mut text, mut reason) = (String::new(), Value::Null);
        while let Some(event) = self.next() {
            for choice in event["choices"].as_array().unwrap_or_else(|| panic!("{event}")) {
                text += choice["text"].as_str().unwrap();
                if !choice["finish_reason"].is_null() {
                    reason = choice["finish_reason"].clone();
                }
            }
        }
        (text, reason)
    }
}
