//! Upgrades of a running Viaduct, and programs to upgrade to.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Signal;
use crate::program;
use crate::viaduct::Viaduct;

/// A configuration in a file.
pub struct File {
    folder: TempDir,
}

impl File {
    pub fn new(text: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        file.write(text);
        file
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self) -> PathBuf {
        self.folder().join("v.toml")
    }

    pub fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("the file");
    }

    pub fn args(&self) -> [String; 2] {
        ["--config".to_owned(), self.path().display().to_string()]
    }
}

pub fn config(listen: &[SocketAddr], workers: usize, to: &[SocketAddr]) -> String {
    let list = |all: &[SocketAddr], start: &str| {
        let each = all.iter().map(|each| format!("'{start}{each}'"));
        each.collect::<Vec<_>>().join(", ")
    };
    format!(
        "listen = [{}]\nworkers = {workers}\n[[set]]\nname = 'farm'\ndestinations = [{}]\n",
        list(listen, ""),
        list(to, "sip:")
    )
}

pub fn addresses(farm: &[std::net::UdpSocket]) -> Vec<SocketAddr> {
    let address = |socket: &std::net::UdpSocket| socket.local_addr().expect("an address");
    farm.iter().map(address).collect()
}

/// The lines that begin so, of all that it wrote.
pub fn lines<'o>(output: &'o str, start: &str) -> Vec<&'o str> {
    let lines = output.split_inclusive('\n');
    lines
        .filter(|line| line.starts_with(start) && line.ends_with('\n'))
        .map(str::trim_end)
        .collect()
}

/// Waits for one more such line.
pub fn next_line(viaduct: &mut Viaduct, start: &str, act: impl FnOnce(&Viaduct)) -> String {
    let before = lines(&viaduct.output(), start).len();
    act(viaduct);
    viaduct.wait_for(start, |output| {
        lines(output, start)
            .get(before)
            .map(|line| (*line).to_owned())
    })
}

/// Upgrades by SIGUSR2, and waits until it is ready again; what is said of it.
pub fn upgrade(viaduct: &mut Viaduct) -> String {
    next_line(viaduct, "ready:", |viaduct| viaduct.signal(Signal::USR2));
    let output = viaduct.output();
    lines(&output, "upgraded:")
        .pop()
        .expect("it says so")
        .to_owned()
}

/// Has an upgrade refused or fail, for a reason that it gives.
#[track_caller]
pub fn no_upgrade(viaduct: &mut Viaduct, start: &str, reason: &str) {
    let before = viaduct.output().len();
    viaduct.signal(Signal::USR2);
    let said = viaduct.wait_for(reason, |output| {
        let said = &output[before..];
        let whole = said.contains(start) && said.contains(reason);
        whole.then(|| said.to_owned())
    });
    assert!(!said.contains("upgraded:"), "{said}");
}

/// Viaduct from a copy of the program beside this file, with further arguments;
/// and that copy, in whose place another program can be put.
pub fn start_copy(file: &File, args: &[&str]) -> (Viaduct, PathBuf) {
    let copy = file.folder().join("viaduct");
    put_ours(&copy);
    let own = file.args();
    let args = [&own.each_ref().map(String::as_str), args].concat();
    let folder = tempfile::tempdir().expect("a temporary folder");
    (Viaduct::start_program(&copy, folder, &args), copy)
}

/// Puts the program under test in the place of another.
pub fn put_ours(place: &Path) {
    put(&program(), place);
}

/// Puts a copy of `from` in the place of a program. Another process writes it:
/// what this one has open for writing, a child that is being started has too,
/// and nobody can execute it meanwhile.
fn put(from: &Path, program: &Path) {
    let draft = program.with_extension("draft");
    let mut command = Command::new("install");
    let status = command.args(["-m", "755"]).arg(from).arg(&draft).status();
    assert!(status.expect("install").success());
    fs::rename(&draft, program).expect("another file in its place");
}

/// The same with a script of these lines.
pub fn put_script(program: &Path, lines: &str) {
    let text = program.with_extension("text");
    fs::write(&text, format!("#!/bin/sh\n{lines}\n")).expect("a script");
    put(&text, program);
}
