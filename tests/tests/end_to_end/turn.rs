//! One file after another. Each test starts many processes and has limits of time, and some take services away or put
//! as much load on them as there can be: two files at once would be measured together. A test binary runs as many tests
//! at once as there are cores, whatever file they are in.

use std::sync::{Condvar, Mutex};

/// Whose turn it is: a file, and how many of its tests run.
static RUNNING: Mutex<(&str, usize)> = Mutex::new(("", 0));
static OVER: Condvar = Condvar::new();

/// Ends with the test that holds it.
pub(crate) struct Turn(());

/// Waits until no test of another file runs. Blocks the test's thread, on which nothing else runs yet.
pub(crate) fn of(file: &'static str) -> Turn {
    let running = RUNNING.lock().unwrap();
    let another = |running: &mut (&str, usize)| running.1 > 0 && running.0 != file;
    let mut running = OVER.wait_while(running, another).unwrap();
    *running = (file, running.1 + 1);
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.lock().unwrap().1 -= 1;
        OVER.notify_all();
    }
}
