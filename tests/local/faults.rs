//! Faults and held calls: what a test may do to any call that a function makes.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::local::wire::Arrived;

#[derive(Clone, Debug)]
pub enum Fault {
    Throttle,
    /// 500, before anything was done.
    ServerError,
    AccessDenied,
    /// Any other error, by its code.
    Error {
        status: u16,
        code: &'static str,
        message: &'static str,
    },
    /// Not carried out: this is what AWS says, in its own form.
    Says(String),
    /// The connection is closed, nothing was done.
    Cut,
    /// It was done, but the caller never hears of it.
    LoseAnswer,
    /// Carried out after this long.
    Slow(Duration),
    /// Not carried out before the test says so.
    Hold(Gate),
    /// Carried out at once, answered when the test says so.
    HoldAnswer(Gate),
}

/// Where a held call waits.
#[derive(Clone, Debug)]
pub struct Gate {
    reached: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    fn new() -> Self {
        Self { reached: watch::Sender::new(0), open: watch::Sender::new(false) }
    }

    pub async fn pass(&self) {
        self.reached.send_modify(|calls| *calls += 1);
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// A call that is held, or will be. Dropping it lets the call go.
#[derive(Debug)]
pub struct Held {
    gate: Gate,
    what: String,
}

impl Held {
    /// Returns once a call has arrived and waits.
    pub async fn reached(&self) {
        let mut reached = self.gate.reached.subscribe();
        let arrived = reached.wait_for(|calls| *calls > 0);
        assert!(tokio::time::timeout(Duration::from_secs(60), arrived).await.is_ok(), "no call of {} arrived within 60 s", self.what);
    }

    pub fn is_reached(&self) -> bool {
        *self.gate.reached.borrow() > 0
    }

    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.open.send_replace(true);
    }
}

/// What shall happen to some calls of one account.
#[derive(Debug)]
struct Rule {
    account: String,
    operation: &'static str,
    holding: Vec<String>,
    left: usize,
    fault: Fault,
}

#[derive(Clone, Debug, Default)]
pub struct Rules(Arc<Mutex<Vec<Rule>>>);

impl Rules {
    pub fn on(&self, account: &str, operation: &'static str) -> On {
        On { rules: self.clone(), account: account.to_owned(), operation, holding: Vec::new(), times: 1 }
    }

    /// The fault that this call meets, if any; the first rule that fits and is not used up.
    pub fn fault_for(&self, call: &Arrived) -> Option<Fault> {
        let mut rules = self.0.lock().expect("no panic while locked");
        let rule = rules.iter_mut().find(|rule| {
            rule.left > 0
                && rule.operation == call.operation
                && (rule.account == call.account || call.account.is_empty())
                && rule.holding.iter().all(|text| call.holds(text))
        })?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }
}

/// `on("PutItem").with(digest).times(2).meets(Fault::Throttle)`
#[must_use]
#[derive(Debug)]
pub struct On {
    rules: Rules,
    account: String,
    operation: &'static str,
    holding: Vec<String>,
    times: usize,
}

impl On {
    /// Only calls whose path or body holds this text: a digest, a table's name.
    pub fn with(mut self, text: impl ToString) -> Self {
        self.holding.push(text.to_string());
        self
    }

    /// For this many calls; once, unless told.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    pub fn meets(self, fault: Fault) {
        let rule = Rule { account: self.account, operation: self.operation, holding: self.holding, left: self.times, fault };
        self.rules.0.lock().expect("no panic while locked").push(rule);
    }

    /// Holds the next such call, before anything is done.
    pub fn hold(self) -> Held {
        let held = self.held();
        let gate = held.gate.clone();
        self.meets(Fault::Hold(gate));
        held
    }

    /// Lets the next such call be carried out, but holds its answer.
    pub fn hold_answer(self) -> Held {
        let held = self.held();
        let gate = held.gate.clone();
        self.meets(Fault::HoldAnswer(gate));
        held
    }

    fn held(&self) -> Held {
        Held { gate: Gate::new(), what: format!("{} {:?}", self.operation, self.holding) }
    }
}
