// Props that are refused before anything is created: each text names the prop and the way out.
import { Arn, ArnFormat, CfnResource, Duration, Stack, Token } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import { Construct, IConstruct } from 'constructs';
import { IEcrScanPipeline } from '../ecr-scan-pipeline';

/** CloudFormation waits for an answer for 3600 s; the last two minutes belong to the answer itself. */
const LONGEST_WAIT = 3480;

export function checkedTimeout(timeout: Duration): number {
  if (timeout.isUnresolved()) {
    throw new Error(
      'pollingTimeout must be known when the app is synthesized: what CloudFormation waits is computed from it. Use a Duration of a plain number.',
    );
  }
  const seconds = timeout.toSeconds();
  if (seconds < 1 || seconds > LONGEST_WAIT) {
    throw new Error(`pollingTimeout must be between 1 and ${LONGEST_WAIT} seconds, got ${seconds}.`);
  }
  return seconds;
}

export function checkRepository(scope: Construct, repository: ecr.IRepository): void {
  refuseElsewhere(scope, repository.env);
  // A repository imported by its attributes claims the environment of the stack; its ARN knows better.
  const arn = Stack.of(scope).resolve(repository.repositoryArn);
  if (typeof arn === 'string') {
    refuseElsewhere(scope, Arn.split(arn, ArnFormat.SLASH_RESOURCE_NAME));
  }
}

function refuseElsewhere(scope: Construct, home: { account?: string; region?: string }): void {
  const stack = Stack.of(scope);
  for (const what of ['account', 'region'] as const) {
    if (known(home[what]) && known(stack[what]) && home[what] !== stack[what]) {
      throw new Error(
        `repository is in ${what} ${home[what]}, but stack '${stack.stackName}' deploys to ${what} ${stack[what]}. A gate looks only at repositories of its own account and region: scans and their events stay there. Put the verifier into a stack of that ${what}, or replicate the image and name the replica.`,
      );
    }
  }
}

export function checkPipeline(scope: Construct, pipeline: IEcrScanPipeline): void {
  const ours = Stack.of(scope);
  const theirs = Stack.of(pipeline);
  for (const what of ['account', 'region'] as const) {
    if (known(theirs[what]) && known(ours[what]) && theirs[what] !== ours[what]) {
      throw new Error(
        `pipeline '${pipeline.pipelineName}' is in ${what} ${theirs[what]}, but stack '${ours.stackName}' deploys to ${what} ${ours[what]}. A gate asks the pipeline of its own account and region: make one there.`,
      );
    }
  }
}

/** CloudFormation would only say "circular dependency", and name none of these. */
export function checkBlocked(gate: Construct, blocked: IConstruct, needs: Record<string, IConstruct | undefined>): void {
  for (const [what, needed] of Object.entries({ ...needs, gate })) {
    if (needed?.node.scopes.includes(blocked) && (needed === gate || hasResources(needed))) {
      throw new Error(
        `blockConstructs contains '${blocked.node.path}', which contains the ${what} ('${needed.node.path}'): each would wait for the other. List only what runs the image (the service, the function), or move the ${what} out of '${blocked.node.path}'.`,
      );
    }
  }
}

function hasResources(construct: IConstruct): boolean {
  return construct.node.findAll().some((child) => CfnResource.isCfnResource(child));
}

function known(value?: string): value is string {
  return value !== undefined && value !== '' && !Token.isUnresolved(value);
}
