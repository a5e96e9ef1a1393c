//! The admin API against its own description, by Schemathesis: whatever is
//! sent, the answer is one that the description has.

use std::fs;

use support::admin::Admin;
use support::process::Process;
use support::viaduct::Viaduct;
use support::{LONG, python_tool};

/// What is checked; addresses cannot be told by a schema, so that what fits it
/// is no more than that.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,unsupported_method,allow_header_conformance,\
                      ignored_auth";

#[test]
fn whatever_is_sent_the_answer_is_one_that_is_described() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "open-sesame-please").expect("the file");
    let file = folder.path().join("v.toml");
    // With the set and the destination that the description has as examples.
    let text = "listen = ['127.0.0.1:0']\nhealth = 'off'\n[[set]]\nname = 'farm'\n\
                destinations = ['192.0.2.11', '192.0.2.12']\n";
    fs::write(&file, text).expect("the file");
    let [file, token] = [&file, &token].map(|path| path.to_str().expect("text"));
    let args = [
        "--config",
        file,
        "--admin-listen",
        "127.0.0.1:0",
        "--admin-token-file",
        token,
    ];
    let viaduct = Viaduct::start(&args);
    let Admin::Tcp(address) = Admin::of(&viaduct) else {
        panic!("no address");
    };
    let mut command = python_tool("schemathesis");
    command
        .arg("run")
        .arg(format!("http://{address}/api/v1/openapi.json"))
        .args(["--header", "Authorization: Bearer open-sesame-please"])
        // Another test upgrades.
        .args(["--exclude-path", "/api/v1/upgrade"])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS])
        .args(["--max-examples", "30", "--seed", "1"])
        .args(["--no-shrink", "--continue-on-failure", "--warnings", "off"]);
    let mut process = Process::start(command, folder);
    let status = process.wait(LONG);
    let said = process.output();
    assert!(status.success(), "{status}");
    let cases = said
        .lines()
        .find_map(|line| line.trim().split_once(" generated"));
    let cases: u32 = cases
        .and_then(|(count, _)| count.parse().ok())
        .expect("a count of cases");
    assert!(cases > 500, "only {cases}");
    viaduct.stop();
}
