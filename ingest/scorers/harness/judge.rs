// What the tests of a task report to: included in the program that holds them, never in the candidate's crate.
//
// Every assert is a check. It is written down as it is made, on a file number that safe code cannot reach, and a
// failing one does not end its test. The last word is `end`; without it the tests did not come to their end.

use std::any::Any;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::{Mutex, OnceLock};

static CHANNEL: OnceLock<Mutex<File>> = OnceLock::new();
static STATE: Mutex<(usize, bool)> = Mutex::new((0, false)); // checks so far; whether the test holds by panicking

fn say(line: &str) {
    let mut file = CHANNEL.get().expect("a channel").lock().expect("the channel");
    file.write_all(line.replace('\n', " ").as_bytes()).and_then(|()| file.write_all(b"\n")).expect("a report");
}

fn words(thrown: &(dyn Any + Send)) -> String {
    let said = thrown.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| thrown.downcast_ref::<&str>().copied()).unwrap_or("panicked");
    said.chars().take(300).collect()
}

fn count(line: u32, failure: Option<String>) {
    STATE.lock().expect("the state").0 += 1;
    match failure {
        None => say("passed"),
        Some(said) => say(&format!("failed {line} {said}")),
    }
}

/// Where the tests may return something, and what it means.
pub trait Ending {
    fn failure(self) -> Option<String>;
}

impl Ending for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<T, E: std::fmt::Debug> Ending for Result<T, E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| format!("{error:?}"))
    }
}

/// Before the first test: the program's own file goes, so that nobody can read the tests in it.
pub fn begin() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = arguments[1].parse().expect("a file number");
    let file = unsafe { File::from_raw_fd(number) };
    CHANNEL.set(Mutex::new(file)).expect("one channel");
    std::fs::remove_file(&arguments[0]).expect("to be removed");
    set_hook(Box::new(|_| {}));
    say("begun");
}

/// One assert of the tests.
pub fn check<F: FnOnce()>(line: u32, holds: F) {
    if STATE.lock().expect("the state").1 {
        return holds();
    }
    let thrown = catch_unwind(AssertUnwindSafe(holds)).err();
    count(line, thrown.map(|one| words(&*one)));
}

/// One test; if it makes no check, its coming to an end is one.
pub fn unit<E: Ending, F: FnOnce() -> E>(must_panic: bool, test: F) {
    let before = {
        let mut state = STATE.lock().expect("the state");
        state.1 = must_panic;
        state.0
    };
    let ended = catch_unwind(AssertUnwindSafe(test));
    let silent = STATE.lock().expect("the state").0 == before;
    match ended {
        Ok(_) if must_panic => count(0, Some("it should have panicked".to_string())),
        Ok(ending) => match ending.failure() {
            None if !silent => {}
            failure => count(0, failure),
        },
        Err(_) if must_panic => count(0, None),
        Err(thrown) => count(0, Some(words(&*thrown))),
    }
}

/// After the last test.
pub fn end() {
    say("end");
}
