//! Downloads that go on where they were broken off.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use ureq::http::{StatusCode, header};

/// A download that breaks off is tried again as long as it got on, but not more often than this.
const TRIES: usize = 8;
/// How long to wait for a connection, or for the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far a download is: bytes that are there, and bytes in all (0 if unknown).
pub(crate) type Report<'a> = &'a mut dyn FnMut(u64, u64);

/// Brings the content of `url` into the file `part`. What is in it already is not asked for again;
/// the caller removes it.
///
/// # Errors
/// The reason: no connection, another answer than the content, a file that cannot be written.
pub(crate) fn download(url: &str, part: &Path, report: Report<'_>) -> Result<(), String> {
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .http_status_as_error(false)
        // A range of an encoded content would be of no use.
        .accept_encoding("identity")
        .user_agent(concat!("matformer/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    for left in (0..TRIES).rev() {
        let before = length(part);
        match attempt(&agent, url, part, before, report)? {
            Outcome::Whole => return Ok(()),
            Outcome::Useless => fs::remove_file(part).map_err(|error| error.to_string())?,
            Outcome::Broken(reason) if left == 0 || length(part) <= before => return Err(reason),
            Outcome::Broken(_) => {}
        }
    }
    Err("the server does not say what it has".into())
}

/// What an attempt came to.
enum Outcome {
    /// The file holds all.
    Whole,
    /// The partial file is not a prefix of the file on the server.
    Useless,
    /// The connection broke, and why.
    Broken(String),
}

fn attempt(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    before: u64,
    report: Report<'_>,
) -> Result<Outcome, String> {
    let mut request = agent.get(url);
    if before > 0 {
        request = request.header(header::RANGE, format!("bytes={before}-"));
    }
    let response = request.call().map_err(|error| error.to_string())?;
    let range = response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("bytes "))
        .unwrap_or_default()
        .to_owned();
    let start = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if range.starts_with(&format!("{before}-")) => before,
        StatusCode::RANGE_NOT_SATISFIABLE if range == format!("*/{before}") => {
            return Ok(Outcome::Whole);
        }
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if before > 0 => {
            return Ok(Outcome::Useless);
        }
        status => return Err(format!("the server says {status}")),
    };
    let total = response.body().content_length().map(|length| start + length);
    let broken = append(response.into_body().into_reader(), part, start, &mut |done| {
        report(done, total.unwrap_or(0));
    })?;
    Ok(match (broken, total) {
        (Some(error), _) => Outcome::Broken(error.to_string()),
        (None, Some(total)) if length(part) < total => {
            Outcome::Broken(format!("the connection broke at byte {} of {total}", length(part)))
        }
        (None, _) => Outcome::Whole,
    })
}

/// Writes what `body` gives behind the first `start` bytes of the file; returns what broke it off.
fn append(
    mut body: impl Read,
    part: &Path,
    start: u64,
    report: &mut dyn FnMut(u64),
) -> Result<Option<io::Error>, String> {
    let text = |error: io::Error| format!("cannot write `{}`: {error}", part.display());
    let mut file = File::options().create(true).append(true).open(part).map_err(text)?;
    file.set_len(start).map_err(text)?;
    let (mut done, mut buffer) = (start, vec![0; 1 << 16]);
    loop {
        report(done);
        match body.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                file.write_all(buffer.get(..count).unwrap_or_default()).map_err(text)?;
                done += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(error)),
        }
    }
}

/// Bytes of a file; 0 if there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    const CONTENT: &[u8] = b"0123456789abcdefghij";

    /// Answers one request with each of `answers` (head lines and body) and returns the `Range`
    /// headers of the requests.
    fn server(answers: Vec<(&'static str, &'static [u8])>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            answers.into_iter().map(|(head, body)| answer(&listener, head, body)).collect()
        });
        (url, thread)
    }

    fn answer(listener: &TcpListener, head: &str, body: &[u8]) -> String {
        let (mut stream, _) = listener.accept().unwrap();
        let mut range = String::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            let line = line.unwrap().to_lowercase();
            if let Some(value) = line.strip_prefix("range: ") {
                range = value.to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        range
    }

    /// What came of a download.
    struct Run {
        /// What the file holds, if all is said to be there.
        result: Result<Vec<u8>, String>,
        /// The ranges that were asked for.
        ranges: Vec<String>,
        reports: Vec<(u64, u64)>,
    }

    /// Downloads with `before` in the part file.
    fn run(before: &[u8], answers: Vec<(&'static str, &'static [u8])>) -> Run {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("file.part");
        if !before.is_empty() {
            fs::write(&part, before).unwrap();
        }
        let (url, thread) = server(answers);
        let mut reports = Vec::new();
        let result = download(&url, &part, &mut |done, total| reports.push((done, total)))
            .map(|()| fs::read(&part).unwrap());
        Run { result, ranges: thread.join().unwrap(), reports }
    }

    #[test]
    fn a_download_goes_on_where_it_broke_off() {
        let answers = vec![
            ("200 OK\r\nContent-Length: 20", &CONTENT[..8]),
            (
                "206 Partial Content\r\nContent-Range: bytes 8-19/20\r\nContent-Length: 12",
                &CONTENT[8..],
            ),
        ];
        let Run { result, ranges, reports } = run(b"", answers);
        assert_eq!(result.unwrap(), CONTENT);
        assert_eq!(ranges, ["", "bytes=8-"]);
        assert_eq!((reports[0], *reports.last().unwrap()), ((0, 20), (20, 20)));
    }

    #[test]
    fn what_an_earlier_run_left_is_not_asked_for_again() {
        let rest = "206 Partial Content\r\nContent-Range: bytes 5-19/20\r\nContent-Length: 15";
        let Run { result, ranges, reports } = run(&CONTENT[..5], vec![(rest, &CONTENT[5..])]);
        assert_eq!((result.unwrap().as_slice(), reports[0]), (CONTENT, (5, 20)));
        assert_eq!(ranges, ["bytes=5-"]);

        let whole = "416 Range Not Satisfiable\r\nContent-Range: bytes */20\r\nContent-Length: 0";
        assert_eq!(run(CONTENT, vec![(whole, b"")]).result.unwrap(), CONTENT);
    }

    #[test]
    fn a_server_without_ranges_sends_all_again() {
        let all = ("200 OK\r\nContent-Length: 20", CONTENT);
        assert_eq!(run(b"01234", vec![all]).result.unwrap(), CONTENT);
        let chunked = ("200 OK\r\nTransfer-Encoding: chunked", &b"3\r\nabc\r\n0\r\n\r\n"[..]);
        assert_eq!(run(b"01234", vec![chunked]).result.unwrap(), b"abc");
        let other = "416 Range Not Satisfiable\r\nContent-Range: bytes */20\r\nContent-Length: 0";
        let Run { result, ranges, .. } = run(&[b'x'; 30], vec![(other, b""), all]);
        assert_eq!(result.unwrap(), CONTENT);
        assert_eq!(ranges, ["bytes=30-", ""]);
        let shifted = "206 Partial Content\r\nContent-Range: bytes 0-19/20\r\nContent-Length: 20";
        assert_eq!(run(b"01234", vec![(shifted, CONTENT), all]).result.unwrap(), CONTENT);
    }

    #[test]
    fn what_does_not_come_is_told() {
        let Run { result, .. } = run(b"", vec![("404 Not Found\r\nContent-Length: 0", b"")]);
        assert_eq!(result.unwrap_err(), "the server says 404 Not Found");
        let cut = ("200 OK\r\nContent-Length: 20", &b""[..]);
        run(b"", vec![cut]).result.unwrap_err();
        let dir = tempfile::tempdir().unwrap();
        let nobody = download("http://127.0.0.1:1/file", &dir.path().join("part"), &mut |_, _| {});
        nobody.unwrap_err();
    }
}
