//! The calling thread's share of the processor.

use std::io;

use nix::errno::Errno;

/// The least share that a thread can have, and the one it has by default (setpriority(2)).
const LEAST: libc::c_int = 19;
const USUAL: libc::c_int = 0;

/// Lets all others go first: this thread has what they leave. Threads and children that it starts inherit it.
pub fn yield_to_others() -> io::Result<()> {
    set_nice(LEAST)
}

/// Takes its share again, which takes CAP_SYS_NICE.
pub fn yield_no_more() -> io::Result<()> {
    set_nice(USUAL)
}

fn set_nice(value: libc::c_int) -> io::Result<()> {
    // SAFETY: it takes no pointers. 0 is the calling thread: on Linux a priority is a thread's own (setpriority(2)).
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) };
    Ok(Errno::result(set).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 19th field of a thread's stat (proc(5)), behind a name in brackets.
    fn nice() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let behind_name = stat.rsplit(") ").next().unwrap();
        behind_name.split(' ').nth(16).unwrap().to_owned()
    }

    #[test]
    fn it_is_this_thread_alone_that_lets_others_go_first() {
        let before = nice();
        std::thread::spawn(|| {
            yield_to_others().unwrap();
            assert_eq!(nice(), LEAST.to_string());
        })
        .join()
        .unwrap();
        assert_eq!(nice(), before);
    }
}
