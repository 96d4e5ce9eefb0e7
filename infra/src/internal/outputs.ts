// What the gates of a stack put out, and the role that writes it. The pipeline's own roles cannot be extended from here: they
// may belong to another stack or app, and the grants of many gates would not fit into one role (10,240 characters).
import { Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as sns from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';
import { IEcrScanPipeline } from '../ecr-scan-pipeline';
import { SbomOutput } from '../sbom-output';
import { ScanLogsLayout, ScanLogsOutput } from '../scan-logs-output';
import { Needs } from './destinations';
import { mayUseKey } from './encryption';
import { OUTPUTS_PATH, roleArn } from './names';

export interface Outputs {
  readonly scanLogsOutput?: ScanLogsOutput;
  readonly sbomOutput?: SbomOutput;
  readonly topic?: sns.ITopic;
}

export function needsOf({ scanLogsOutput, sbomOutput, topic }: Outputs): Needs {
  return {
    ...scanLogsOutput?._needs(),
    ...sbomOutput?._needs(),
    vulnsNotificationTopic: topic,
    'key of vulnsNotificationTopic': topic && keyOf(topic),
  };
}

export function hasAny({ scanLogsOutput, sbomOutput, topic }: Outputs): boolean {
  return [scanLogsOutput, sbomOutput, topic].some((output) => output !== undefined);
}

export interface BoundOutputs {
  /** The gate must not ask before it can do what it was granted. */
  readonly role: iam.Role;
  readonly properties: Record<string, unknown>;
}

/** Grants what the outputs take, and says how they travel. */
export function bindOutputs(scope: Construct, pipeline: IEcrScanPipeline, outputs: Outputs): BoundOutputs {
  const { scanLogsOutput, sbomOutput, topic } = outputs;
  const role = outputsRole(scope, pipeline);
  const bound = scanLogsOutput?.bind(role);
  if (topic) {
    mayPublish(role, topic);
  }
  return {
    role,
    properties: {
      output: bound && { ...bound, layout: undefined },
      layout: bound?.layout === ScanLogsLayout.TAG ? undefined : bound?.layout,
      vulnsTopicArn: topic?.topicArn,
      sbom: sbomOutput?.bind(role),
      outputsRoleArn: role.roleArn,
    },
  };
}

/** One a stack and pipeline, made by the first gate that has outputs. */
function outputsRole(scope: Construct, pipeline: IEcrScanPipeline): iam.Role {
  const stack = Stack.of(scope);
  const id = `EcrScanVerifierOutputs-${pipeline.pipelineName}`;
  const existing = stack.node.tryFindChild(id) as iam.Role | undefined;
  return existing ?? new iam.Role(stack, id, {
    path: OUTPUTS_PATH,
    description: `Writes what the gates of this stack put out, in the hands of pipeline '${pipeline.pipelineName}'`,
    // Not that role as the principal: IAM would refuse one that is not there yet, and forget one that is made anew. And only in
    // the name of this stack: a gate of another one could name this role too, and write here what it is asked to.
    assumedBy: new iam.AccountRootPrincipal().withConditions({
      ArnEquals: { 'aws:PrincipalArn': roleArn(stack, pipeline.pipelineName) },
      StringEquals: { 'sts:ExternalId': stack.stackId },
    }),
  });
}

function mayPublish(grantee: iam.IGrantable, topic: sns.ITopic): void {
  iam.Grant.addToPrincipal({ grantee, actions: ['sns:Publish'], resourceArns: [topic.topicArn] });
  mayUseKey(grantee, keyOf(topic), 'sns', ['kms:Decrypt', 'kms:GenerateDataKey']);
}

// The oldest CDK that this works with does not declare it of every topic.
export function keyOf(topic: sns.ITopic): kms.IKey | undefined {
  return (topic as { readonly masterKey?: kms.IKey }).masterKey;
}
