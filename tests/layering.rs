//! The rooms of `src` and the one direction in which they may use each other;
//! what the pure ones must not name; where unsafe code may be.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the top down: each may use what is below it.
const ORDER: [&str; 17] = [
    "main",
    "cli",
    "demo",
    "supervisor",
    "control",
    "worker",
    "health",
    "accounting",
    "mirror",
    "queue",
    "resolver",
    "net",
    "transaction",
    "proxy",
    "dispatcher",
    "config",
    "sip",
];

/// Those that may use less than what is below them.
const NARROWER: [(&str, &[&str]); 7] = [
    ("main", &["cli"]),
    ("health", &["config", "sip"]),
    ("accounting", &["queue", "transaction", "config", "sip"]),
    ("mirror", &["queue", "config", "sip"]),
    ("queue", &[]),
    ("resolver", &["proxy", "config", "sip"]),
    ("net", &["transaction", "sip"]),
];

/// Whether a file of `room` may use what is in `used`.
fn may_use(room: &str, used: &str) -> bool {
    if let Some((_, few)) = NARROWER.iter().find(|(narrow, _)| *narrow == room) {
        return few.contains(&used);
    }
    let place = |name: &str| ORDER.iter().position(|each| *each == name);
    place(room)
        .zip(place(used))
        .is_some_and(|(room, used)| room < used)
}

/// The rooms that take bytes, values and the time, and give values back.
const PURE: [&str; 5] = ["transaction", "proxy", "dispatcher", "config", "sip"];

/// The files of other rooms that do so too.
const PURE_FILES: [&str; 3] = [
    "src/health/machine.rs",
    "src/health/passive.rs",
    "src/health/probe.rs",
];

/// What would make them depend on anything else.
const IMPURE: [&str; 18] = [
    "Instant",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "socket2",
    "mio::",
    "tokio",
    "hickory",
    "libc",
    "getrandom",
    "RandomState",
    "collections::HashMap",
    "collections::HashSet",
    "std::fs",
    "std::thread",
    "std::env",
    "Mutex",
    "println!",
];

/// The one file of them that may read files, and count cores.
const LOADER: &str = "src/config/load.rs";

/// Where Rust is.
const ALL: [&str; 3] = ["src", "bench", "tests"];

const LONGEST: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, by its path from the root, with its code:
/// comments are cut away.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // The fuzz targets build below their own folder.
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                let code = text.lines().map(without_comment);
                let name = path.strip_prefix(root()).expect("below the root");
                let code = code.collect::<Vec<_>>().join("\n");
                found.push((name.display().to_string(), code));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

/// A line up to its comment, which begins at the first `//` outside a string.
fn without_comment(line: &str) -> &str {
    let outside = |at: usize| {
        let quotes = line[..at]
            .replace("\\\\", "")
            .replace("\\\"", "")
            .replace("'\"'", "");
        quotes.matches('"').count().is_multiple_of(2)
    };
    let mut slashes = line.match_indices("//").map(|(at, _)| at);
    slashes
        .find(|at| outside(*at))
        .map_or(line, |at| &line[..at])
}

/// The room a file of `src` belongs to.
fn room(file: &str) -> &str {
    let rest = file.strip_prefix("src/").expect("a file of src");
    rest.split(['/', '.']).next().unwrap_or(rest)
}

/// The rooms that `code` names behind `prefix`, in a path or in a list.
fn named<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let word = |text: &'a str| {
        let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        &text[..end.unwrap_or(text.len())]
    };
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(list) => {
                // The first word of each item at the top of the list.
                let mut depth = 0;
                let mut item_starts = true;
                for (at, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => item_starts = true,
                        _ if letter.is_whitespace() => {}
                        _ if item_starts => {
                            rooms.push(word(&list[at..]));
                            item_starts = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

#[test]
fn imports_run_downwards_only() {
    let mut wrong = Vec::new();
    for (file, code) in sources("src") {
        let own = room(&file);
        if own == "lib" {
            continue;
        }
        let mut used = named(&code, "crate::");
        used.extend(named(&code, "viaduct::"));
        used.extend(named(&code, "super::super::"));
        for used in used {
            if used != own && !may_use(own, used) {
                wrong.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `use super::super` from a file in a room's folder would leave the room.
#[test]
fn nothing_climbs_out_of_its_room() {
    for (file, code) in sources("src") {
        let depth = file.matches('/').count();
        assert!(depth > 2 || !code.contains("super::super"), "{file}");
    }
}

#[test]
fn what_is_pure_names_no_clock_socket_or_chance() {
    let mut wrong = Vec::new();
    let mut files = PURE_FILES.to_vec();
    for (file, code) in sources("src") {
        let is_named = files.contains(&file.as_str());
        files.retain(|name| *name != file);
        if is_named || PURE.contains(&room(&file)) && file != LOADER {
            let named = IMPURE.iter().filter(|name| code.contains(**name));
            wrong.extend(named.map(|name| format!("{file} names {name}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files.is_empty(), "no such files: {files:?}");
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    let mut found = false;
    for folder in ALL {
        for (file, code) in sources(folder) {
            let belongs = file.starts_with("src/net/") || file == "bench/src/sys.rs";
            let uses = code.contains("unsafe {") || code.contains("unsafe impl");
            found |= uses && belongs;
            assert!(
                belongs || file == "tests/layering.rs" || !uses,
                "{file} has unsafe code"
            );
        }
    }
    assert!(found, "the search finds nothing at all");
}

#[test]
fn no_source_is_too_long_to_hold_in_the_head() {
    for folder in ALL {
        for (file, code) in sources(folder) {
            let lines = code.lines().count();
            assert!(lines <= LONGEST, "{file} has {lines} lines");
        }
    }
}

/// The search itself: it must see what it is to forbid.
#[test]
fn the_rooms_of_an_import_are_found() {
    let code = "use crate::config::{Config, text};\nuse crate::{sip::{self, Span}, net, worker};";
    assert_eq!(named(code, "crate::"), ["config", "sip", "net", "worker"]);
}

#[test]
fn a_comment_begins_behind_the_strings_of_a_line() {
    for (line, code) in [
        ("one(); // two", "one(); "),
        ("/// tokio", ""),
        (
            r#"get("http://x"); two() // three"#,
            r#"get("http://x"); two() "#,
        ),
        (r#"'"' => one(), // two"#, r#"'"' => one(), "#),
        (r#"say("\"\\"); // two"#, r#"say("\"\\"); "#),
    ] {
        assert_eq!(without_comment(line), code);
    }
}
