//! A hub of one repository on this machine, with as much of the protocol as its clients use.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit of every file.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is served, and what was asked for.
#[derive(Debug, Default)]
pub struct State {
    /// Path in the repository and contents.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Who does not show this token is turned away.
    pub token: Option<String>,
    /// The next download ends after so many bytes.
    pub cut: Option<usize>,
    /// A file of which nothing comes for a while but a first byte.
    pub silent: Option<String>,
    /// Each request that was answered: path and range.
    pub log: Vec<String>,
}

/// A server that lives as long as the process.
#[derive(Debug, Clone)]
pub struct HubServer {
    /// Its address, for `HF_ENDPOINT`.
    pub endpoint: String,
    /// Shared with its thread.
    pub state: Arc<Mutex<State>>,
}

impl HubServer {
    /// Serves `files` as `repository`: `datasets/owner/name` or `owner/name`.
    pub fn start(repository: &str, files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        let state = Arc::new(Mutex::new(State { files: files.collect(), ..State::default() }));
        let (shared, repository) = (Arc::clone(&state), repository.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &repository, &mut shared.lock().unwrap());
            }
        });
        Self { endpoint, state }
    }

    /// The requests so far, which are then forgotten.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

fn answer(mut stream: TcpStream, repository: &str, state: &mut State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    state
        .log
        .push([Some(path.as_str()), range].into_iter().flatten().collect::<Vec<_>>().join(" "));

    let shown = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if state.token.is_some() && shown != state.token.as_deref() {
        return stream.write_all(head("401 Unauthorized", 0, "").as_bytes());
    }
    let kind = if repository.starts_with("datasets/") { "" } else { "models/" };
    let known =
        ["main", COMMIT].map(|rev| format!("/api/{kind}{repository}/revision/{rev}?blobs=true"));
    if known.contains(&path) {
        let files: Vec<String> = state
            .files
            .iter()
            .map(|(path, bytes)| format!(r#"{{"rfilename":"{path}","size":{}}}"#, bytes.len()))
            .collect();
        let body = format!(r#"{{"id":"x","sha":"{COMMIT}","siblings":[{}]}}"#, files.join(","));
        stream.write_all(
            head("200 OK", body.len(), "Content-Type: application/json\r\n").as_bytes(),
        )?;
        return stream.write_all(body.as_bytes());
    }
    let inside = path.strip_prefix(&format!("/{repository}/resolve/{COMMIT}/"));
    let Some((inside, bytes)) = inside.and_then(|inside| state.files.get_key_value(inside)) else {
        return stream.write_all(head("404 Not Found", 0, "").as_bytes());
    };
    let (from, to) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
    if from >= bytes.len() {
        return stream.write_all(head("416 Range Not Satisfiable", 0, "").as_bytes());
    }
    let more = format!(
        "Content-Range: bytes {from}-{}/{}\r\nETag: \"etag-{}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
        to - 1,
        bytes.len(),
        inside.replace('/', "-")
    );
    stream.write_all(head("206 Partial Content", to - from, &more).as_bytes())?;
    let whole = to - from > 1;
    if whole && state.silent.as_ref() == Some(inside) {
        stream.write_all(&bytes[from..from + 1])?;
        std::thread::sleep(std::time::Duration::from_secs(3));
        return Ok(());
    }
    let end = state.cut.take_if(|_| whole).map_or(to, |cut| to.min(from + cut));
    stream.write_all(&bytes[from..end])
}

fn head(status: &str, length: usize, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n")
}
