//! What the kernel says of a process and all it started: time on the CPU by
//! the scheduler's own clock (not sampled by ticks), and memory.

use std::fs;
use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context, Result};

use crate::sys::cpu_time;

/// Accounting of a process tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Time on a CPU, in ns, with that of threads that have ended.
    pub(crate) cpu: u64,
    /// Of that, the time of the threads that carry datagrams, known by their
    /// name; 0 for a program whose threads have no such names.
    pub(crate) workers: u64,
    /// Time ready to run while something else had the CPU, in ns.
    pub(crate) waited: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.workers += other.workers;
        self.waited += other.waited;
    }
}

/// Reads the scheduler's accounting of `process` and its descendants.
///
/// # Errors
/// The process is gone, or the kernel keeps no such accounting.
pub(crate) fn usage(process: u32) -> Result<Usage> {
    let mut usage = Usage::default();
    for process in tree(process)? {
        let gone = || format!("process {process} is gone");
        usage.cpu += cpu_time(process).with_context(gone)?;
        for task in own_tasks(process)? {
            let (Some(line), Some(name)) = (told(&task, "schedstat")?, told(&task, "comm")?) else {
                continue;
            };
            let mut numbers = line.split_whitespace().map(str::parse::<u64>);
            let mut next = || {
                numbers
                    .next()
                    .and_then(Result::ok)
                    .context("an odd schedstat")
            };
            let cpu = next()?;
            if name.starts_with("worker-") {
                usage.workers += cpu;
            }
            usage.waited += next()?;
        }
    }
    Ok(usage)
}

/// Resident memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that processes share count once (`Pss`).
    pub(crate) proportional: f64,
    /// They count in each (`Rss`).
    pub(crate) resident: f64,
}

/// Resident memory of `process` and its descendants.
///
/// # Errors
/// The process is gone, or the kernel does not tell.
pub(crate) fn memory(process: u32) -> Result<Memory> {
    let mut memory = Memory::default();
    for process in tree(process)? {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
            .context("the kernel does not tell the memory of a process")?;
        let mebibytes = |key| {
            let kibibytes = kibibytes(&rollup, key).context("an odd smaps_rollup")?;
            anyhow::Ok(kibibytes as f64 / 1024.0)
        };
        memory.proportional += mebibytes("Pss:")?;
        memory.resident += mebibytes("Rss:")?;
    }
    Ok(memory)
}

/// Memory in MiB that `process` and its descendants have taken for what they
/// remember: that of each, and once what they share. Unlike [`memory`], it
/// takes no time that grows with it.
///
/// # Errors
/// The process is gone, or the kernel does not tell.
pub(crate) fn data(process: u32) -> Result<f64> {
    let (mut own, mut shared) = (0, 0);
    for process in tree(process)? {
        let status = fs::read_to_string(format!("/proc/{process}/status"))
            .context("the kernel does not tell the status of a process")?;
        let of = |key| kibibytes(&status, key).context("an odd status");
        own += of("RssAnon:")?;
        shared = shared.max(of("RssShmem:")?);
    }
    Ok((own + shared) as f64 / 1024.0)
}

/// Time that the host took from all cores for other guests, in ticks.
pub(crate) fn stolen() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = text.lines().find(|line| line.starts_with("cpu "));
    let steal = all.and_then(|line| line.split_whitespace().nth(8));
    steal.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

fn kibibytes(rollup: &str, key: &str) -> Option<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

/// `process` and its descendants.
///
/// # Errors
/// The process is gone, or the kernel does not tell.
pub(crate) fn tree(process: u32) -> Result<Vec<u32>> {
    let mut found = vec![process];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        for task in own_tasks(parent)? {
            let children = told(&task, "children")?.unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
    }
    Ok(found)
}

/// Whether no thread of `process` runs, or could run, until it is told to go on.
///
/// # Errors
/// The process is gone, or the kernel does not tell.
pub(crate) fn stands_still(process: u32) -> Result<bool> {
    for task in own_tasks(process)? {
        let stat = told(&task, "stat")?.unwrap_or_default();
        // Behind the name, which may be any, and stands in brackets.
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if state.starts_with(['R', 'S', 'D']) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the kernel tells of the thread with this folder; `None` where it has ended
/// since it was listed.
///
/// # Errors
/// The kernel does not tell.
fn told(task: &str, file: &str) -> Result<Option<String>> {
    match fs::read_to_string(format!("{task}/{file}")) {
        Ok(text) => Ok(Some(text)),
        Err(_) if !Path::new(task).exists() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the kernel does not tell {task}/{file}")),
    }
}

/// The folder of every thread of `process`.
fn own_tasks(process: u32) -> Result<Vec<String>> {
    fs::read_dir(format!("/proc/{process}/task"))
        .with_context(|| format!("process {process} is gone"))?
        .map(|entry| Ok(entry?.path().to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    fn shell(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .spawn()
            .expect("a shell")
    }

    fn end(mut child: Child) {
        child.kill().and_then(|()| child.wait()).expect("an end");
    }

    /// Waits until `holds`, ten seconds at most.
    fn eventually(mut holds: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        while !holds() {
            if begin.elapsed() > Duration::from_secs(10) {
                return false;
            }
            sleep(Duration::from_millis(5));
        }
        true
    }

    #[test]
    fn work_shows_in_the_usage() {
        let child = shell("i=0; while [ $i -lt 100000000 ]; do i=$((i+1)); done");
        let worked = eventually(|| usage(child.id()).expect("accounting").cpu > 20_000_000);
        end(child);
        assert!(worked);
    }

    #[test]
    fn the_work_of_workers_is_told_apart() {
        let work = || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(50) {}
            usage(std::process::id()).expect("accounting")
        };
        let thread = |name: &str| {
            let named = std::thread::Builder::new().name(name.to_owned());
            named
                .spawn(work)
                .and_then(|thread| thread.join().map_err(|_| std::io::Error::other("a panic")))
        };
        let other = thread("another-0").expect("a thread");
        assert!(other.cpu > 0);
        assert_eq!(other.workers, 0);
        let worker = thread("worker-0").expect("a thread");
        assert!(worker.workers > 0);
    }

    #[test]
    fn the_work_of_a_thread_that_has_ended_still_counts() {
        let own = || {
            let text = fs::read_to_string("/proc/thread-self/schedstat").expect("accounting");
            let cpu = text.split(' ').next().expect("a time");
            cpu.parse::<u64>().expect("a number")
        };
        // Alone, so that no children of other tests come and go meanwhile.
        let all = || cpu_time(std::process::id()).expect("a clock");
        let before = all();
        let work = move || while own() < 20_000_000 {};
        std::thread::spawn(work).join().expect("an end");
        assert!(all() - before >= 20_000_000);
    }

    #[test]
    fn a_child_belongs_to_the_tree() {
        let child = shell("sleep 2 & wait");
        let seen = eventually(|| tree(child.id()).expect("a tree").len() == 2);
        let memory = memory(child.id()).expect("memory").proportional;
        end(child);
        assert!(seen);
        assert!(memory > 0.1, "{memory} MiB");
    }

    #[test]
    fn memory_is_read_from_the_rollup() {
        let rollup =
            "5500-5600 ---p 0 00:00 0 [rollup]\nRss:  1692 kB\nPss:   399 kB\nPss_Anon: 1 kB\n";
        assert_eq!(kibibytes(rollup, "Pss:"), Some(399));
        assert_eq!(kibibytes(rollup, "Rss:"), Some(1692));
    }
}
