// What was pushed and scanned before there was a pipeline: on-sweep looks for it once, when the pipeline is deployed.
import { CustomResource, Duration, Stack } from 'aws-cdk-lib';
import { Construct } from 'constructs';
import { functionArn } from './names';

/** Nothing waits for it: it asks when all else is there, and goes before all else does. */
export function createBackfill(scope: Construct, pipelineName: string): void {
  const backfill = new CustomResource(scope, 'Backfill', {
    resourceType: 'Custom::EcrScanVerifierBackfill',
    serviceToken: functionArn(Stack.of(scope), pipelineName, 'on-sweep'),
    // on-sweep only begins the walk before it answers. Were it an hour, as usual, a stack would hang that long on a function
    // that cannot start.
    serviceTimeout: Duration.minutes(5),
    properties: { pipeline: pipelineName },
  });
  backfill.node.addDependency(scope);
}
