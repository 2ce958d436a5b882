//! The hub against a server on this machine.

use super::*;

#[path = "../tests/support/hub.rs"]
pub(crate) mod server;

use server::{COMMIT, HubServer};

const FILES: [(&str, &[u8]); 5] = [
    (".gitattributes", b"x"),
    ("README.md", b"about it"),
    ("data/a.jsonl", b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n"),
    ("data/b.txt", b"three"),
    ("more/c.txt", b"four"),
];

fn hub(server: &HubServer, cache: &Path) -> Hub {
    let endpoint = Some(server.endpoint.clone());
    let patience = PATIENCE;
    Hub { cache: cache.join("hub"), endpoint, token: None, offline: false, patience }
}

fn served() -> (HubServer, tempfile::TempDir) {
    (HubServer::start("datasets/owner/name", &FILES), tempfile::tempdir().unwrap())
}

/// Path in the repository and contents of what `name` gives.
fn read(hub: &Hub, name: &str) -> Result<Vec<(String, String)>> {
    let mut keep = |files: &mut Vec<String>| files.retain(|inside| !inside.starts_with('.'));
    let files = hub.files(Kind::Dataset, &name.parse()?, &mut keep, &mut |_| {})?;
    let text = |file: HubFile| (file.inside, std::fs::read_to_string(file.path).unwrap());
    Ok(files.into_iter().map(text).collect())
}

fn inside(hub: &Hub, name: &str) -> Vec<String> {
    read(hub, name).unwrap().into_iter().map(|(inside, _)| inside).collect()
}

#[test]
fn names_pick_files_folders_and_repositories() {
    let (server, cache) = served();
    let hub = hub(&server, cache.path());
    assert_eq!(
        inside(&hub, "owner/name"),
        ["README.md", "data/a.jsonl", "data/b.txt", "more/c.txt"]
    );
    assert_eq!(inside(&hub, "owner/name:data"), ["data/a.jsonl", "data/b.txt"]);
    assert_eq!(inside(&hub, &format!("owner/name@{COMMIT}:data/")), ["data/a.jsonl", "data/b.txt"]);
    let file = read(&hub, "owner/name:data/b.txt").unwrap();
    assert_eq!(file, [("data/b.txt".into(), "three".into())]);
    assert_eq!(inside(&hub, "owner/name:.gitattributes"), [".gitattributes"]);
    assert!(matches!(read(&hub, "owner/name:dat"), Err(Error::NoHubFile { .. })));
}

#[test]
fn what_the_cache_holds_is_not_downloaded_again() {
    let (server, cache) = served();
    let hub = hub(&server, cache.path());
    let first = read(&hub, "owner/name:data").unwrap();
    let resolved = format!("/datasets/owner/name/resolve/{COMMIT}/data/a.jsonl");
    assert!(server.requests().iter().any(|request| request.starts_with(&resolved)));
    assert_eq!(read(&hub, "owner/name:data").unwrap(), first);
    assert_eq!(server.requests(), ["/api/datasets/owner/name/revision/main?blobs=true"]);
    // A file that lost its end is downloaded again.
    let name = "owner/name:data/b.txt".parse().unwrap();
    let path = hub.files(Kind::Dataset, &name, &mut |_| {}, &mut |_| {}).unwrap()[0].path.clone();
    std::fs::write(&path, "thr").unwrap();
    assert_eq!(read(&hub, "owner/name:data").unwrap(), first);
}

#[test]
fn offline_reads_the_cache_alone() {
    let (server, cache) = served();
    let online = hub(&server, cache.path());
    let offline = Hub { offline: true, ..online.clone() };
    let error = read(&offline, "owner/name:data").unwrap_err();
    assert!(error.to_string().starts_with("`hf:owner/name:data` is not in the cache `"), "{error}");
    let first = read(&online, "owner/name:data").unwrap();
    server.requests();
    assert_eq!(read(&offline, "owner/name:data").unwrap(), first);
    assert_eq!(read(&offline, &format!("owner/name@{COMMIT}")).unwrap(), first);
    for absent in ["owner/name:more/c.txt", "owner/name@v2:data", "owner/other"] {
        assert!(matches!(read(&offline, absent), Err(Error::Offline { .. })), "{absent}");
    }
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn an_interrupted_download_goes_on() {
    let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let server = HubServer::start("datasets/owner/name", &[("a.txt", &text)]);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, cache.path());
    server.state.lock().unwrap().cut = Some(150_000);
    let fetch = |seen: &mut Vec<Progress>| {
        let name = "owner/name:a.txt".parse().unwrap();
        hub.files(Kind::Dataset, &name, &mut |_| {}, &mut |progress| seen.push(progress))
    };
    let mut seen = Vec::new();
    let error = fetch(&mut seen).unwrap_err();
    assert!(matches!(error, Error::Hub { status: None, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("again"));
    let offline = Hub { offline: true, ..hub.clone() };
    assert!(matches!(read(&offline, "owner/name"), Err(Error::Offline { .. })), "half a file");
    server.requests();
    seen.clear();
    let files = fetch(&mut seen).unwrap();
    assert!(std::fs::read(&files[0].path).unwrap() == text);
    let asked = server.requests().pop().unwrap();
    let from: usize = asked.rsplit_once(' ').unwrap().1.trim_end_matches('-').parse().unwrap();
    assert!((1..=150_000).contains(&from), "{asked}");
    assert!(seen.iter().any(|progress| progress.done == from), "what was there counts");
    let last = seen.pop().unwrap();
    assert_eq!((last.stage, last.done, last.total), (Stage::Download, text.len(), text.len()));
}

#[test]
fn a_whole_file_that_has_not_got_its_place_is_downloaded_again() {
    let (server, cache) = served();
    let hub = hub(&server, cache.path());
    let blobs = hub.cache.join("datasets--owner--name/blobs");
    for rest in ["three", "three and more"] {
        std::fs::create_dir_all(&blobs).unwrap();
        // The server's tags have a suffix of their own, in place of which the client puts `part`.
        std::fs::write(blobs.join("etag-data-b.part"), rest).unwrap();
        let file = read(&hub, "owner/name:data/b.txt").unwrap();
        assert_eq!(file, [("data/b.txt".into(), "three".into())]);
        std::fs::remove_dir_all(&hub.cache).unwrap();
    }
}

#[test]
fn what_the_server_refuses_is_told() {
    let (server, cache) = served();
    let mut hub = hub(&server, cache.path());
    let error = read(&hub, "owner/other").unwrap_err();
    assert_eq!(error.to_string(), "`hf:owner/other`: not there, or not open to you (HTTP 404)");
    server.state.lock().unwrap().token = Some("secret".into());
    let error = read(&hub, "owner/name").unwrap_err();
    assert!(matches!(error, Error::Hub { status: Some(401), .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("HF_TOKEN"));
    hub.token = Some("secret".into());
    assert_eq!(read(&hub, "owner/name:data/b.txt").unwrap().len(), 1);
    // Nobody listens there.
    hub.endpoint = Some("http://127.0.0.1:1".into());
    let error = read(&hub, "owner/name").unwrap_err();
    assert!(matches!(error, Error::Hub { status: None, .. }), "{error:?}");
    hub.endpoint = Some("no address".into());
    assert!(matches!(read(&hub, "owner/name"), Err(Error::Hub { status: None, .. })));
}

#[test]
fn paths_that_leave_the_repository_are_passed_over() {
    let server = HubServer::start("datasets/owner/name", &[("../a.txt", b"x"), ("b.txt", b"y")]);
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(inside(&hub(&server, cache.path()), "owner/name"), ["b.txt"]);
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let (server, cache) = served();
    server.state.lock().unwrap().silent = Some("data/b.txt".into());
    let hub = Hub { patience: Duration::from_millis(300), ..hub(&server, cache.path()) };
    let said = read(&hub, "owner/name:data").unwrap_err().to_string();
    assert_eq!(said, "`hf:owner/name:data/b.txt`: nothing has come for 0.3 s");
}
