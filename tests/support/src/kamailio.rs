//! Kamailio with a configuration made for one test.

use std::net::SocketAddr;
use std::process::Command;

use super::LONG;
use super::net::wait_until_bound;
use super::process::Process;
use super::sipp::PATIENCE;

/// What a Kamailio does that keeps transactions, whatever it relays to.
pub const CANCEL_AND_ACK: &str = "if (is_method(\"CANCEL\")) {\n\
        if (t_check_trans()) { t_relay(); }\n\
        exit;\n\
    }\n\
    t_check_trans();\n";

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
        let up = wait_until_bound(address, LONG);
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

    /// A registrar, and a proxy that stays on the path of a call to `server`.
    pub fn on_path(address: SocketAddr, server: SocketAddr) -> Self {
        let configuration = format!(
            "request_route {{\n\
                if (is_method(\"OPTIONS|REGISTER\")) {{ sl_send_reply(\"200\", \"OK\"); exit; }}\n\
                {CANCEL_AND_ACK}\n\
                if (has_totag()) {{\n\
                    if (!loose_route()) {{ sl_send_reply(\"404\", \"No Route\"); exit; }}\n\
                }} else {{\n\
                    record_route();\n\
                    $du = \"sip:{server}\";\n\
                }}\n\
                t_relay();\n\
            }}\n"
        );
        let modules = ["tm", "sl", "rr", "pv", "siputils", "textops"];
        Self::start(address, &modules, &configuration, &[])
    }
}
