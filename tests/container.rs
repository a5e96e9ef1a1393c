//! The container file: what it copies is all that cargo asks for. No container
//! engine builds it here.

use std::fs;
use std::process::Command;

#[test]
fn what_the_container_file_copies_is_all_that_cargo_asks_for() {
    let repository = support::repository();
    let text = fs::read_to_string(repository.join("config/Containerfile")).expect("the file");
    let folder = tempfile::tempdir().expect("a folder");
    let copies = text.lines().filter_map(|line| line.strip_prefix("COPY "));
    for copy in copies.filter(|copy| !copy.starts_with("--from")) {
        let (sources, place) = copy.rsplit_once(' ').expect("sources and a place");
        assert!(place == "./" || place == sources, "{copy}");
        let mut command = Command::new("cp");
        command.args(["-r", "--parents"]).args(sources.split(' '));
        let copied = command.arg(folder.path()).current_dir(repository).status();
        assert!(copied.expect("cp").success(), "{copy}");
    }
    let output = Command::new(env!("CARGO"))
        // Reads every manifest, and resolves them by the lock file.
        .args(["tree", "--locked", "--offline", "--quiet"])
        .current_dir(folder.path())
        .output()
        .expect("cargo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
