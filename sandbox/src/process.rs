//! Processes that outlive the program that started them.
//!
//! A pid alone names nobody: after a reboot, or a day, it is another program's. So a process is
//! remembered with the moment it was born, and is signalled only while both agree.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    born: String,
}

impl Process {
    /// The process that has this pid now. A zombie is nobody.
    pub(crate) fn with_pid(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            born: born(pid)?,
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        born(self.pid).as_ref() == Some(&self.born)
    }

    /// A short name for this process that no other has had since the machine was made.
    pub(crate) fn mark(&self) -> String {
        format!(
            "{:x}",
            xxh3_64(format!("{}:{}", self.pid, self.born).as_bytes())
        )
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end between the check and the signal: just what was wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to end with `signal`, and kills it when it has not after `patience`.
    pub(crate) async fn stop(&self, signal: Signal, patience: Duration) {
        self.signal(signal);
        // A stopped process (SIGSTOP) takes no signal but KILL until it goes on.
        self.signal(Signal::CONT);
        if !self.ended_within(patience).await {
            self.signal(Signal::KILL);
            self.ended_within(Duration::from_secs(10)).await;
        }
    }

    async fn ended_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// When the process was born, in a form that never repeats on this machine; `None` when there is
/// no such process.
#[cfg(target_os = "linux")]
fn born(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // proc_pid_stat(5): the 22nd field is the start in clock ticks since boot.
    let ticks = fields.nth(18)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}:{ticks}", boot.trim()))
}

#[cfg(not(target_os = "linux"))]
fn born(pid: i32) -> Option<String> {
    let out = std::process::Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let (stat, started) = text.trim().split_once(' ')?;
    (!stat.starts_with('Z')).then(|| started.trim().to_owned())
}

/// Processes that work in `dir` or below and run one of `programs`: what a killed start, or a lost
/// record, left behind. Of a family only the parent, who takes its children along. Empty where
/// there is no `/proc`.
pub(crate) fn working_in(dir: &Path, programs: &[&str]) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let found: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let link = |what| fs::read_link(format!("/proc/{pid}/{what}")).unwrap_or_default();
            // The kernel appends " (deleted)" to both when the file is gone.
            let (cwd, exe) = (link("cwd"), link("exe"));
            let name = exe.file_name().unwrap_or_default().to_string_lossy();
            Path::new(cwd.to_string_lossy().trim_end_matches(" (deleted)")).starts_with(dir)
                && programs.contains(&name.trim_end_matches(" (deleted)"))
        })
        .collect();
    found
        .iter()
        .filter(|pid| !parent(**pid).is_some_and(|parent| found.contains(&parent)))
        .filter_map(|pid| Process::with_pid(*pid))
        .collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_pid_that_was_given_to_another_is_not_the_process() {
        let me = Process::with_pid(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        let stale = Process {
            born: "before the reboot".to_owned(),
            ..me
        };
        assert!(!stale.is_alive());
        stale.signal(Signal::KILL); // or this test would not come back
    }

    #[tokio::test]
    async fn a_stopped_or_deaf_process_is_killed_and_a_zombie_is_dead() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; while :; do sleep 0.05; done"])
            .spawn()
            .unwrap();
        let process = Process::with_pid(child.id() as i32).unwrap();
        process.signal(Signal::STOP);
        process.stop(Signal::TERM, Duration::from_millis(100)).await;
        // Nobody has waited for it, so it is a zombie now.
        assert!(!process.is_alive());
        child.wait().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn finds_who_works_in_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(&home)
            .spawn()
            .unwrap();
        let program = fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
        let program = program.file_name().unwrap().to_str().unwrap();
        let found = working_in(&home, &[program]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pid, child.id() as i32);
        assert!(working_in(&home, &["another"]).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
