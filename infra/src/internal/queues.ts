// The three queues between the event bus and the functions: EventBridge forgets what a function fails on; a queue does not.
// And the one that keeps what on-deploy could not answer.
import { Duration, RemovalPolicy } from 'aws-cdk-lib';
import * as events from 'aws-cdk-lib/aws-events';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';

export interface Lane {
  readonly queue: sqs.Queue;
  readonly deadLetters: sqs.Queue;
}

export interface Lanes {
  readonly push: Lane;
  readonly scan: Lane;
  readonly findings: Lane;
}

export function createLanes(scope: Construct, encryptionKey?: kms.IKey): Lanes {
  const common = ofEveryQueue(encryptionKey);
  const lane = (id: string, visibility: Duration): Lane => {
    const deadLetters = new sqs.Queue(scope, `${id}DeadLetters`, { ...common, retentionPeriod: Duration.days(14) });
    const queue = new sqs.Queue(scope, `${id}Queue`, {
      ...common,
      visibilityTimeout: visibility, // longer than its function's timeout, or a batch would be handled twice at a time
      deadLetterQueue: { queue: deadLetters, maxReceiveCount: 8 },
    });
    return { queue, deadLetters };
  };

  return {
    push: lane('Push', Duration.seconds(90)),
    scan: lane('Scan', Duration.seconds(150)),
    findings: lane('Findings', Duration.seconds(150)),
  };
}

export interface FailuresProps {
  /** The role of on-scan, which answers it. */
  readonly reader: iam.IRole;
  readonly encryptionKey?: kms.IKey;
}

/** Where Lambda puts a request that on-deploy has failed on for good, so that it is still answered. */
export function createFailures(scope: Construct, props: FailuresProps): sqs.Queue {
  const queue = new sqs.Queue(scope, 'OnDeployFailures', {
    ...ofEveryQueue(props.encryptionKey),
    visibilityTimeout: Duration.seconds(150), // longer than on-scan's timeout, as above
    // The URL for the answer is good for two hours, and CloudFormation waits one at most. No dead letters: they would
    // keep the secret in one place more, for longer than it is of use.
    retentionPeriod: Duration.hours(2),
  });
  // Whoever reads a request can answer it with success. Who may send here is left to the roles alone: nowhere is it said
  // as whom Lambda does, and were a deny here to hit it, requests would be lost without a word.
  onlyFor(queue, 'OnlyOnScanReads', 'sqs:ReceiveMessage', props.reader);
  return queue;
}

function onlyFor(queue: sqs.Queue, sid: string, action: string, role: iam.IRole): void {
  queue.addToResourcePolicy(
    new iam.PolicyStatement({
      sid,
      effect: iam.Effect.DENY,
      principals: [new iam.AnyPrincipal()],
      actions: [action],
      resources: [queue.queueArn],
      conditions: { ArnNotEquals: { 'aws:PrincipalArn': role.roleArn } },
    }),
  );
}

function ofEveryQueue(encryptionKey?: kms.IKey): sqs.QueueProps {
  const encryption = encryptionKey
    ? { encryption: sqs.QueueEncryption.KMS, encryptionMasterKey: encryptionKey, dataKeyReuse: Duration.hours(1) }
    : { encryption: sqs.QueueEncryption.SQS_MANAGED };
  // Nothing in a queue is worth keeping without its pipeline: the next look at the API finds it again.
  return { ...encryption, enforceSSL: true, removalPolicy: RemovalPolicy.DESTROY };
}

/** One rule from the default bus into a lane, and the permission that it needs on both of the lane's queues. */
export function route(scope: Construct, id: string, description: string, pattern: unknown, lane: Lane): events.CfnRule {
  const rule = new events.CfnRule(scope, id, {
    description,
    eventPattern: pattern,
    targets: [
      {
        id: 'Queue',
        arn: lane.queue.queueArn,
        // What cannot be delivered lies beside what could not be handled, in the same form: a redrive brings both back.
        deadLetterConfig: { arn: lane.deadLetters.queueArn },
        retryPolicy: { maximumRetryAttempts: 185, maximumEventAgeInSeconds: 86_400 }, // the most that EventBridge offers
      },
    ],
  });
  for (const queue of [lane.queue, lane.deadLetters]) {
    queue.addToResourcePolicy(
      new iam.PolicyStatement({
        sid: `From${id}`,
        principals: [new iam.ServicePrincipal('events.amazonaws.com')],
        actions: ['sqs:SendMessage'],
        resources: [queue.queueArn],
        conditions: { ArnEquals: { 'aws:SourceArn': rule.attrArn } },
      }),
    );
  }
  return rule;
}
