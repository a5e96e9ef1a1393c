//! A scene whose configuration is a file, to be changed and loaded again.

use std::fs;
use std::path::PathBuf;

use super::dialog::{FILE, Peer, Request, Scene, read};
use super::net::V4;
use super::process::Signal;

/// A scene with its configuration in a file.
pub struct Farm {
    pub scene: Scene,
}

/// One listener on a free port.
pub const LISTEN: &str = "listen = ['127.0.0.1:0']\n";

impl Farm {
    /// As many members as `states` has, with these URI parameters; further
    /// lines of the file; further arguments.
    pub fn new(states: &[&str], more: &str, args: &[&str]) -> Self {
        let farm: Vec<Peer> = states.iter().map(|_| Peer::new(V4)).collect();
        let text = text(&farm, states, more);
        let scene = Scene::with_file(farm, &text, args);
        Self { scene }
    }

    pub fn path(&self) -> PathBuf {
        self.scene.viaduct.file(FILE)
    }

    /// Writes this text as the file and reloads; returns what is said of it.
    pub fn reload(&mut self, text: &str) -> String {
        fs::write(self.path(), text).expect("the file");
        let before = self.scene.viaduct.output().len();
        self.scene.viaduct.signal(Signal::HUP);
        self.scene
            .viaduct
            .wait_for("an answer to SIGHUP", |output| {
                let said = &output[before..];
                let outcome = |line: &str| {
                    let line = line.strip_prefix("error: ").unwrap_or(line);
                    line.starts_with("reload")
                };
                let last = said.lines().any(outcome);
                (last && said.ends_with('\n')).then(|| said.to_owned())
            })
    }

    /// Members with these URI parameters; "-" for one that is left out.
    pub fn change(&mut self, states: &[&str]) -> String {
        let text = text(&self.scene.farm, states, "");
        self.reload(&text)
    }

    /// Sends `count` new calls; how many came to each member.
    #[track_caller]
    pub fn shares(&self, count: usize) -> Vec<usize> {
        self.scene.shares(count)
    }

    /// Sends from the caller; all that comes of it at members, in no order.
    #[track_caller]
    pub fn copies(&self, octets: impl AsRef<[u8]>) -> Vec<(usize, Vec<u8>)> {
        self.scene.send(octets);
        let probe = Peer::new(V4);
        let request = Request::new("OPTIONS", probe.address());
        probe.send(self.scene.front(), request.text());
        let mut copies = Vec::new();
        // What comes of the probe is sent last.
        loop {
            let (member, octets) = self.scene.at_farm();
            if read(&octets).call_id == request.call_id.as_bytes() {
                break;
            }
            copies.push((member, octets));
        }
        for (number, member) in self.scene.farm.iter().enumerate() {
            copies.extend(std::iter::from_fn(|| member.poll()).map(|(octets, _)| (number, octets)));
        }
        copies
    }

    /// The same, and only to which members.
    #[track_caller]
    pub fn reached(&self, octets: impl AsRef<[u8]>) -> Vec<usize> {
        let mut members: Vec<_> = self
            .copies(octets)
            .into_iter()
            .map(|(member, _)| member)
            .collect();
        members.sort_unstable();
        members
    }
}

/// The file for a farm with these URI parameters; "-" for a member that is left
/// out; further lines.
pub fn text(farm: &[Peer], states: &[&str], more: &str) -> String {
    let members = farm.iter().zip(states).filter(|(_, state)| **state != "-");
    let members = members.map(|(member, state)| format!("'sip:{}{state}'", member.address()));
    let members = members.collect::<Vec<_>>().join(", ");
    format!("{LISTEN}{more}[[set]]\nname = 'farm'\ndestinations = [{members}]\n")
}
