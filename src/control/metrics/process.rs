//! What the kernel knows of this process, without anything of /proc that
//! systemd's `ProcSubset=pid` hides.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::page::Page;

pub(super) fn add(page: &mut Page) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let octets = |name| field(name).unwrap_or(0) * 1024;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
    page.counter(
        "process_cpu_seconds",
        "Time that all threads were on a processor.",
        cpu.as_secs_f64(),
    );
    page.gauge(
        "process_resident_memory_bytes",
        "Memory in use.",
        octets("VmRSS:"),
    );
    page.gauge(
        "process_virtual_memory_bytes",
        "Address space in use.",
        octets("VmSize:"),
    );
    page.gauge(
        "process_threads",
        "Threads.",
        field("Threads:").unwrap_or(0),
    );
    page.gauge(
        "process_open_fds",
        "Open files and sockets.",
        fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
    );
    page.gauge(
        "process_max_fds",
        "Files and sockets that it may have open.",
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    );
}
