//! Where a test build can be made to fail on purpose. Without the feature `faults` nothing of it is there, and `make dist` looks.
//!
//! - `FAULT_FOLDER`: a folder of ways. A way's folder has a text for its name which the effects of a run hold, such as a digest or
//!   a request's id; a run that meets one is on that way from then on. A file in it that is named as a point is takes the process
//!   down when a run comes to that point (or, if it holds `panic`, that one piece of work). Whoever dies there has taken the file
//!   away, so each kills once; if it holds `again`, whoever comes next dies after that effect. What is passed is written into `passed`.
//! - `FAULT_PANIC_AT`, `FAULT_PANIC_AFTER`: a text. The effect whose description holds it panics, before or after, time and again.
//! - `FAULT_WALK_DIES_AT`: a text. A walk dies where a page is done and not noted yet, if its place's description holds it.

#[cfg(feature = "faults")]
pub use on_purpose::{Run, die_at_page, time_to_read};
#[cfg(not(feature = "faults"))]
pub use without::{Run, die_at_page, time_to_read};

use std::time::Duration;

/// How long one message reads findings: half of what the function has, since others are worked on beside it.
const READS_FOR: Duration = Duration::from_secs(55);

/// What ships: nothing happens here.
#[cfg(not(feature = "faults"))]
mod without {
    use std::fmt::Debug;
    use std::time::Duration;

    use crate::domain::walk::Kept;

    #[derive(Debug)]
    pub struct Run;

    impl Run {
        pub fn of<T>(_machine: &T) -> Self {
            Self
        }

        pub fn named(_name: &str) -> Self {
            Self
        }

        pub fn before(&mut self, _effect: &str, _about: &impl Debug) {}

        pub fn after(&mut self, _effect: &str, _about: &impl Debug) {}

        pub async fn around<T>(&mut self, _effect: &'static str, _about: &impl Debug, effect: impl Future<Output = T>) -> T {
            effect.await
        }
    }

    pub fn die_at_page(_kept: &Kept) {}

    pub fn time_to_read() -> Duration {
        super::READS_FOR
    }
}

#[cfg(feature = "faults")]
mod on_purpose {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use crate::domain::walk::Kept;

    /// One piece of work, from its first effect to its last.
    #[derive(Debug)]
    pub struct Run {
        id: String,
        name: String,
        ways: Option<PathBuf>,
        way: Option<PathBuf>,
        times: BTreeMap<&'static str, u32>,
    }

    impl Run {
        /// Known by the machine's type.
        pub fn of<T>(_machine: &T) -> Self {
            Self::named(std::any::type_name::<T>().rsplit("::").next().unwrap_or_default())
        }

        pub fn named(name: &str) -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(1);
            let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
            let function = function.rfind("on-").map_or("", |at| &function[at..]);
            Self {
                id: format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
                name: format!("{function}, {name}"),
                ways: std::env::var_os("FAULT_FOLDER").map(PathBuf::from),
                way: None,
                times: BTreeMap::new(),
            }
        }

        pub fn before(&mut self, effect: &'static str, about: &impl Debug) {
            panic_where("FAULT_PANIC_AT", about);
            *self.times.entry(effect).or_default() += 1;
            self.point("before", effect, about);
        }

        pub fn after(&mut self, effect: &'static str, about: &impl Debug) {
            panic_where("FAULT_PANIC_AFTER", about);
            self.point("after", effect, about);
        }

        pub async fn around<T>(&mut self, effect: &'static str, about: &impl Debug, carried_out: impl Future<Output = T>) -> T {
            self.before(effect, about);
            let outcome = carried_out.await;
            self.after(effect, about);
            outcome
        }

        fn point(&mut self, when: &str, effect: &'static str, about: &impl Debug) {
            if self.way.is_none() {
                self.way = self.find_way(&format!("{about:?}"));
            }
            let Some(way) = &self.way else { return };
            let any = format!("{}, {when} {effect}", self.name);
            let point = format!("{any}, {}", self.times.get(effect).copied().unwrap_or_default());
            self.note(&point);
            let Some((armed, how)) = [&point, &any].into_iter().find_map(|name| fs::read_to_string(way.join(name)).ok().map(|how| (way.join(name), how)))
            else {
                return;
            };
            // Of two that come here at once, one has taken it away.
            if fs::remove_file(&armed).is_err() {
                return;
            }
            let how = match how.strip_suffix(", again") {
                Some(how) => {
                    // Whoever comes next has less to do: it may be the first such effect then.
                    let _ = fs::write(way.join(format!("{}, after {effect}", self.name)), how);
                    how
                }
                None => &how,
            };
            self.note("died");
            assert!(how != "panic", "killed on purpose: {point}");
            std::process::abort();
        }

        fn find_way(&self, about: &str) -> Option<PathBuf> {
            let ways = fs::read_dir(self.ways.as_ref()?).ok()?;
            ways.flatten().find(|way| way.file_name().to_str().is_some_and(|name| about.contains(name))).map(|way| way.path())
        }

        fn note(&self, what: &str) {
            let Some(way) = &self.way else { return };
            // In one piece, since others write beside us.
            if let Ok(mut passed) = OpenOptions::new().create(true).append(true).open(way.join("passed")) {
                let _ = passed.write_all(format!("{}\t{what}\n", self.id).as_bytes());
            }
        }
    }

    fn panic_where(variable: &str, about: &impl Debug) {
        if let Ok(text) = std::env::var(variable) {
            assert!(text.is_empty() || !format!("{about:?}").contains(&text), "fault point");
        }
    }

    pub fn die_at_page(kept: &Kept) {
        let here = format!("{}, try {}", kept.walk.place, kept.tries);
        if std::env::var("FAULT_WALK_DIES_AT").is_ok_and(|text| !text.is_empty() && here.contains(&text)) {
            std::process::abort();
        }
    }

    pub fn time_to_read() -> Duration {
        std::env::var("FAULT_READS_FOR_MS").ok().and_then(|text| text.parse().ok()).map_or(super::READS_FOR, Duration::from_millis)
    }
}
