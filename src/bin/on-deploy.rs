//! CloudFormation asks about an image. Invoked asynchronously, by the service token.
#![forbid(unsafe_code)]

use ecr_scan_verifier::{front_door, handlers::deploy::on_deploy};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = front_door::open().with_signatures().with_a_role_that_may_be_fresh();
    // The first request finds its connection open.
    aws.verdicts.open_connection().await;
    run(service_fn(async |event: LambdaEvent<_>| on_deploy(event.payload, &aws, &front_door::here(&event.context, &aws)).await.map_err(Diagnostic::from))).await
}
