//! Chromium without a window, driven by WebDriver.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use url::{ParseError, Url};

use super::LONG;
use super::process::{Process, Signal};

const POLL: Duration = Duration::from_millis(50);

/// What a machine without a desktop, and without the world around it, needs.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one page.
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Process,
    _profile: TempDir,
}

/// What the page has written to its console since it was last asked.
#[derive(Debug)]
struct Console;

impl WebDriverCompatibleCommand for Console {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.expect("a session")))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

impl Browser {
    /// One whose page has so many pixels (of CSS) in width and height.
    pub fn start((width, height): (u32, u32)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // What it starts ends with it, and it with the test, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--map-root-user"]);
        command.args(["--pid", "--fork", "--kill-child"]);
        command.args(["chromedriver", "--port=0"]);
        let mut driver = Process::start(command, folder);
        let port = driver.wait_for("its port", LONG, |output| {
            let (_, rest) = output.split_once("successfully on port ")?;
            rest.split_once('.').map(|(port, _)| port.to_owned())
        });
        let profile = tempfile::tempdir().expect("a folder");
        let data = format!("--user-data-dir={}", profile.path().display());
        let capabilities = json!({
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "args": FLAGS.iter().copied().chain([data.as_str()]).collect::<Vec<_>>(),
                // A window is never as narrow as a phone, but what it shows can be.
                "mobileEmulation": {"deviceMetrics": {
                    "width": width, "height": height, "pixelRatio": 1.0, "mobile": width < 600,
                }},
            },
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("an object")
        };
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities)
                .connect(&format!("http://127.0.0.1:{port}")),
        );
        Self {
            runtime,
            client: client.expect("a session of chromium"),
            driver,
            _profile: profile,
        }
    }

    pub fn open(&self, url: &str) {
        let opened = self.runtime.block_on(self.client.goto(url));
        opened.expect("a page");
    }

    /// Clicks as a person does: what is hidden or covered cannot be.
    pub fn click(&self, css: &str) {
        let clicked = self.runtime.block_on(async {
            let found = self.client.find(Locator::Css(css)).await?;
            found.click().await
        });
        clicked.unwrap_or_else(|error| panic!("no click on {css}: {error}"));
    }

    pub fn type_into(&self, css: &str, text: &str) {
        let typed = self.runtime.block_on(async {
            let found = self.client.find(Locator::Css(css)).await?;
            found.send_keys(text).await
        });
        typed.unwrap_or_else(|error| panic!("nothing typed into {css}: {error}"));
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        let value = self
            .runtime
            .block_on(self.client.execute(&script, Vec::new()));
        value.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The text of an element; empty where there is none.
    pub fn text(&self, css: &str) -> String {
        let css = Value::from(css);
        let text = self.value(&format!("document.querySelector({css})?.innerText ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until `holds`.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !holds(self) {
            assert!(Instant::now() < end, "no {what}:\n{}", self.text("body"));
            std::thread::sleep(POLL);
        }
    }

    /// What the page has written to its console, and what the browser has
    /// written there of it, since it was last asked.
    pub fn console(&self) -> Vec<String> {
        let lines = self.runtime.block_on(self.client.issue_cmd(Console));
        let lines = lines.expect("the lines of the console");
        let lines = lines.as_array().expect("a list").iter();
        lines.map(ToString::to_string).collect()
    }

    /// Keeps what is seen as a picture.
    pub fn screenshot(&self, path: &Path) {
        let picture = self.runtime.block_on(self.client.screenshot());
        std::fs::write(path, picture.expect("a picture")).expect("the file of a picture");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which puts its profile in order first.
        let _ = self.runtime.block_on(self.client.clone().close());
        self.driver.signal(Signal::KILL);
    }
}
