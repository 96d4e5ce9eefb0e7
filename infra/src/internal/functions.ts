// The four functions: their size, their log group, their role. What a role may do is in grants.ts.
import { Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { FunctionKey, functionName, logGroupName, roleName } from './names';

interface Shape {
  readonly id: string;
  readonly description: string;
  readonly timeout: Duration;
  readonly memorySize: number;
  readonly own?: Partial<lambda.FunctionOptions>;
}

export const SHAPES: Record<FunctionKey, Shape> = {
  'on-push': {
    id: 'OnPush',
    description: 'An image was pushed: starts its scan where nobody else will',
    timeout: Duration.seconds(60),
    memorySize: 256,
  },
  'on-scan': {
    id: 'OnScan',
    description: 'A scan ended or a finding changed: judges the image, remembers the verdict, answers who waits for it',
    timeout: Duration.seconds(120),
    memorySize: 512,
    // It sends to the queue that it reads from ("look again later"), and Lambda would stop such a chain after about
    // 16 hops. Every chain has an end of its own.
    own: { recursiveLoop: lambda.RecursiveLoop.ALLOW },
  },
  'on-deploy': {
    id: 'OnDeploy',
    description: 'A deployment asks whether its image may pass: answers CloudFormation, or lets it wait',
    timeout: Duration.seconds(60),
    memorySize: 256,
    // CloudFormation waits an hour at most: later answers reach nobody.
    own: { retryAttempts: 2, maxEventAge: Duration.hours(1) },
  },
  'on-sweep': {
    id: 'OnSweep',
    description: 'News can be lost: looks again, and ends every wait whose time is up',
    timeout: Duration.seconds(60),
    memorySize: 256,
    // A tick may come twice or late: it looks at everything anyway. What insists is CloudFormation's request for a backfill,
    // which comes once, and whose stack waits for the answer (ServiceTimeout, in backfill.ts).
    own: { retryAttempts: 2, maxEventAge: Duration.minutes(5) },
  },
};

export interface FunctionProps {
  readonly pipelineName: string;
  readonly architecture: lambda.Architecture;
  readonly binaries: string;
  readonly role: iam.Role;
  /** What is undefined is not set. */
  readonly environment: Record<string, string | undefined>;
  /** Takes the place of a log group of its own. */
  readonly logGroup?: logs.ILogGroup;
  /** Where Lambda puts an event that the function has failed on for good; without it the event is lost. */
  readonly failures?: sqs.IQueue;
  readonly encryptionKey?: kms.IKey;
  readonly removalPolicy: RemovalPolicy;
}

export function createRole(scope: Construct, key: FunctionKey, pipelineName: string): iam.Role {
  return new iam.Role(scope, `${SHAPES[key].id}Role`, {
    roleName: key === 'on-scan' ? roleName(Stack.of(scope), pipelineName) : undefined,
    assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com'),
    description: SHAPES[key].description,
  });
}

export function createFunction(scope: Construct, key: FunctionKey, props: FunctionProps): lambda.Function {
  const shape = SHAPES[key];
  // Made here rather than by the function itself: it gets an end (retention) and the key, and the role need not create groups.
  const logGroup = props.logGroup ?? new logs.LogGroup(scope, `${shape.id}Logs`, {
    logGroupName: logGroupName(props.pipelineName, key),
    retention: logs.RetentionDays.ONE_MONTH,
    encryptionKey: props.encryptionKey,
    removalPolicy: props.removalPolicy,
  });
  props.role.addToPolicy(
    new iam.PolicyStatement({
      sid: 'Log',
      actions: ['logs:CreateLogStream', 'logs:PutLogEvents'],
      resources: [logGroup.logGroupArn],
    }),
  );
  return new lambda.Function(scope, shape.id, {
    functionName: functionName(props.pipelineName, key),
    description: shape.description,
    runtime: lambda.Runtime.PROVIDED_AL2023,
    handler: 'bootstrap',
    code: lambda.Code.fromAsset(props.binaries),
    architecture: props.architecture,
    timeout: shape.timeout,
    memorySize: shape.memorySize,
    role: props.role,
    logGroup,
    environment: Object.fromEntries(Object.entries(props.environment).filter((entry): entry is [string, string] => entry[1] !== undefined)),
    onFailure: props.failures && into(props.failures),
    ...shape.own,
  });
}

// The CDK's own SqsDestination also lets the role look up the queue, and use its key for whatever else the key encrypts.
function into(queue: sqs.IQueue): lambda.IDestination {
  return { bind: () => ({ destination: queue.queueArn }) };
}
