//! Instructions, counted by callgrind: what a decision takes must not creep
//! up, and must grow with the size of a message and no faster. Unlike times,
//! counts are the same on a busy machine.

#[path = "../../../tests/support/src/worst.rs"]
mod worst;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Above a committed bound by this much is too much.
const MARGIN: f64 = 1.03;

/// Decisions counted for one figure, the first one left out.
const TIMES: u64 = 100;

/// Four times the octets, at most this many times the instructions.
const QUADRUPLED: f64 = 4.6;

/// Sizes for the growth; four times the first is below a datagram's most.
const SIZE: usize = 16_000;

/// The release build of `src/main.rs`, by the same cargo.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--bin",
            "viaduct-instructions",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .output()
        .expect("cargo");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let messages = String::from_utf8_lossy(&built.stdout);
    let path = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "viaduct-instructions";
        let path = message["executable"].as_str().map(PathBuf::from);
        path.filter(|_| is_it)
    });
    path.expect("the path of the program")
});

/// Instructions inside `counted` of the program with these arguments.
fn instructions(arguments: &[&str]) -> u64 {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*viaduct_instructions*counted*")
        .arg(&*PROGRAM)
        .args(arguments)
        .output()
        .expect("valgrind: scripts/install-tools installs it");
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{arguments:?}: {text}");
    let count = text
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let count = count.and_then(|count| count.trim().parse().ok());
    count
        .filter(|&count| count > 0)
        .unwrap_or_else(|| panic!("{arguments:?}: {text}"))
}

#[test]
fn a_decision_takes_no_more_instructions_than_before() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let bounds = std::fs::read_to_string(path).expect("instructions.toml");
    let bounds: BTreeMap<String, u64> = toml::from_str(&bounds).expect("a table of numbers");
    assert!(!bounds.is_empty());
    let mut above = Vec::new();
    for (name, bound) in bounds {
        // The first fills caches of the standard library, so it is left out.
        let times = (TIMES + 1).to_string();
        let count = (instructions(&[&name, &times]) - instructions(&[&name, "1"])) / TIMES;
        println!("{name} = {count}");
        if count as f64 > bound as f64 * MARGIN {
            above.push(format!("{name}: {count}, the bound is {bound}"));
        }
    }
    assert!(above.is_empty(), "{}", above.join("\n"));
}

#[test]
fn the_work_grows_with_the_size_and_no_faster() {
    let mut faster = Vec::new();
    for (number, (name, _)) in worst::CASES.iter().enumerate() {
        let number = number.to_string();
        let [once, more] = [SIZE, 4 * SIZE]
            .map(|size| instructions(&["worst", &number, &size.to_string()]) as f64);
        let told = format!("{name}: {once}, {more}, {:.2}", more / once);
        println!("{told}");
        if more / once > QUADRUPLED {
            faster.push(told);
        }
    }
    assert!(faster.is_empty(), "{}", faster.join("\n"));
}

/// All of them hash the same of it, which is looked for once.
#[test]
fn generations_that_are_kept_hardly_add_to_the_work() {
    let [one, many] = ["1", "16"].map(|changes| instructions(&["changed", changes]) as f64);
    println!("after changes: {one}, {many}, {:.2}", many / one);
    assert!(many / one < 1.2, "{one}, {many}");
}
