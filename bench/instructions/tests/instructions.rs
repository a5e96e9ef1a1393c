//! Instructions, counted by callgrind: what a decision takes must not creep
//! up, and must grow with the size of a message and no faster. Unlike times,
//! counts are the same on a busy machine.

#[path = "../../../tests/support/src/worst.rs"]
mod worst;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use worst::CASES;

/// Above a committed bound by this much is too much.
const MARGIN: f64 = 1.03;

/// Decisions counted for one figure.
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

/// Instructions of each `counted` of the program with these arguments, in turn.
/// One start of callgrind takes longer than most of them.
fn counts(arguments: &[&str]) -> Vec<u64> {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("profile");
    let run = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        // Callgrind takes one pattern for one purpose.
        .arg("--toggle-collect=*viaduct_instructions::counted*")
        .arg("--dump-after=viaduct_instructions::counted*")
        .arg(&*PROGRAM)
        .args(arguments)
        .output()
        .expect("valgrind: scripts/install-tools installs it");
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{arguments:?}: {text}");
    let parts = (1..).map(|part| profile.with_extension(part.to_string()));
    let parts = parts.map_while(|part| fs::read_to_string(part).ok());
    let counts: Vec<u64> = parts
        .map(|part| {
            let count = part.lines().find_map(|line| line.strip_prefix("summary: "));
            let count = count.and_then(|count| count.parse().ok());
            count.filter(|&count| count > 0).expect("a count")
        })
        .collect();
    assert!(!counts.is_empty(), "{arguments:?}: {text}");
    counts
}

#[test]
fn a_decision_takes_no_more_instructions_than_before() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let bounds = fs::read_to_string(path).expect("instructions.toml");
    let bounds: BTreeMap<String, u64> = toml::from_str(&bounds).expect("a table of numbers");
    assert!(!bounds.is_empty());
    let mut above = Vec::new();
    for (name, bound) in bounds {
        let count = counts(&[&name, &TIMES.to_string()]).iter().sum::<u64>() / TIMES;
        println!("{name} = {count}");
        if count as f64 > bound as f64 * MARGIN {
            above.push(format!("{name}: {count}, the bound is {bound}"));
        }
    }
    assert!(above.is_empty(), "{}", above.join("\n"));
}

#[test]
fn the_work_grows_with_the_size_and_no_faster() {
    let [once, more] = [SIZE, 4 * SIZE].map(|size| counts(&["worst", &size.to_string()]));
    assert_eq!((once.len(), more.len()), (CASES.len(), CASES.len()));
    let mut faster = Vec::new();
    for (((name, _), once), more) in CASES.iter().zip(once).zip(more) {
        let growth = more as f64 / once as f64;
        let told = format!("{name}: {once}, {more}, {growth:.2}");
        println!("{told}");
        if growth > QUADRUPLED {
            faster.push(told);
        }
    }
    assert!(faster.is_empty(), "{}", faster.join("\n"));
}

/// All of them hash the same of it, which is looked for once.
#[test]
fn generations_that_are_kept_hardly_add_to_the_work() {
    let [one, many] = ["1", "16"].map(|changes| counts(&["changed", changes])[0] as f64);
    println!("after changes: {one}, {many}, {:.2}", many / one);
    assert!(many / one < 1.2, "{one}, {many}");
}
