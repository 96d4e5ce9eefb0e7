//! What every Lambda binary does before its first event: logs, settings, clients. Built once; each event is handed on.

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::aws::{Aws, Settings};
use crate::handlers::deploy::Here;
use crate::handlers::drive::EFFECTS;

/// Starts logging and connects to AWS.
pub fn open() -> Aws {
    start_logging();
    let settings = Settings::read(|name| std::env::var(name).ok()).expect("the construct sets the environment");
    Aws::of_function(settings)
}

/// One JSON object a line, for CloudWatch Logs. `LOG_LEVEL` is for our own lines alone: what an HTTP client writes at a finer
/// level can hold a ResponseURL. With `debug` come the effects; nobody else's debugging is even compiled in (Cargo.toml).
fn start_logging() {
    let ours = std::env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let effects = if ours >= LevelFilter::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("ecr_scan_verifier", ours).with_target(EFFECTS, effects);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

/// Where this function runs.
pub fn here(context: &lambda_runtime::Context, aws: &Aws) -> Here {
    let mut here = Here::of_function(&context.invoked_function_arn).expect("Lambda hands over the function's ARN");
    here.home.is_heard = aws.settings.alerting.topic_arn.is_some();
    here
}
