//! A tick of the clock.
#![forbid(unsafe_code)]

use ecr_scan_verifier::{front_door, handlers::sweep::on_sweep};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = front_door::open();
    let sweep = async |event: LambdaEvent<Value>| on_sweep(&event.payload, &aws, &front_door::here(&event.context, &aws)).await.map_err(Diagnostic::from);
    run(service_fn(sweep)).await
}
