//! A capture of the loopback interface by dumpcap, read back by tshark.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::LONG;
use super::process::{Process, Signal};

/// A running capture.
pub struct Capture {
    process: Process,
    ports: Vec<u16>,
}

impl Capture {
    /// Captures the UDP datagrams from and to these ports.
    pub fn start(ports: &[u16]) -> Self {
        let filter: Vec<_> = ports
            .iter()
            .map(|port| format!("udp port {port}"))
            .collect();
        let mut command = Command::new("dumpcap");
        command.args(["-q", "-i", "lo", "-B", "64", "-a", "duration:120"]);
        command.args(["-f", &filter.join(" or "), "-w", "capture.pcapng"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = Process::start(command, folder);
        // dumpcap names the file once the capture is open.
        process.wait_for("open capture", LONG, |output| {
            output.contains("File:").then_some(())
        });
        Self {
            process,
            ports: ports.to_vec(),
        }
    }

    /// Ends the capture; demands that no packet was lost on the way into it.
    pub fn stop(mut self) -> Recording {
        self.process.signal(Signal::INT);
        let status = self.process.wait(LONG);
        let output = self.process.output();
        assert!(status.success(), "dumpcap ended with {status}:\n{output}");
        let summary = output
            .lines()
            .find(|line| line.contains("received/dropped"));
        let summary = summary.expect("dumpcap's summary of packets received/dropped");
        assert!(
            summary.contains("/0 (pcap:0/dumpcap:0"),
            "packets lost: {summary}"
        );
        Recording {
            process: self.process,
            ports: self.ports,
        }
    }
}

/// A capture that has ended.
pub struct Recording {
    /// Its folder holds the file.
    process: Process,
    ports: Vec<u16>,
}

impl Recording {
    /// Where it is kept.
    pub fn file(&self) -> PathBuf {
        self.process.file("capture.pcapng")
    }

    /// What [`read`] finds in it.
    #[track_caller]
    pub fn read(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        read(&self.file(), &self.ports, filter, fields).expect("a whole capture")
    }
}

/// Has tshark decode a capture, these ports as SIP: for each packet that `filter`
/// lets through, the values of `fields` (a field that occurs more than once in a
/// packet has its values joined by `|`).
///
/// # Errors
/// What tshark says of a file that is no whole capture.
pub fn read(
    file: &Path,
    ports: &[u16],
    filter: &str,
    fields: &[&str],
) -> Result<Vec<Vec<String>>, String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-n", "-Y", filter]);
    for port in ports {
        command.args(["-d", &format!("udp.port=={port},sip")]);
    }
    command.args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines();
    Ok(rows
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}
