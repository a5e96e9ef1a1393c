//! Kamailio with a configuration made for one test.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::net::wait_until_bound;
use super::process::Process;
use super::sipp::PATIENCE;

/// A running Kamailio.
pub struct Kamailio {
    /// Ended, with its children, when dropped.
    _process: Process,
    pub address: SocketAddr,
}

impl Kamailio {
    /// Starts a Kamailio on `address` with these modules and this rest of a
    /// configuration (module parameters and routes), and with the named
    /// files beside it.
    pub fn start(
        address: SocketAddr,
        modules: &[&str],
        configuration: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut loads: String = modules
            .iter()
            .map(|name| format!("loadmodule \"{name}.so\"\n"))
            .collect();
        if modules.contains(&"tm") {
            for timer in ["retr_timer1", "retr_timer2"] {
                loads += &format!("modparam(\"tm\", \"{timer}\", {PATIENCE})\n");
            }
        }
        // Nothing here asks a name server: the tests run without a network.
        let whole = format!(
            "#!KAMAILIO\ndebug=0\nlog_stderror=yes\nchildren=1\ndisable_tcp=yes\nauto_aliases=no\n\
             alias=\"kamailio.invalid\"\ndns=no\nrev_dns=no\nuse_dns_cache=off\n\
             maxbuffer=4194304\nlisten=udp:{address}\n{loads}{configuration}\n"
        );
        for (name, text) in files.iter().chain(&[("kamailio.cfg", whole.as_str())]) {
            std::fs::write(folder.path().join(name), text).expect("a file for Kamailio");
        }
        let mut command = Command::new("kamailio");
        command.args([
            "-DD",
            "-E",
            "-f",
            "kamailio.cfg",
            "-w",
            ".",
            "-Y",
            ".",
            "-m",
            "64",
        ]);
        let process = Process::start(command, folder);
        let up = wait_until_bound(address, Duration::from_secs(15));
        assert!(
            up,
            "Kamailio does not listen on {address}:\n{}",
            process.output()
        );
        Self {
            _process: process,
            address,
        }
    }
}
