//! The usual harness knows its tests when it is compiled; ours are also in a file. So: a small one, which speaks like the usual one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

pub struct Test {
    pub name: String,
    pub run: Run,
}

pub enum Run {
    /// Panics when it fails; what it returns is printed beside its name.
    Always(Box<dyn FnOnce() -> String>),
    /// A measurement, run only when it is asked for (`--ignored`).
    WhenAsked(fn() -> String),
    /// It cannot run here, and why.
    Cannot(String),
}

pub fn test(name: impl Into<String>, run: fn()) -> Test {
    let run = move || {
        run();
        String::new()
    };
    Test { name: name.into(), run: Run::Always(Box::new(run)) }
}

/// Functions by their names.
#[macro_export]
macro_rules! tests {
    ($module:literal: $($name:ident),+ $(,)?) => {
        vec![$($crate::runner::test(concat!($module, "::", stringify!($name)), $name)),+]
    };
}

pub fn run(tests: Vec<Test>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // The values of the usual harness's options are no names.
    let takes_value = |argument: &str| matches!(argument, "--test-threads" | "--color" | "--format" | "--skip");
    let mut filters = Vec::new();
    let mut skipped = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--skip" {
            skipped.extend(rest.next());
        } else if takes_value(argument) {
            rest.next();
        } else if !argument.starts_with('-') {
            filters.push(argument);
        }
    }
    let is_wanted = |name: &str| {
        let hit = |filter: &&String| if has("--exact") { name == **filter } else { name.contains(filter.as_str()) };
        (filters.is_empty() || filters.iter().any(hit)) && !skipped.iter().any(hit)
    };
    let all = tests.len();
    let tests: Vec<Test> = tests.into_iter().filter(|test| is_wanted(&test.name)).collect();
    let left_out = all - tests.len();
    if has("--list") {
        for test in &tests {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }

    println!("\nrunning {} tests", tests.len());
    let (mut passed, mut failed, mut ignored) = (0, Vec::new(), 0);
    for Test { name, run } in tests {
        let run: Box<dyn FnOnce() -> String> = match run {
            Run::Cannot(why) => {
                println!("test {name} ... ignored, {why}");
                ignored += 1;
                continue;
            }
            Run::WhenAsked(run) if has("--ignored") || has("--include-ignored") => Box::new(run),
            Run::Always(run) if !has("--ignored") => run,
            _ => {
                println!("test {name} ... ignored");
                ignored += 1;
                continue;
            }
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(said) if said.is_empty() => println!("test {name} ... ok"),
            Ok(said) => println!("test {name} ... ok: {said}"),
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(name);
                continue;
            }
        }
        passed += 1;
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!("\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {left_out} filtered out\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
