//! A scan ended, or one of our own messages is due. Fed by a queue.
#![forbid(unsafe_code)]

use std::sync::Arc;

use ecr_scan_verifier::front_door;
use ecr_scan_verifier::handlers::{drive::of_scans::of_scans, scan::on_scan};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let aws = Arc::new(front_door::open().with_scans(of_scans).with_outputs().with_signatures());
    // The first event finds its connections open, and knows which scanner is in charge. Start-up is not throttled, and somebody may
    // wait for what comes of the event.
    let _ = tokio::join!(aws.verdicts.open_connection(), aws.ecr.registry(false));
    run(service_fn(async |event: LambdaEvent<_>| Ok::<_, Error>(on_scan(event.payload, &aws, &front_door::here(&event.context, &aws)).await))).await
}
