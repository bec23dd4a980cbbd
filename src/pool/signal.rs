//! Signals to processes that aren't ours to wait for: the standard library only kills, and only its own children.

use std::io;

/// Asks a process to end.
pub fn terminate(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGTERM)
}

/// Whether there is such a process.
pub fn is_alive(pid: u32) -> bool {
    signal(pid, 0).is_ok()
}

fn signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = match libc::pid_t::try_from(pid) {
        Ok(pid) if pid > 0 => pid,
        // Zero and below are groups of processes.
        _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    // SAFETY: `kill` takes two numbers and touches no memory of this process.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
