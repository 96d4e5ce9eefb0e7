//! The sweep: news can be lost, so somebody has to look.
//!
//! Every minute: a request whose time is over, and whose last timer has not answered it, is answered from its item alone; an
//! answer that was stored and never sent is sent. Whatever time is left goes into a walk ([`super::walk`]) that is under way. One
//! begins each day, and one when CloudFormation makes a pipeline and asks for what has been in the registry before.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::deploy::{Here, place_of_answer};
use super::drive::drive;
use super::error::HandlerError;
use super::faults::Run;
use super::metrics::{self, Unit};
use super::walk;
use crate::aws::Aws;
use crate::domain::history::stack_name;
use crate::domain::plan;
use crate::domain::policy::Policy;
use crate::domain::protocol::Why;
use crate::domain::protocol::deploy::Home;
use crate::domain::protocol::wake::{By, Wake};
use crate::domain::request::Answer;
use crate::domain::walk::Walker;
use crate::events::deployment::{Kind, Request};
use crate::events::tick::{self, Tick};

/// How long a minute's tick may set out on another page of a walk: the function has 60 s.
const WALKS_FOR: Duration = Duration::from_secs(35);
/// The role of a stack that was made a moment ago may do nothing yet.
const FRESH_ROLE: Duration = Duration::from_secs(20);

pub async fn on_sweep(event: &Value, aws: &Aws, here: &Here) -> Result<(), HandlerError> {
    let until = Instant::now() + WALKS_FOR;
    match tick::read(event).map_err(HandlerError::UnreadableEvent)? {
        Tick::Minute => {
            // Those who wait come first.
            let swept = Box::pin(end_waits(aws, &here.home)).await;
            Box::pin(walk::go_on(aws, until)).await;
            swept
        }
        Tick::Day => {
            match walk::begin(Walker::Daily, aws).await.map_err(HandlerError::TryAgain)? {
                true => info!(walk = %Walker::Daily, "begun"),
                false => warn!(walk = %Walker::Daily, "not begun: the one before it is still under way"),
            }
            Ok(())
        }
        Tick::Backfill(asked) => backfill(&asked, aws, here).await,
    }
}

async fn end_waits(aws: &Aws, home: &Home) -> Result<(), HandlerError> {
    let open = aws.requests.open().await.map_err(HandlerError::TryAgain)?;
    let now = Timestamp::now();
    let (waiting, mut overdue, mut failed) = (open.len(), 0, 0);
    for request in open {
        if !plan::is_for_sweep(request.due, request.lease_until, now) {
            continue;
        }
        overdue += 1;
        let wake = Wake::new(request.request_id.clone(), By::Sweep, home.clone(), Policy::default());
        match drive(wake, aws).await {
            Ok(what) => info!(request_id = request.request_id, stack = request.stack, logical_id = request.logical_id, "{what}"),
            // The next minute comes anyway; the others do not wait for this one.
            Err(why) => {
                failed += 1;
                error!(request_id = request.request_id, stack = request.stack, logical_id = request.logical_id, "{}", why.chain());
            }
        }
    }
    if overdue > 0 {
        metrics::count(&aws.settings.pipeline, "OverdueRequests", overdue, Unit::Count);
    }
    info!(waiting, overdue, failed, "swept");
    Ok(())
}

/// Begins a walk through the registry, and says so to CloudFormation at once: a pipeline does not wait for it, and is not held up
/// by it either.
async fn backfill(asked: &Request, aws: &Aws, here: &Here) -> Result<(), HandlerError> {
    let stack = stack_name(&asked.stack_id);
    let url = place_of_answer(asked, aws, here);
    let url = url.map_err(|error| HandlerError::NoAnswerPossible { stack: stack.to_owned(), reason: error.to_string() })?;
    if asked.kind == Kind::Create {
        match begin_backfill(aws).await {
            Ok(true) => info!(walk = %Walker::Backfill, stack, "begun"),
            Ok(false) => info!(walk = %Walker::Backfill, stack, "one is under way already"),
            Err(why) => error!(walk = %Walker::Backfill, stack, "not begun; the stack goes on without it: {}", why.text),
        }
    }
    let made = format!("ecr-scan-verifier-backfill-{}", aws.settings.pipeline);
    let physical_id = asked.physical_id.as_deref().unwrap_or(&made);
    let answer = Answer::success(physical_id, &asked.stack_id, &asked.request_id, &asked.logical_id);
    let sent = Run::named("backfill").around("answer CloudFormation", &asked.request_id, aws.answers.put(url.as_secret(), &answer)).await;
    sent.map_err(HandlerError::TryAgain)
}

async fn begin_backfill(aws: &Aws) -> Result<bool, Why> {
    let began = Instant::now();
    loop {
        match walk::begin(Walker::Backfill, aws).await {
            Err(why) if why.denied && began.elapsed() < FRESH_ROLE => sleep(Duration::from_secs(1)).await,
            outcome => return outcome,
        }
    }
}
