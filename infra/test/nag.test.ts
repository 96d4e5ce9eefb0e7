// cdk-nag's AwsSolutions rules on every stack. What they object to is either mended or explained here, and an explanation that
// explains nothing any more has to go.
import * as assert from 'node:assert/strict';
import { test } from 'node:test';
import { Aspects } from 'aws-cdk-lib';
import { Annotations, Match } from 'aws-cdk-lib/assertions';
import { AwsSolutionsChecks } from 'cdk-nag';
import { GOLDEN_STACKS } from './golden-stacks';

interface Explained {
  /** Where, and what cdk-nag says there. */
  readonly objection: RegExp;
  readonly because: string;
}

const EXPLAINED: Explained[] = [
  {
    objection: /OnDeployFailures\/Resource AwsSolutions-SQS3:/,
    because: 'It holds requests with the URL that answers them, a secret: dead letters would keep it in one place more, for longer than it is of use.',
  },
  {
    objection: /FindingsBucket\/Resource AwsSolutions-S1:/,
    because: 'It is read and written by two functions only, which log what they do; access logs would need a second bucket. CloudTrail can record its objects.',
  },
  {
    objection: /payments-outputs\/(Sboms|Logs)\/Resource AwsSolutions-S1:/,
    because: 'These stand for buckets of the user.',
  },
  {
    objection: /Requests\/Resource AwsSolutions-DDB3:/,
    because: 'Open requests live for an hour at most and hold a secret: there is nothing to restore, and a backup would keep the secret.',
  },
  {
    objection: /On(Push|Scan|Deploy|Sweep)Role\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::\*\]:/,
    because:
      "ecr:GetRegistryScanningConfiguration belongs to no repository, Inspector's lists and Signer's revocations to no resource: IAM knows these actions only with *.",
  },
  {
    objection: /On(Scan|Deploy)Role\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::arn:[^\]]*:kms:\*:\*:key\/\*\]:/,
    because: 'Only the public half is read, which is public, and only of keys whose own policy allows it. Whom gates will trust is not known here; an implicit pipeline names the keys.',
  },
  {
    objection: /On(Push|Scan|Deploy|Sweep)Role\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::arn:[^\]]*:repository\/\*\]:/,
    because: 'An explicit pipeline is for every repository of its account and region. An implicit one names its repositories.',
  },
  {
    objection: /On(Scan|Deploy)Role\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::<\w+FindingsBucket\w+\.Arn>\/\*\]:/,
    because: 'Objects of one bucket that belongs to the pipeline; their names are hashes.',
  },
  {
    objection: /OnScanRole\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::arn:[^\]]*:role\/ecr-scan-verifier\/\*\]:/,
    because: 'Roles that stacks of gates make under this path, which are not known here. Each says itself which pipeline may take it.',
  },
  {
    objection: /On(Deploy|Sweep)Role\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::arn:[^\]]*:stack\/(<AWS::StackName>\/)?\*\]:/,
    because: "A stack's ARN ends in an id that is only known once it is there; gates of any stack may ask an explicit pipeline.",
  },
  {
    objection: /On(Push|Scan|Deploy|Sweep)Role\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Action::kms:(GenerateDataKey|ReEncrypt)\*\]:/,
    because: 'What DynamoDB and S3 document for a key of the customer, and through these services alone (kms:ViaService).',
  },
  {
    objection: /EcrScanVerifierOutputs-\w+\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::<\w+\.Arn>\/(scans|sboms)\/\*\]:/,
    because: 'Objects below the prefix that was chosen for the output.',
  },
  {
    objection: /EcrScanVerifierOutputs-\w+\/DefaultPolicy\/Resource AwsSolutions-IAM5\[Resource::\*\]:/,
    because: "An SBOM export is no resource: IAM knows Inspector's actions for it only with *.",
  },
];

function objections(): string[] {
  return GOLDEN_STACKS.flatMap((make) => {
    const stack = make();
    Aspects.of(stack).add(new AwsSolutionsChecks());
    const annotations = Annotations.fromStack(stack);
    const ofNag = Match.stringLikeRegexp('AwsSolutions-|CdkNag');
    return [...annotations.findError('*', ofNag), ...annotations.findWarning('*', ofNag)].map(({ id, entry }) => `${id} ${entry.data}`);
  });
}

test('cdk-nag objects to nothing that is not explained, and nothing is explained in vain', () => {
  const said = objections();
  assert.ok(said.length > 0, 'cdk-nag has looked');
  assert.deepEqual(said.filter((one) => !EXPLAINED.some(({ objection }) => objection.test(one))), []);
  assert.deepEqual(EXPLAINED.filter(({ objection }) => !said.some((one) => objection.test(one))), []);
});
