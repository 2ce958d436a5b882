//! The page, in a headless Chromium; without one the test says so and passes.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::client::Served;
use crate::support::Place;

/// A browser, asked through a pipe in the DevTools protocol: JSON with a zero byte behind each message.
struct Browser {
    child: Child,
    write: ChildStdin,
    read: BufReader<ChildStdout>,
    last: u64,
    session: Value,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// The first of the names that Chromium goes by, or the one in `CHROMIUM`.
    fn program() -> Option<PathBuf> {
        if let Some(named) = std::env::var_os("CHROMIUM") {
            return Some(named.into());
        }
        let path = std::env::var_os("PATH")?;
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let mut all = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
        all.find(|file| file.is_file())
    }

    fn open(program: &PathBuf, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is on the descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let write = child.stdin.take().unwrap();
        let read = BufReader::new(child.stdout.take().unwrap());
        let mut browser =
            Self { child, write, read, last: 0, session: Value::Null, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": url }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        browser
    }

    /// What a call of the protocol gives.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.write.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.read.read_until(0, &mut bytes).unwrap();
            let answer = bytes.strip_suffix(b"\0").expect("the browser has ended");
            let answer: Value = serde_json::from_slice(answer).unwrap();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    fn wait(&mut self, expression: &str) {
        let started = Instant::now();
        while self.value(expression) != json!(true) {
            let shown = self.value("document.body?.innerText");
            assert!(started.elapsed() < Duration::from_secs(60), "{expression}: {shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key.
    fn press(&mut self, key: &str, code: u32, modifiers: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers }),
            );
        }
    }

    fn text_of(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({selector:?}).innerText"));
        text.as_str().unwrap().to_owned()
    }

    /// How wide the page is beyond the window.
    fn overflow(&mut self) -> Value {
        self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    }

    /// Keeps a picture where `PAGE_PICTURES` names a folder.
    fn picture(&mut self, name: &str) {
        let Some(dir) = std::env::var_os("PAGE_PICTURES") else { return };
        let shot = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let file = PathBuf::from(dir).join(format!("{name}.png.base64"));
        std::fs::write(file, shot["data"].as_str().unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_generates_at_the_size_of_its_slider() {
    let Some(program) = Browser::program() else {
        println!("skipped: no Chromium; `apt-get install chromium`, or name one in CHROMIUM");
        return;
    };
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let expected = |size: &str, draft: Value| {
        let body = json!({
            "model": format!("run@{size}"), "prompt": "The fox", "max_tokens": 9, "temperature": 0, "draft": draft,
        });
        let found = server.post("/v1/completions", &body).ok();
        format!("The fox{}", found["choices"][0]["text"].as_str().unwrap())
    };
    let mut browser = Browser::open(&program, &format!("http://{}/", server.address));
    browser.call("Runtime.enable", json!({}));
    browser.wait("typeof sizes !== 'undefined' && sizes.length === 4 && panels.length === 2");
    // Everything by keyboard.
    browser.value(
        "document.getElementById('prompt').select(), document.getElementById('prompt').focus()",
    );
    browser.call("Input.insertText", json!({ "text": "The fox" }));
    browser.value("document.getElementById('tokens').value = 9");
    browser.value("document.querySelector('input[type=range]').focus()");
    assert_eq!(browser.text_of(".panel h2"), "Size XL");
    for size in ["L", "M"] {
        browser.press("ArrowLeft", 37, 0);
        assert_eq!(browser.text_of(".panel h2"), format!("Size {size}"));
    }
    let said =
        browser.value("document.querySelector('input[type=range]').getAttribute('aria-valuetext')");
    let said = said.as_str().unwrap();
    assert!(
        said.starts_with("M: ") && said.contains("parameters, loss") && said.contains("tokens/s"),
        "{said}"
    );
    browser.press("Enter", 13, 2);
    browser.wait("document.querySelector('.status').textContent.startsWith('9 tokens')");
    assert_eq!(
        browser.value("document.querySelector('.answer').textContent"),
        expected("M", Value::Null)
    );
    // Two sizes side by side, the wider one speculating.
    browser.value("document.getElementById('compare').click()");
    browser.value(
        "const draft = document.getElementById('draft'); draft.value = 'S'; draft.dispatchEvent(new Event('change'))",
    );
    browser.value("document.getElementById('go').click()");
    let all = "[...document.querySelectorAll('.status')].every((s) => s.textContent.startsWith('9 tokens'))";
    browser.wait("document.querySelectorAll('.status')[1].textContent.startsWith('9 tokens')");
    browser.wait(all);
    let answers =
        browser.value("[...document.querySelectorAll('.answer')].map((a) => a.textContent)");
    assert_eq!(answers, json!([expected("M", json!("S")), expected("S", Value::Null)]));
    assert!(browser.text_of(".status").contains("drafted tokens kept"));
    let marked = "[...document.querySelectorAll('.answer')].map((a) => a.querySelectorAll('.drafted').length > 0)";
    assert_eq!(browser.value(marked), json!([true, false]), "what was drafted and kept");
    let labelled = browser.value(
        "[...document.querySelectorAll('input, textarea, select')].every((field) => field.labels.length > 0)",
    );
    assert_eq!(labelled, true);
    let asked =
        "performance.getEntriesByType('resource').every((r) => r.name.startsWith(location.origin))";
    assert_eq!(browser.value(asked), true, "nothing from elsewhere");
    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", features);
        for (name, width, height) in [("wide", 1200, 900), ("phone", 360, 740)] {
            let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            browser.call("Emulation.setDeviceMetricsOverride", metrics);
            assert_eq!(browser.overflow(), 0, "{scheme} {name}");
            browser.picture(&format!("{scheme}-{name}"));
        }
    }
}
