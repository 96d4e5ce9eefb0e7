// What is allowed, but may not be what somebody meant.
import { Annotations, Token } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { IConstruct } from 'constructs';
import { Severity } from '../severity';
import { leftOut } from './policy';

export function warnOfGaps(scope: IConstruct, severity?: Severity[]): void {
  const passing = leftOut(severity ?? []);
  if (severity && passing.length > 0) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:severityNotUpwardClosed',
      `severity [${severity.join(', ')}] blocks exactly these: a finding of severity ${passing.join(' or ')} does not block. Add what is missing, or use 'severityThreshold', which means at or above.`,
    );
  }
}

export function warnOfMutableTag(scope: IConstruct, repository: ecr.IRepository, imageTag: string): void {
  if (canMove(repository, imageTag)) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:mutableTag',
      `imageTag '${imageTag}' can be moved to another image, and CloudFormation does not ask again while the tag stays the same. Deploy by digest (sha256:...), by a tag that is new for each build, or from a repository with immutable tags.`,
    );
  }
}

function canMove(repository: ecr.IRepository, imageTag: string): boolean {
  const isDigest = imageTag.startsWith('sha256:');
  // CDK's image assets: the tag is a hash of the content (and a prefix, if one was chosen).
  const isContentHash = /(^|[^0-9a-f])[0-9a-f]{64}$/.test(imageTag);
  return !Token.isUnresolved(imageTag) && !isDigest && !isContentHash && !hasImmutableTags(repository);
}

// Known only of a repository that is made in this app; an imported one may be set either way.
function hasImmutableTags(repository: ecr.IRepository): boolean {
  const resource = repository.node.defaultChild;
  return resource instanceof ecr.CfnRepository && resource.imageTagMutability === ecr.TagMutability.IMMUTABLE;
}

export function warnOfArchitectures(scope: IConstruct, asked: lambda.Architecture, given: lambda.Architecture): void {
  if (asked.name !== given.name) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:differentArchitectures',
      `architecture ${asked.name} has no effect: the verifiers of a stack share their functions, and the first one chose ${given.name}. Give all of them the same 'architecture'.`,
    );
  }
}
