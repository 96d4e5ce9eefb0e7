//! An image arrived, or left. Fed by a queue.
#![forbid(unsafe_code)]

use std::sync::Arc;

use ecr_scan_verifier::{front_door, handlers::push::on_push};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = Arc::new(front_door::open());
    run(service_fn(async |event: LambdaEvent<_>| Ok::<_, Error>(on_push(event.payload, &aws, &front_door::here(&event.context, &aws).home).await))).await
}
